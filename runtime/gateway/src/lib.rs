//! The HTTP edge: listeners, limits, protocols, triggers and the admin API.

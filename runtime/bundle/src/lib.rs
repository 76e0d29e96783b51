//! Bundles: pack, read, sign, verify, and the trust policy that makes a bundle loadable.

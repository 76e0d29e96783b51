//! Deployment manifests: TOML to checked types, with every mistake at its line and column.

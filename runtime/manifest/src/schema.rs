//! The keys of a manifest, table by table, each with a value that would be right. `section` finds unknown keys and writes its
//! help texts from it; `docs/manifest.md` describes the same keys to operators, and a test holds the two together.

/// A table that a manifest may have.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Table {
    /// Its header as a help text writes it; empty for the top of the manifest.
    pub(crate) header: &'static str,
    /// Its keys; `None` where the writer chooses them.
    pub(crate) keys: Option<&'static [Key]>,
}

/// A key and an example of its value, in TOML.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Key {
    pub(crate) name: &'static str,
    pub(crate) example: &'static str,
}

const fn key(name: &'static str, example: &'static str) -> Key {
    Key { name, example }
}

pub(crate) static ROOT: Table = Table {
    header: "",
    keys: Some(&[
        key("name", "\"filetype\""),
        key("bundle", "\"../bundles/filetype.torpor\""),
        key("trigger", "{ inference = {} }"),
        key("model", "{ standard = {} }"),
        key("scale", "{ min = 0 }"),
        key("limits", "{ memory = \"64MiB\" }"),
        key("allow", "{ outbound = [\"api.example.com:443\"] }"),
    ]),
};

pub(crate) static TRIGGER: Table =
    Table { header: "[trigger]", keys: Some(&[key("http", "{ path = \"/fn/filetype\" }"), key("inference", "{}")]) };

pub(crate) static TRIGGER_HTTP: Table =
    Table { header: "[trigger.http]", keys: Some(&[key("path", "\"/fn/filetype\""), key("methods", "[\"POST\"]")]) };

pub(crate) static TRIGGER_INFERENCE: Table = Table { header: "[trigger.inference]", keys: Some(&[]) };

pub(crate) static MODELS: Table = Table { header: "[model]", keys: None };

pub(crate) static MODEL: Table = Table {
    header: "[model.NAME]",
    keys: Some(&[
        key("backend", "\"auto\""),
        key("device", "\"cpu\""),
        key("precision", "\"f32\""),
        key("threads", "1"),
        key("parallel", "1"),
    ]),
};

pub(crate) static SCALE: Table = Table {
    header: "[scale]",
    keys: Some(&[key("min", "0"), key("max-concurrency", "16"), key("idle-timeout", "\"30s\""), key("queue", "256")]),
};

pub(crate) static LIMITS: Table = Table {
    header: "[limits]",
    keys: Some(&[key("memory", "\"64MiB\""), key("deadline", "\"2s\""), key("body", "\"1MiB\"")]),
};

pub(crate) static ALLOW: Table = Table {
    header: "[allow]",
    keys: Some(&[
        key("outbound", "[\"api.example.com:443\"]"),
        key("env", "{ LOG = \"info\" }"),
        key("files", "[{ host = \"data/labels\", guest = \"/labels\" }]"),
    ]),
};

pub(crate) static ENV: Table = Table { header: "[allow.env]", keys: None };

pub(crate) static FILES: Table =
    Table { header: "[[allow.files]]", keys: Some(&[key("host", "\"data/labels\""), key("guest", "\"/labels\"")]) };

/// All of them, for finding the table that a misplaced key belongs in.
pub(crate) static TABLES: [&Table; 11] =
    [&ROOT, &TRIGGER, &TRIGGER_HTTP, &TRIGGER_INFERENCE, &MODELS, &MODEL, &SCALE, &LIMITS, &ALLOW, &ENV, &FILES];

impl Table {
    /// Its keys' names, if they are fixed.
    pub(crate) fn names(&self) -> impl Iterator<Item = &'static str> + use<> {
        self.keys.unwrap_or_default().iter().map(|key| key.name)
    }

    /// A right value of `name`, in TOML; that of an environment variable where names are free.
    pub(crate) fn example(&self, name: &str) -> &'static str {
        self.keys.unwrap_or_default().iter().find(|key| key.name == name).map_or("\"info\"", |key| key.example)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_documentation_names_every_key() {
        let page = include_str!("../../../docs/manifest.md");
        for table in TABLES {
            for name in table.names() {
                let header = table.header.trim_matches(['[', ']']);
                let full = if header.is_empty() { name.to_owned() } else { format!("{header}.{name}") };
                assert!(page.contains(&format!("`{full}`")), "docs/manifest.md does not name `{full}`");
            }
        }
    }
}

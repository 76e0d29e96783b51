//! The keys of a manifest, table by table: their names, types, bounds, defaults and meanings stand here and in [`settings`] alone.
//!
//! `section` finds unknown keys by it and takes its help texts from it; the JSON Schema (`json_schema`) and the tables of keys in
//! `docs/manifest.md` (`page`) are made of it. It knows nothing of how a value is read.

use crate::{
    ByteSize, FunctionName, HostPort, Method, ModelName, Priority, RoutePath,
    choice::Choice,
    manifest::{HTTP_CACHE, LIMITS, MODEL, SCALE},
};
use std::{ops::RangeInclusive, time::Duration};

/// A table that a manifest may have.
#[derive(Debug)]
pub(crate) struct Table {
    /// Its header as a help text writes it; empty for the top of the manifest.
    pub(crate) header: &'static str,
    pub(crate) keys: Keys,
}

/// What the keys of a table are.
#[derive(Debug)]
pub(crate) enum Keys {
    /// These, and no others.
    Fixed(&'static [Key]),
    /// Names that the writer chooses, each with a value of this kind.
    Free { names: Text, values: Kind },
}

/// A key with all that there is to say about it.
#[derive(Debug)]
pub(crate) struct Key {
    pub(crate) name: &'static str,
    pub(crate) kind: Kind,
    pub(crate) presence: Presence,
    /// Bounds that the kind does not tell, for readers.
    pub(crate) bounds: &'static str,
    /// A clause without a final period, in Markdown.
    pub(crate) meaning: &'static str,
}

/// What happens when a key is not there.
#[derive(Debug)]
pub(crate) enum Presence {
    /// It is a mistake.
    Required {
        /// A right value, in TOML.
        example: &'static str,
    },
    /// It means something that no single value says.
    Optional {
        /// What it means, in Markdown.
        without: &'static str,
        /// A right value, in TOML.
        example: &'static str,
    },
    /// It means this value, which is written in TOML.
    Default(fn() -> String),
}

/// The type of a value, with its bounds.
#[derive(Debug)]
pub(crate) enum Kind {
    Text(Text),
    /// One of a few words.
    Word(&'static [&'static str]),
    Integer(RangeInclusive<i128>),
    /// A text with a number and a unit of time.
    Duration(RangeInclusive<Duration>),
    /// A text with a number and a unit of bytes.
    Size(RangeInclusive<ByteSize>),
    List {
        items: &'static Kind,
        /// Whether it may be empty.
        empty: bool,
        /// Whether an item may be there twice.
        repeats: bool,
    },
    Table(&'static Table),
}

/// A type of texts.
#[derive(Debug)]
pub(crate) struct Text {
    /// What readers call it.
    pub(crate) noun: &'static str,
    /// A regular expression that every right text matches, and many a wrong one does not.
    pub(crate) pattern: &'static str,
}

/// A path of this host.
const HOST_PATH: Text = Text { noun: "path", pattern: "^[^\\u0000]+$" };

const fn key(name: &'static str, kind: Kind, presence: Presence, bounds: &'static str, meaning: &'static str) -> Key {
    Key { name, kind, presence, bounds, meaning }
}

const fn required(example: &'static str) -> Presence {
    Presence::Required { example }
}

const fn optional(without: &'static str, example: &'static str) -> Presence {
    Presence::Optional { without, example }
}

pub(crate) static ROOT: Table = Table {
    header: "",
    keys: Keys::Fixed(&[
        key(
            "name",
            Kind::Text(FunctionName::TEXT),
            required("\"filetype\""),
            "1 to 63 characters",
            "the function's name, unique on the host",
        ),
        key(
            "bundle",
            Kind::Text(HOST_PATH),
            required("\"../bundles/filetype.torpor\""),
            "not empty",
            "the bundle's file, as `torpor pack` wrote it",
        ),
        key(
            "trigger",
            Kind::Table(&TRIGGER),
            required("{ inference = {} }"),
            "one trigger or both",
            "what calls the function",
        ),
        key("model", Kind::Table(&MODELS), optional("`{}`", "{ standard = {} }"), "", "the models, by name"),
        key("scale", Kind::Table(&SCALE), optional("`{}`", "{ min = 0 }"), "", "how it scales"),
        key(
            "limits",
            Kind::Table(&LIMITS),
            optional("`{}`", "{ memory = \"64MiB\" }"),
            "",
            "what one request may cost",
        ),
        key(
            "command",
            Kind::Table(&COMMAND),
            optional("`{}`", "{ args = [\"--top\", \"5\"] }"),
            "for core modules",
            "how a core module is started",
        ),
        key(
            "allow",
            Kind::Table(&ALLOW),
            optional("`{}`", "{ outbound = [\"api.example.com:443\"] }"),
            "",
            "what the module may reach besides its models",
        ),
    ]),
};

pub(crate) static TRIGGER: Table = Table {
    header: "[trigger]",
    keys: Keys::Fixed(&[
        key(
            "http",
            Kind::Table(&TRIGGER_HTTP),
            optional("absent", "{ path = \"/fn/filetype\" }"),
            "",
            "plain HTTP requests for a path",
        ),
        key(
            "inference",
            Kind::Table(&TRIGGER_INFERENCE),
            optional("absent", "{}"),
            "",
            "the Open Inference Protocol, under `/v2/models/` and the function's name",
        ),
    ]),
};

pub(crate) static TRIGGER_HTTP: Table = Table {
    header: "[trigger.http]",
    keys: Keys::Fixed(&[
        key(
            "path",
            Kind::Text(RoutePath::TEXT),
            required("\"/fn/filetype\""),
            "up to 256 bytes",
            "the requests that it gets",
        ),
        key(
            "methods",
            Kind::List { items: &Kind::Word(Method::WORDS), empty: false, repeats: false },
            optional("any method", "[\"POST\"]"),
            "",
            "the methods that it answers",
        ),
        PRIORITY,
        key(
            "cache",
            Kind::Table(&HTTP_CACHE),
            optional("no answer is kept", "{}"),
            "",
            "answers whose `Cache-Control` allows it are kept, and given again without waking the function",
        ),
    ]),
};

pub(crate) static TRIGGER_INFERENCE: Table = Table { header: "[trigger.inference]", keys: Keys::Fixed(&[PRIORITY]) };

const PRIORITY: Key = key(
    "priority",
    Kind::Word(Priority::WORDS),
    Presence::Default(|| Priority::default().written()),
    "",
    "the share of a model's time that its requests get while others wait for that model too: 4 times as much as `normal`, or a quarter",
);

pub(crate) static MODELS: Table =
    Table { header: "[model]", keys: Keys::Free { names: ModelName::TEXT, values: Kind::Table(&MODEL) } };

pub(crate) static COMMAND: Table = Table {
    header: "[command]",
    keys: Keys::Fixed(&[key(
        "args",
        Kind::List {
            items: &Kind::Text(Text { noun: "string", pattern: "^[^\\u0000]*$" }),
            empty: true,
            repeats: true,
        },
        optional("`[]`", "[\"--top\", \"5\"]"),
        "no NUL",
        "the program's arguments, after its own name",
    )]),
};

pub(crate) static ALLOW: Table = Table {
    header: "[allow]",
    keys: Keys::Fixed(&[
        key(
            "outbound",
            Kind::List { items: &Kind::Text(HostPort::TEXT), empty: true, repeats: false },
            optional("`[]`", "[\"api.example.com:443\"]"),
            "no wildcards",
            "hosts that it may call over HTTP, as `host` or `host:port`",
        ),
        key(
            "env",
            Kind::Table(&ENV),
            optional("`{}`", "{ LOG = \"info\" }"),
            "no NUL; no `=` in names",
            "environment variables; of the host's own it sees what a value here names",
        ),
        key(
            "files",
            Kind::List { items: &Kind::Table(&FILES), empty: true, repeats: true },
            optional("`[]`", "[{ host = \"data/labels\", guest = \"/labels\" }]"),
            "",
            "folders that it may read, never write",
        ),
        key(
            "bundle-files",
            Kind::Text(Text { noun: "path", pattern: "^/" }),
            optional("absent", "\"/\""),
            "absolute",
            "where it may read the files that its bundle brings; without this it sees none of them",
        ),
        key(
            "load",
            Kind::Size(ByteSize::bytes(1)..=ByteSize::gib(1)),
            optional("absent", "\"8MiB\""),
            "",
            "the models that one request's instance may load from bytes of its own, all together; they are parsed outside of the sandbox, so grant it to trusted publishers",
        ),
    ]),
};

pub(crate) static ENV: Table = Table {
    header: "[allow.env]",
    keys: Keys::Free {
        names: Text { noun: "name", pattern: "^[^=\\u0000]+$" },
        values: Kind::Text(Text { noun: "string", pattern: "^[^\\u0000]*$" }),
    },
};

pub(crate) static FILES: Table = Table {
    header: "[[allow.files]]",
    keys: Keys::Fixed(&[
        key("host", Kind::Text(HOST_PATH), required("\"data/labels\""), "not empty", "the folder on the host"),
        key(
            "guest",
            Kind::Text(Text { noun: "path", pattern: "^/" }),
            required("\"/labels\""),
            "absolute, each once",
            "where the module sees it",
        ),
    ]),
};

/// All tables, for finding the one that a misplaced key belongs in.
pub(crate) fn tables() -> Vec<&'static Table> {
    let mut tables = vec![&ROOT];
    let mut looked_at = 0;
    while let Some(table) = tables.get(looked_at) {
        let below: Vec<_> = match &table.keys {
            Keys::Fixed(keys) => keys.iter().filter_map(|key| key.kind.table()).collect(),
            Keys::Free { values, .. } => values.table().into_iter().collect(),
        };
        tables.extend(below);
        looked_at += 1;
    }
    tables
}

impl Table {
    /// Its keys, if they are fixed.
    pub(crate) fn keys(&self) -> &'static [Key] {
        match self.keys {
            Keys::Fixed(keys) => keys,
            Keys::Free { .. } => &[],
        }
    }

    /// Its keys' names, if they are fixed.
    pub(crate) fn names(&self) -> impl Iterator<Item = &'static str> + use<> {
        self.keys().iter().map(|key| key.name)
    }

    /// A right value of `name`, in TOML; that of an environment variable where names are free.
    pub(crate) fn example(&self, name: &str) -> String {
        self.keys().iter().find(|key| key.name == name).map_or_else(|| "\"info\"".to_owned(), Key::example)
    }
}

impl Kind {
    /// The table that it is or has for items.
    fn table(&self) -> Option<&'static Table> {
        match self {
            Kind::Table(table) => Some(table),
            Kind::List { items, .. } => items.table(),
            Kind::Text(_) | Kind::Word(_) | Kind::Integer(_) | Kind::Duration(_) | Kind::Size(_) => None,
        }
    }
}

impl Key {
    /// All bounds, for readers.
    pub(crate) fn shown_bounds(&self) -> String {
        match &self.kind {
            Kind::Word(words) => words.iter().map(|word| format!("`\"{word}\"`")).collect::<Vec<_>>().join(", "),
            Kind::Integer(range) => format!("{} to {}", range.start(), range.end()),
            Kind::Duration(range) => {
                let [least, most] = [range.start(), range.end()].map(|bound| humantime::format_duration(*bound));
                format!("{least} to {most}")
            }
            Kind::Size(range) => format!("{} to {}", range.start(), range.end()),
            Kind::List { empty, repeats, .. } => {
                let told = [(!self.bounds.is_empty(), self.bounds), (!empty, "not empty"), (!repeats, "no repeats")];
                told.into_iter().filter(|(holds, _)| *holds).map(|(_, bound)| bound).collect::<Vec<_>>().join(", ")
            }
            Kind::Text(_) | Kind::Table(_) => self.bounds.to_owned(),
        }
    }

    fn example(&self) -> String {
        match self.presence {
            Presence::Required { example } | Presence::Optional { example, .. } => example.to_owned(),
            Presence::Default(written) => written(),
        }
    }
}

/// Declares a table whose keys all have defaults: the struct that it is read into, its rows of the schema, and how it is read.
/// Each key is one line: its name in the manifest, its field, the field's type and default, the reader of `section` with its
/// bounds, and its meaning.
macro_rules! settings {
    (
        $(#[$doc:meta])*
        pub struct $name:ident, $table:ident = $header:literal {
            $($key:literal $field:ident: $type:ident $(<$inner:ident>)? = $default:expr, $reader:ident($($bounds:tt)*), $meaning:literal;)+
        }
    ) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq)]
        pub struct $name {
            $(#[doc = $meaning] pub $field: $type $(<$inner>)?,)+
        }

        impl Default for $name {
            fn default() -> Self {
                $name { $($field: $default),+ }
            }
        }

        impl $crate::schema::Settings for $name {
            const TABLE: &'static $crate::schema::Table = &$table;

            fn read(report: &mut $crate::section::Report<'_>, table: &$crate::section::Section<'_>) -> Self {
                let default = Self::default();
                $name { $($field: table.$reader(report, $key, $($bounds)*).unwrap_or(default.$field),)+ }
            }
        }

        pub(crate) static $table: $crate::schema::Table = $crate::schema::Table {
            header: $header,
            keys: $crate::schema::Keys::Fixed(&[$($crate::schema::Key {
                name: $key,
                kind: $crate::schema::kind!($type $(<$inner>)?, $reader($($bounds)*)),
                presence: $crate::schema::presence!($name, $field, $reader($($bounds)*)),
                bounds: "",
                meaning: $meaning,
            }),+]),
        };
    };
}
pub(crate) use settings;

/// A table that [`settings`] declared.
pub(crate) trait Settings: Sized + 'static {
    /// Its rows of the schema.
    const TABLE: &'static Table;

    /// What the table says, and defaults for what it does not say or says wrongly.
    fn read(report: &mut crate::section::Report<'_>, table: &crate::section::Section<'_>) -> Self;
}

/// What a key means that is not there: a value, or what the reader says that no value is.
macro_rules! presence {
    ($name:ident, $field:ident, settings($without:literal, $example:literal)) => {
        $crate::schema::Presence::Optional { without: $without, example: $example }
    };
    ($name:ident, $field:ident, number($range:expr, $without:literal, $example:literal)) => {
        $crate::schema::Presence::Optional { without: $without, example: $example }
    };
    ($name:ident, $field:ident, name($without:literal, $example:literal)) => {
        $crate::schema::Presence::Optional { without: $without, example: $example }
    };
    ($name:ident, $field:ident, $reader:ident($($bounds:tt)*)) => {
        $crate::schema::Presence::Default(|| $crate::schema::Written::written(&$name::default().$field))
    };
}
pub(crate) use presence;

/// The kind that a reader of `section` reads.
macro_rules! kind {
    (Option<$type:ty>, settings($($rest:tt)*)) => {
        $crate::schema::Kind::Table(<$type as $crate::schema::Settings>::TABLE)
    };
    (Option<$type:ty>, name($($rest:tt)*)) => {
        $crate::schema::Kind::Text(<$type>::TEXT)
    };
    ($type:ty, number($range:expr, $($rest:tt)*)) => {
        $crate::schema::Kind::Integer($range)
    };
    ($type:ty, word()) => {
        $crate::schema::Kind::Word(<$type as $crate::choice::Choice>::WORDS)
    };
    ($type:ty, integer($range:expr)) => {
        $crate::schema::Kind::Integer($range)
    };
    ($type:ty, duration($range:expr)) => {
        $crate::schema::Kind::Duration($range)
    };
    ($type:ty, size($range:expr)) => {
        $crate::schema::Kind::Size($range)
    };
}
pub(crate) use kind;

/// A value as a manifest has it, in TOML.
pub(crate) trait Written {
    fn written(&self) -> String;
}

impl Written for u32 {
    fn written(&self) -> String {
        self.to_string()
    }
}

impl Written for i64 {
    fn written(&self) -> String {
        self.to_string()
    }
}

impl Written for usize {
    fn written(&self) -> String {
        self.to_string()
    }
}

impl Written for Duration {
    fn written(&self) -> String {
        format!("\"{}\"", humantime::format_duration(*self))
    }
}

impl Written for ByteSize {
    fn written(&self) -> String {
        format!("\"{}\"", self.exact())
    }
}

impl<T: Choice> Written for T {
    fn written(&self) -> String {
        format!("\"{}\"", self.word())
    }
}

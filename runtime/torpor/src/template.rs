//! What `torpor new` writes: the files of a project for each kind of function, from `templates/`. Does no I/O.
//!
//! To add a kind: a variant of [`Kind`] in `cli.rs`, a folder in `templates/`, and a constant here.

use crate::cli::Kind;
use torpor_manifest::FunctionName;

/// What is different from kind to kind.
struct Template {
    /// The files of this kind alone.
    files: &'static [(&'static str, &'static [u8])],
    /// What the stand-in does; one sentence.
    about: &'static str,
    /// What its code is compiled to.
    shape: Shape,
    /// The crates that it needs besides `torpor-guest`, as lines of TOML.
    dependencies: &'static str,
    /// The body of a call.
    sample: &'static str,
}

/// What the compiler makes of a kind's code.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Shape {
    /// A core module that describes its interfaces, of which `torpor pack` makes a component. It depends on `torpor-guest`.
    Component,
    /// A program of WASI preview 1. It needs nothing of ours.
    Program,
}

impl Shape {
    /// The compiler's target.
    fn target(self) -> &'static str {
        match self {
            Shape::Component => "wasm32-unknown-unknown",
            Shape::Program => "wasm32-wasip1",
        }
    }

    /// The file where its code begins.
    fn source(self) -> &'static str {
        match self {
            Shape::Component => "src/lib.rs",
            Shape::Program => "src/main.rs",
        }
    }

    /// The stem of the file that Cargo builds. That of a library has to be an identifier.
    fn stem(self, name: &FunctionName) -> String {
        match self {
            Shape::Component => name.as_str().replace('-', "_"),
            Shape::Program => name.as_str().to_owned(),
        }
    }

    /// What `Cargo.toml` says of it.
    fn crate_type(self) -> &'static str {
        match self {
            Shape::Component => {
                "# A module is a dynamic library to its compiler.\n[lib]\ncrate-type = [\"cdylib\"]\n\n"
            }
            Shape::Program => "",
        }
    }
}

/// A file of a kind's folder.
macro_rules! file {
    ($kind:literal, $name:literal) => {
        ($name, include_bytes!(concat!("../templates/", $kind, "/", $name)) as &[u8])
    };
}

const PREDICT: Template = Template {
    files: &[
        file!("predict", "src/lib.rs"),
        file!("predict", "bundle.toml"),
        file!("predict", "manifest.toml"),
        file!("predict", "model.onnx"),
    ],
    about: "A function of named tensors, which a host serves over its inference protocols. It names the species of irises by \
            their measurements; put your model and your code in the place of that.",
    shape: Shape::Component,
    dependencies: "",
    sample: r#"{"inputs":[{"name":"measurements","datatype":"FP32","shape":[1,4],"data":[5.1,3.5,1.4,0.2]}]}"#,
};

const HTTP: Template = Template {
    files: &[file!("http", "src/lib.rs"), file!("http", "bundle.toml"), file!("http", "manifest.toml")],
    about: "A function of HTTP requests. It counts the words of a text; put your code in the place of that.",
    shape: Shape::Component,
    dependencies: "serde = { version = \"1\", features = [\"derive\"] }\n",
    sample: "to wake at once",
};

const COMMAND: Template = Template {
    files: &[
        file!("command", "src/main.rs"),
        file!("command", "bundle.toml"),
        file!("command", "manifest.toml"),
        file!("predict", "model.onnx"),
    ],
    about: "A program that reads a request's body from standard input and writes the answer to standard output. It names the \
            species of irises by their measurements; put your model and your code in the place of that.",
    shape: Shape::Program,
    dependencies: "wasi-nn = \"0.6\"\n",
    sample: "5.1,3.5,1.4,0.2",
};

/// The files of every kind.
const COMMON: [(&str, &[u8]); 4] = [
    (".gitignore", include_bytes!("../templates/gitignore")),
    ("Cargo.toml", include_bytes!("../templates/Cargo.toml.in")),
    ("README.md", include_bytes!("../templates/README.md.in")),
    ("trust.toml", include_bytes!("../templates/trust.toml")),
];

/// A project that was not written yet.
pub(crate) struct Project {
    /// Paths within its folder, and contents.
    pub(crate) files: Vec<(&'static str, Vec<u8>)>,
    /// What is typed in its folder, from building it to calling it.
    pub(crate) commands: Vec<String>,
}

/// Whether projects of this kind depend on `torpor-guest`.
pub(crate) fn uses_guest(kind: Kind) -> bool {
    template(kind).shape == Shape::Component
}

fn template(kind: Kind) -> &'static Template {
    match kind {
        Kind::Predict => &PREDICT,
        Kind::Http => &HTTP,
        Kind::Command => &COMMAND,
    }
}

/// The project `name`. Its dependency on `torpor-guest`, where [`uses_guest`] says that it has one, is what `guest` says: the
/// right side of a line of TOML.
pub(crate) fn project(kind: Kind, name: &FunctionName, guest: Option<&str>) -> Project {
    let template = template(kind);
    let shape = template.shape;
    let commands = commands(name, shape, template.sample);
    let shown: String = commands.iter().map(|command| format!("$ {command}\n")).collect();
    // Cargo sorts dependencies by name.
    let guest = guest.map(|guest| format!("torpor-guest = {guest}\n")).unwrap_or_default();
    let dependencies = format!("{}{guest}\n", template.dependencies);
    let module = format!("target/{}/release/{}.wasm", shape.target(), shape.stem(name));
    let places = [
        ("{{name}}", name.as_str()),
        ("{{module}}", &module),
        ("{{source}}", shape.source()),
        ("{{crate-type}}", shape.crate_type()),
        ("{{dependencies}}\n", &dependencies),
        ("{{about}}", template.about),
        ("{{commands}}", &shown),
    ];
    let fill = |content: &[u8]| match std::str::from_utf8(content) {
        Ok(text) => places.iter().fold(text.to_owned(), |text, (place, value)| text.replace(place, value)).into_bytes(),
        // A model.
        Err(_) => content.to_vec(),
    };
    let mut files: Vec<_> = COMMON.iter().chain(template.files).map(|(path, content)| (*path, fill(content))).collect();
    files.sort();
    Project { files, commands }
}

fn commands(name: &FunctionName, shape: Shape, sample: &str) -> Vec<String> {
    let target = shape.target();
    vec![
        format!("rustup target add {target}"),
        format!("cargo build --release --target {target}"),
        "torpor pack .".to_owned(),
        "torpor keygen dev".to_owned(),
        format!("torpor sign --key dev.key.pem {name}.torpor"),
        "torpor check manifest.toml".to_owned(),
        format!("torpor verify --trust trust.toml --function {name} {name}.torpor"),
        "torpor serve --manifests manifest.toml --trust trust.toml".to_owned(),
        format!("torpor invoke {name} --data '{sample}'"),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::ValueEnum;

    #[test]
    fn every_place_is_filled() {
        for kind in Kind::value_variants() {
            let name = "two-words".parse().unwrap();
            let shape = template(*kind).shape;
            let project = project(*kind, &name, uses_guest(*kind).then_some("\"0.1\""));
            let text = |path: &str| {
                let (_, content) = project.files.iter().find(|(other, _)| *other == path).expect(path);
                String::from_utf8(content.clone()).expect("it is text")
            };
            for (path, content) in &project.files {
                let content = String::from_utf8_lossy(content);
                assert!(!content.contains("{{") && !content.contains("}}"), "{path}: {content}");
            }
            let (dependency, module) = match shape {
                Shape::Component => ("torpor-guest = \"0.1\"\n\n#", "wasm32-unknown-unknown/release/two_words.wasm\""),
                Shape::Program => ("[dependencies]\nwasi-nn = \"0.6\"\n\n#", "wasm32-wasip1/release/two-words.wasm\""),
            };
            assert!(text("Cargo.toml").contains(&format!("\n{dependency}")), "{}", text("Cargo.toml"));
            assert_eq!(text("Cargo.toml").contains("\n[lib]\n"), shape == Shape::Component);
            assert!(text("bundle.toml").contains(module), "{}", text("bundle.toml"));
            assert!(text("README.md").contains("$ torpor pack .\n"), "{}", text("README.md"));
            for required in [shape.source(), "manifest.toml", "trust.toml", ".gitignore"] {
                assert!(!text(required).is_empty());
            }
        }
    }
}

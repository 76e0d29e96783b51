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
    /// The crates that it needs besides `torpor-guest`, as lines of TOML.
    dependencies: &'static str,
    /// The body of a call.
    sample: &'static str,
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
    dependencies: "",
    sample: r#"{"inputs":[{"name":"measurements","datatype":"FP32","shape":[1,4],"data":[5.1,3.5,1.4,0.2]}]}"#,
};

const HTTP: Template = Template {
    files: &[file!("http", "src/lib.rs"), file!("http", "bundle.toml"), file!("http", "manifest.toml")],
    about: "A function of HTTP requests. It counts the words of a text; put your code in the place of that.",
    dependencies: "serde = { version = \"1\", features = [\"derive\"] }\n",
    sample: "to wake at once",
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

/// The project `name`, whose dependency on `torpor-guest` is what `guest` says: the right side of a line of TOML.
pub(crate) fn project(kind: Kind, name: &FunctionName, guest: &str) -> Project {
    let template = match kind {
        Kind::Predict => &PREDICT,
        Kind::Http => &HTTP,
    };
    let commands = commands(name, template.sample);
    let shown: String = commands.iter().map(|command| format!("$ {command}\n")).collect();
    // Cargo sorts dependencies by name.
    let dependencies = format!("{}torpor-guest = {guest}\n\n", template.dependencies);
    let crate_name = name.as_str().replace('-', "_");
    let places = [
        ("{{name}}", name.as_str()),
        ("{{crate}}", &crate_name),
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

fn commands(name: &FunctionName, sample: &str) -> Vec<String> {
    vec![
        "rustup target add wasm32-unknown-unknown".to_owned(),
        "cargo build --release --target wasm32-unknown-unknown".to_owned(),
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
            let project = project(*kind, &name, "\"0.1\"");
            let text = |path: &str| {
                let (_, content) = project.files.iter().find(|(other, _)| *other == path).expect(path);
                String::from_utf8(content.clone()).expect("it is text")
            };
            for (path, content) in &project.files {
                let content = String::from_utf8_lossy(content);
                assert!(!content.contains("{{") && !content.contains("}}"), "{path}: {content}");
            }
            assert!(text("Cargo.toml").contains("\ntorpor-guest = \"0.1\"\n\n#"), "{}", text("Cargo.toml"));
            assert!(text("bundle.toml").contains("/release/two_words.wasm\""), "{}", text("bundle.toml"));
            assert!(text("README.md").contains("$ torpor pack .\n"), "{}", text("README.md"));
            for required in ["src/lib.rs", "manifest.toml", "trust.toml", ".gitignore"] {
                assert!(!text(required).is_empty());
            }
        }
    }
}

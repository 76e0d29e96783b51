//! `bundle.toml`: what a module's author writes, checked with the place of each mistake. Does no I/O.

use crate::{
    Config, Error, ModelConfig,
    config::{self, MAX_ITEMS, Task},
    part,
    text::Text,
};
use serde::Deserialize;
use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};
use toml::Spanned;
use torpor_manifest::ModelName;
use torpor_tensor::{DType, TensorSpec};

/// A checked `bundle.toml`. The paths are as written, relative to its folder.
#[derive(Debug)]
pub(crate) struct Recipe {
    pub(crate) config: Config,
    pub(crate) module: PathBuf,
    pub(crate) models: BTreeMap<ModelName, Files>,
    /// Files for the module, by the paths under which it sees them.
    pub(crate) files: BTreeMap<String, PathBuf>,
}

/// The files of a model.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Files {
    pub(crate) model: PathBuf,
    /// There where the format has such a file.
    pub(crate) weights: Option<PathBuf>,
    /// The labels of outputs, by the outputs' names.
    pub(crate) labels: BTreeMap<String, PathBuf>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Raw {
    name: Spanned<String>,
    version: Spanned<String>,
    description: Option<Spanned<String>>,
    license: Option<Spanned<String>>,
    task: Option<Spanned<String>>,
    module: Spanned<String>,
    #[serde(default)]
    model: BTreeMap<Spanned<String>, RawModel>,
    #[serde(default)]
    files: BTreeMap<Spanned<String>, Spanned<String>>,
    #[serde(default)]
    input: Vec<Spanned<RawTensor>>,
    #[serde(default)]
    output: Vec<Spanned<RawTensor>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawModel {
    file: Spanned<String>,
    format: Option<Spanned<String>>,
    weights: Option<Spanned<String>>,
    #[serde(default)]
    labels: BTreeMap<Spanned<String>, Spanned<String>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawTensor {
    name: Spanned<String>,
    datatype: Spanned<String>,
    shape: Option<Spanned<Vec<i64>>>,
}

/// Reads the text of a `bundle.toml`; `file` is only its name here.
pub(crate) fn parse(file: &Path, text: &str) -> Result<Recipe, Error> {
    let text = Text { file, text };
    let raw: Raw = text.parse()?;
    let name = at(&text, &raw.name, |name| name.parse().map_err(explained))?;
    at(&text, &raw.version, |version| config::version(version))?;
    let line = |line: Option<Spanned<String>>| -> Result<Option<String>, Error> {
        let Some(line) = line else { return Ok(None) };
        at(&text, &line, |line| config::line(line))?;
        Ok(Some(line.into_inner()))
    };
    let mut configs = BTreeMap::new();
    let mut models = BTreeMap::new();
    for (name, model) in &raw.model {
        let name: ModelName = at(&text, name, |name| name.parse().map_err(explained))?;
        let file = at(&text, &model.file, |file| path(file))?;
        let format = format(&text, model, &file)?;
        let weights = weights(&text, model, &format, &file)?;
        let labels = labels(&text, model)?;
        configs.insert(name.clone(), ModelConfig { format, labels: labels.keys().cloned().collect() });
        models.insert(name, Files { model: file, weights, labels });
    }
    if models.len() > MAX_ITEMS {
        return Err(text.mistake(0..0, format!("a bundle has at most {MAX_ITEMS} models")));
    }
    let files = files(&text, &raw)?;
    // Only the whole is at fault where names repeat or one side is missing, so the first of its tables is pointed at.
    let whole = raw.input.first().or(raw.output.first()).map_or(0..0, Spanned::span);
    let signature = config::signature(tensors(&text, &raw.input)?, tensors(&text, &raw.output)?)
        .map_err(|why| text.mistake(whole, why))?;
    let task = raw.task.as_ref().map(|task| {
        at(&text, task, |name| {
            let task = Task::named(name)?;
            task.fits(signature.as_ref()).map(|()| task)
        })
    });
    Ok(Recipe {
        module: at(&text, &raw.module, |module| path(module))?,
        config: Config {
            name,
            version: raw.version.into_inner(),
            description: line(raw.description)?,
            license: line(raw.license)?,
            signature,
            task: task.transpose()?,
            models: configs,
            files: files.keys().cloned().collect(),
            snapshot_of: None,
        },
        models,
        files,
    })
}

/// Checks a written value, and points at it where it is wrong.
fn at<T, U>(text: &Text<'_>, value: &Spanned<T>, check: impl FnOnce(&T) -> Result<U, String>) -> Result<U, Error> {
    check(value.get_ref()).map_err(|why| text.mistake(value.span(), why))
}

fn explained(error: torpor_manifest::Error) -> String {
    format!("{error}; {}", error.help())
}

fn path(text: &str) -> Result<PathBuf, String> {
    if text.is_empty() || text.contains('\0') {
        return Err("this is no path; write a file's path, relative to this file".to_owned());
    }
    Ok(PathBuf::from(text))
}

fn format(text: &Text<'_>, model: &RawModel, file: &Path) -> Result<String, Error> {
    if let Some(format) = &model.format {
        at(text, format, |format| config::format(format))?;
        return Ok(format.get_ref().clone());
    }
    let extension = file.extension().unwrap_or_default().to_string_lossy().to_ascii_lowercase();
    let format = part::format_of(&extension).to_owned();
    at(text, &model.file, |_| {
        config::format(&format).map_err(|_| "add `format`, since the file's extension is none".to_owned())
    })?;
    Ok(format)
}

/// The file of a model's weights: beside the model and named like it, unless another one is named.
fn weights(text: &Text<'_>, model: &RawModel, format: &str, file: &Path) -> Result<Option<PathBuf>, Error> {
    match &model.weights {
        Some(weights) if !part::has_weights(format) => {
            let why = format!("a model of format `{format}` has its weights in itself; remove this line");
            Err(text.mistake(weights.span(), why))
        }
        Some(weights) => at(text, weights, |weights| path(weights)).map(Some),
        None => Ok(part::has_weights(format).then(|| weights_beside(file))),
    }
}

/// The files for the module, by the paths under which it sees them.
fn files(text: &Text<'_>, raw: &Raw) -> Result<BTreeMap<String, PathBuf>, Error> {
    let mut files = BTreeMap::new();
    for (path_inside, file) in &raw.files {
        at(text, path_inside, |path| config::file(path))?;
        files.insert(path_inside.get_ref().clone(), at(text, file, |file| path(file))?);
        // Each is judged with those before it, so that the one at fault is pointed at. Those in a file come in order.
        at(text, path_inside, |_| config::files(&files.keys().cloned().collect()))?;
    }
    Ok(files)
}

/// The files of labels, by the outputs that they are of.
fn labels(text: &Text<'_>, model: &RawModel) -> Result<BTreeMap<String, PathBuf>, Error> {
    let file = |(output, file): (&Spanned<String>, &Spanned<String>)| {
        at(text, output, |output| config::line(output))?;
        Ok((output.get_ref().clone(), at(text, file, |file| path(file))?))
    };
    if let Some(last) = model.labels.keys().nth(MAX_ITEMS) {
        return Err(text.mistake(last.span(), format!("a model has at most {MAX_ITEMS} outputs with labels")));
    }
    model.labels.iter().map(file).collect()
}

/// Where the weights of the model in `file` are, unless somebody says otherwise.
pub(crate) fn weights_beside(file: &Path) -> PathBuf {
    file.with_extension("bin")
}

fn tensors(text: &Text<'_>, tensors: &[Spanned<RawTensor>]) -> Result<Vec<TensorSpec>, Error> {
    let spec = |tensor: &Spanned<RawTensor>| {
        let RawTensor { name, datatype, shape } = tensor.get_ref();
        at(text, name, |name| config::line(name))?;
        Ok(TensorSpec {
            name: name.get_ref().clone(),
            dtype: at(text, datatype, |datatype| datatype.parse::<DType>().map_err(|error| error.to_string()))?,
            shape: shape.as_ref().map(|shape| at(text, shape, |sizes| config::dims(sizes))).transpose()?,
        })
    };
    tensors.iter().map(spec).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const GOOD: &str = r#"name = "filetype"
version = "1.0.0"
license = "Apache-2.0"
module = "filetype.wasm"

[model.standard]
file = "model.onnx"

[model."v3.3"]
file = "weights"
format = "onnx"

[[input]]
name = "bytes"
datatype = "BYTES"
shape = [-1]

[[output]]
name = "label"
datatype = "BYTES"
"#;

    #[test]
    fn all_that_is_written_is_read() {
        let recipe = parse(Path::new("bundle.toml"), GOOD).unwrap();
        let config = recipe.config;
        assert_eq!((config.name.as_str(), config.version.as_str()), ("filetype", "1.0.0"));
        assert_eq!((config.description, config.license.as_deref()), (None, Some("Apache-2.0")));
        let formats: Vec<_> = config.models.values().map(|model| model.format.as_str()).collect();
        assert_eq!(formats, ["onnx", "onnx"]);
        let files = Files { model: "weights".into(), weights: None, labels: BTreeMap::new() };
        assert_eq!(recipe.models["v3.3"], files);
        assert!(recipe.files.is_empty());
        assert_eq!(recipe.module, PathBuf::from("filetype.wasm"));
        let signature = config.signature.unwrap();
        assert_eq!((signature.inputs[0].name.as_str(), &signature.outputs[0].shape), ("bytes", &None));
    }

    #[test]
    fn a_task_is_kept() {
        let text = "name = \"a\"\nversion = \"1\"\nmodule = \"a.wasm\"\ntask = \"embedding\"\n\
                    [[input]]\nname = \"t\"\ndatatype = \"BYTES\"\nshape = [-1]\n\
                    [[output]]\nname = \"e\"\ndatatype = \"FP32\"\nshape = [-1, 3]\n";
        assert_eq!(parse(Path::new("bundle.toml"), text).unwrap().config.task, Some(Task::Embedding));
        let error =
            parse(Path::new("bundle.toml"), &text.replace("shape = [-1]", "shape = []")).unwrap_err().to_string();
        assert!(error.starts_with("bundle.toml:4:8: the task `embedding` takes one `[[input]]`"), "{error}");
    }

    #[test]
    fn a_function_that_only_answers_http_has_no_signature() {
        let text = "name = \"a\"\nversion = \"1\"\nmodule = \"a.wasm\"\n";
        assert_eq!(parse(Path::new("bundle.toml"), text).unwrap().config.signature, None);
    }

    #[test]
    fn an_openvino_ir_has_weights_beside_it() {
        let text = "name = \"a\"\nversion = \"1\"\nmodule = \"a.wasm\"\n[model.a]\nfile = \"x/a.XML\"\n\
                    [model.b]\nfile = \"b\"\nformat = \"openvino-ir\"\nweights = \"other\"\n";
        let recipe = parse(Path::new("bundle.toml"), text).unwrap();
        assert!(recipe.config.models.values().all(|model| model.format == "openvino-ir"));
        let weights = |model: &str| recipe.models[model].weights.clone();
        assert_eq!((weights("a"), weights("b")), (Some("x/a.bin".into()), Some("other".into())));
    }

    #[test]
    fn labels_are_of_outputs() {
        let text = "name = \"a\"\nversion = \"1\"\nmodule = \"a.wasm\"\n[model.a]\nfile = \"a.onnx\"\n\
                    labels = { scores = \"names.txt\", \"any name\" = \"other.txt\" }\n";
        let recipe = parse(Path::new("bundle.toml"), text).unwrap();
        assert_eq!(recipe.config.models["a"].labels.iter().collect::<Vec<_>>(), ["any name", "scores"]);
        assert_eq!(recipe.models["a"].labels["scores"], PathBuf::from("names.txt"));
    }

    #[track_caller]
    fn mistake(from: &str, to: &str, expected: &str) {
        let text = GOOD.replacen(from, to, 1);
        assert_ne!(text, GOOD);
        let found = parse(Path::new("bundle.toml"), &text).unwrap_err().to_string();
        assert!(found.starts_with(expected), "{found}");
    }

    #[test]
    fn each_mistake_has_its_place() {
        mistake(
            "\"filetype\"",
            "\"File Type\"",
            "bundle.toml:1:8: `File Type` is not a function name: it must begin with",
        );
        mistake("\"1.0.0\"", "\"1 0\"", "bundle.toml:2:11: a version has");
        mistake("license", "licence", "bundle.toml:3:1: unknown field `licence`, expected one of `name`");
        mistake("module =", "task = \"chat\"\nmodule =", "bundle.toml:4:8: a task is `embedding`");
        mistake("\"filetype.wasm\"", "\"\"", "bundle.toml:4:10: this is no path");
        mistake("model.standard", "model.Standard", "bundle.toml:6:8: `Standard` is not a model name");
        mistake("model.onnx", "model", "bundle.toml:7:8: add `format`");
        mistake("format = \"onnx\"", "format = \"O\"", "bundle.toml:11:10: a model format");
        mistake(
            "format = \"onnx\"",
            "format = \"onnx\"\nweights = \"a.bin\"",
            "bundle.toml:12:11: a model of format `onnx` has its weights in itself",
        );
        mistake("format = \"onnx\"", "format = \"onnx\"\nlabels = { x = \"\" }", "bundle.toml:12:16: this is no path");
        mistake(
            "format = \"onnx\"",
            "format = \"onnx\"\nlabels = { \"\" = \"x\" }",
            "bundle.toml:12:12: a text must be one line",
        );
        let files = |files: &str| format!("[files]\n{files}\n[[output]]");
        mistake("[[output]]", &files("\"../a\" = \"x\""), "bundle.toml:19:1: `../a` is no path of a file");
        mistake("[[output]]", &files("a = \"\""), "bundle.toml:19:5: this is no path");
        mistake("[[output]]", &files("a = \"x\"\n\"a/b\" = \"y\""), "bundle.toml:20:1: `a` is a file");
        mistake("\"BYTES\"", "\"STRING\"", "bundle.toml:15:12: there is no datatype `STRING`; expected one of BOOL");
        mistake("[-1]", "[-1, -2]", "bundle.toml:16:9: `-2` is no dimension");
        mistake("[-1]", "[\"n\"]", "bundle.toml:16:10: invalid type");
        mistake(
            "[[output]]\nname = \"label\"\ndatatype = \"BYTES\"\n",
            "",
            "bundle.toml:13:1: there is an `[[input]]` but no",
        );
        mistake("version = \"1.0.0\"\n", "", "bundle.toml:1:1: missing field `version`");
        mistake("\"label\"", "label", "bundle.toml:19:8: ");
    }

    proptest! {
        #[test]
        fn any_text_is_judged(text in any::<String>(), at in 0..GOOD.len(), with in "[\"=\\[\\]{}.a-z0-9\\n-]{0,4}") {
            let _ = parse(Path::new("bundle.toml"), &text);
            let mut changed = GOOD.to_owned();
            changed.replace_range(at..=at, &with);
            let _ = parse(Path::new("bundle.toml"), &changed);
        }
    }
}

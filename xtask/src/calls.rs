//! A sample call of each function in `manifests/`: what is sent, what a right answer is, and the line with which a developer sends
//! the same.

use crate::tree::Tree;
use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use std::{
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
};

/// What a Markdown file looks like to `filetype`; long enough for the model, not for a rule on short files.
const MARKDOWN: &str = "# A title\n\nSome *text* with a [link](https://example.com), and a list:\n\n- one\n- two\n\n\
                        ## Another title\n\n```rust\nfn main() {}\n```\n\nAnd `code` in a line.\n";

/// How many bytes of a file Magika's model sees.
const WINDOW: usize = 2048;

/// A call with a known answer.
pub(crate) struct Call {
    /// The function.
    pub(crate) name: &'static str,
    path: &'static str,
    body: Vec<u8>,
    check: fn(&Value) -> Result<()>,
    typed: Typed,
}

/// What stands for the body in a line for a shell.
enum Typed {
    Words(String),
    /// A file with the body.
    File(PathBuf),
}

/// The calls. Bodies too long to type are written to `folder`, for the lines to name them.
pub(crate) fn all(folder: &Path) -> Result<[Call; 3]> {
    let window = |at: usize| MARKDOWN.as_bytes().get(at).map_or(256, |&byte| i32::from(byte));
    let raw: Vec<i32> = (0..WINDOW).map(window).collect();
    let raw =
        json!({"inputs": [{"name": "bytes", "shape": [1, WINDOW], "datatype": "INT32", "data": raw}]}).to_string();
    let file = folder.join("filetype-raw.json");
    fs::create_dir_all(folder)?;
    fs::write(&file, &raw).with_context(|| format!("`{}` cannot be written", file.display()))?;
    let texts = r#"{"inputs":[{"name":"text","shape":[2],"datatype":"BYTES","data":["a cat","a kitten"]}]}"#;
    Ok([
        Call {
            name: "filetype",
            path: "/fn/filetype",
            body: MARKDOWN.into(),
            check: markdown,
            typed: Typed::Words("--data-binary @README.md".to_owned()),
        },
        Call {
            name: "embed",
            path: "/v2/models/embed/infer",
            body: texts.into(),
            check: embeddings,
            typed: Typed::Words(format!("-d '{texts}'")),
        },
        Call {
            name: "filetype-raw",
            path: "/v2/models/filetype-raw/infer",
            body: raw.into(),
            check: scores,
            typed: Typed::File(file),
        },
    ])
}

impl Call {
    /// The line for a shell in the repository's folder.
    pub(crate) fn line(&self, tree: &Tree, host: SocketAddr) -> String {
        let body = match &self.typed {
            Typed::Words(words) => words.clone(),
            Typed::File(file) => format!("-d @{}", tree.short(file).display()),
        };
        format!("curl {host}{} {body}", self.path)
    }

    /// Sends it, and reads the whole answer.
    pub(crate) fn send(&self, agent: &ureq::Agent, host: SocketAddr) -> Result<Vec<u8>> {
        let url = format!("http://{host}{}", self.path);
        let answer = agent.post(&url).header("content-type", "application/json").send(&self.body[..]);
        let mut answer = answer.with_context(|| format!("`{}` cannot be called at `{url}`", self.name))?;
        let status = answer.status();
        let body = answer.body_mut().read_to_vec().with_context(|| format!("`{}` broke off its answer", self.name))?;
        ensure!(status == 200, "`{}` answered {status}: {}", self.name, String::from_utf8_lossy(&body));
        Ok(body)
    }

    /// Whether an answer is right.
    pub(crate) fn check(&self, answer: &[u8]) -> Result<()> {
        let right = || (self.check)(&serde_json::from_slice(answer)?);
        right().with_context(|| format!("`{}` answered wrongly: {}", self.name, String::from_utf8_lossy(answer)))
    }
}

/// One client, which keeps its connection and leaves the statuses to the caller.
pub(crate) fn agent() -> ureq::Agent {
    let config = ureq::Agent::config_builder().http_status_as_error(false);
    config.timeout_global(Some(std::time::Duration::from_secs(60))).build().into()
}

fn markdown(answer: &Value) -> Result<()> {
    ensure!(answer["label"] == "markdown", "the label is {}", answer["label"]);
    ensure!(answer["mime_type"] == "text/markdown", "the MIME type is {}", answer["mime_type"]);
    let score = answer["score"].as_f64().context("there is no score")?;
    ensure!((0.5..=1.0).contains(&score), "the score is {score}");
    Ok(())
}

fn embeddings(answer: &Value) -> Result<()> {
    let (shape, data) = tensor(answer, "embedding")?;
    ensure!(shape == [2, 384], "the shape is {shape:?}");
    let (cat, kitten) = data.split_at(384);
    let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
    for row in [cat, kitten] {
        let norm = dot(row, row).sqrt();
        ensure!((norm - 1.0).abs() < 1e-3, "a row has the length {norm}");
    }
    let near = dot(cat, kitten);
    ensure!((0.5..0.999).contains(&near), "a cat and a kitten are {near} alike");
    Ok(())
}

fn scores(answer: &Value) -> Result<()> {
    let name = answer["outputs"][0]["name"].as_str().context("there is no output")?;
    let (shape, data) = tensor(answer, name)?;
    ensure!(shape.len() == 2 && shape[0] == 1 && shape[1] > 100, "the shape is {shape:?}");
    let sum: f64 = data.iter().sum();
    ensure!((sum - 1.0).abs() < 1e-3, "the scores add up to {sum}");
    Ok(())
}

/// The shape and the numbers of the output `name`, which have to fit each other.
fn tensor(answer: &Value, name: &str) -> Result<(Vec<u64>, Vec<f64>)> {
    let outputs = answer["outputs"].as_array().context("there are no outputs")?;
    let output = outputs.iter().find(|output| output["name"] == name).context("the output is missing")?;
    ensure!(output["datatype"] == "FP32", "the datatype is {}", output["datatype"]);
    let shape: Option<Vec<u64>> =
        output["shape"].as_array().and_then(|shape| shape.iter().map(Value::as_u64).collect());
    let data: Option<Vec<f64>> = output["data"].as_array().and_then(|data| data.iter().map(Value::as_f64).collect());
    let (shape, data) =
        (shape.context("the shape is no list of sizes")?, data.context("the data is no list of numbers")?);
    ensure!(shape.iter().product::<u64>() == data.len() as u64, "{} numbers for the shape {shape:?}", data.len());
    Ok((shape, data))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn embedding(first: f64, second: f64) -> Value {
        let row = |x: f64| (0..384).map(move |at| if at == 0 { x } else { (1.0 - x * x).sqrt() * f64::from(at == 1) });
        let data: Vec<f64> = row(first).chain(row(second)).collect();
        json!({"outputs": [{"name": "embedding", "shape": [2, 384], "datatype": "FP32", "data": data}]})
    }

    #[test]
    fn right_answers_are_told_from_wrong_ones() {
        assert!(markdown(&json!({"label": "markdown", "mime_type": "text/markdown", "score": 0.9})).is_ok());
        assert!(markdown(&json!({"label": "txt", "mime_type": "text/plain", "score": 0.9})).is_err());
        assert!(embeddings(&embedding(1.0, 0.8)).is_ok());
        assert!(embeddings(&embedding(1.0, 1.0)).is_err(), "two texts with one vector");
        assert!(embeddings(&embedding(0.0, 2.0)).is_err(), "not of length one");
        assert!(embeddings(&json!({"outputs": []})).is_err());
        let raw = |sum: f64| json!({"outputs": [{"name": "x", "shape": [1, 200], "datatype": "FP32", "data": vec![sum / 200.0; 200]}]});
        assert!(scores(&raw(1.0)).is_ok() && scores(&raw(2.0)).is_err());
    }

    #[test]
    fn long_bodies_are_named_by_file() {
        let dir = tempfile::tempdir().unwrap();
        let calls = all(dir.path()).unwrap();
        let line = calls[2].line(&Tree::find().unwrap(), SocketAddr::from(([127, 0, 0, 1], 8080)));
        let file = dir.path().join("filetype-raw.json");
        assert_eq!(line, format!("curl 127.0.0.1:8080/v2/models/filetype-raw/infer -d @{}", file.display()));
        assert_eq!(fs::read(file).unwrap(), calls[2].body);
    }
}

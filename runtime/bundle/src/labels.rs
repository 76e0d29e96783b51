//! Labels: what the numbers along the last dimension of a model's output stand for, one line each. They are a layer of the bundle,
//! so they are signed with the model. Pure, but for reading a blob.

use crate::{Blob, Config, Error, archive::MAX_DOCUMENT, config, error::io_at};
use std::{fs::File, io::Read};
use torpor_tensor::Dim;

/// The most labels of one output.
const MAX_LABELS: usize = 100_000;

/// The labels in a blob of the store.
///
/// # Errors
/// [`Error::Io`] when it cannot be read, and [`Error::Blob`] when it is not what was verified.
pub fn read_labels(blob: &Blob) -> Result<Vec<String>, Error> {
    let content = bounded(File::open(&blob.path)).map_err(io_at("read", &blob.path))?;
    parse(&content).map_err(|why| Error::Blob { digest: blob.digest, why })
}

/// The content of a file of labels, or more of it than one may have.
pub(crate) fn bounded(file: std::io::Result<File>) -> std::io::Result<Vec<u8>> {
    let mut content = Vec::new();
    file?.take(MAX_DOCUMENT + 1).read_to_end(&mut content)?;
    Ok(content)
}

/// The labels in a text.
pub(crate) fn parse(content: &[u8]) -> Result<Vec<String>, String> {
    if content.len() as u64 > MAX_DOCUMENT {
        return Err(format!("they are longer than {MAX_DOCUMENT} bytes"));
    }
    let text = std::str::from_utf8(content).map_err(|_| "they are no text in UTF-8".to_owned())?;
    let lines = text.strip_suffix('\n').unwrap_or(text).split('\n');
    let lines: Vec<_> = lines.take(MAX_LABELS + 1).map(|line| line.strip_suffix('\r').unwrap_or(line)).collect();
    if lines.len() > MAX_LABELS {
        return Err(format!("there are more than {MAX_LABELS}"));
    }
    let label = |(index, label): (usize, &str)| {
        config::line(label).map_err(|why| format!("line {}: {why}", index + 1))?;
        Ok(label.to_owned())
    };
    lines.into_iter().enumerate().map(label).collect()
}

/// Checks that so many labels fit the function's own output of that name, if it has one: then the model's is passed on.
pub(crate) fn fit(config: &Config, output: &str, count: usize) -> Result<(), String> {
    let outputs = config.signature.iter().flat_map(|signature| &signature.outputs);
    let shape = outputs.filter(|spec| spec.name == output).find_map(|spec| spec.shape.as_deref());
    match shape.map(<[Dim]>::last) {
        Some(Some(Dim::Fixed(size))) if *size != count as u64 => {
            Err(format!("there are {count}, and the last dimension of the output `{output}` has {size}"))
        }
        Some(None) => Err(format!("the output `{output}` has no dimension to be labelled")),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[track_caller]
    fn check(content: &[u8], expected: Result<&[&str], &str>) {
        match (parse(content), expected) {
            (Ok(labels), Ok(expected)) => assert_eq!(labels, expected),
            (Err(why), Err(expected)) => assert!(why.contains(expected), "{why}"),
            (found, _) => panic!("{found:?}"),
        }
    }

    #[test]
    fn each_line_is_a_label() {
        check(b"setosa\nversicolor\nvirginica\n", Ok(&["setosa", "versicolor", "virginica"]));
        check(b"a b\r\n\xe6\xbc\xa2", Ok(&["a b", "\u{6f22}"]));
        check(b"crane\ncrane", Ok(&["crane", "crane"]));
    }

    #[test]
    fn what_would_shift_labels_or_steer_a_terminal_is_refused() {
        check(b"a\n\nb\n", Err("line 2: a text must be one line"));
        check(b"", Err("line 1"));
        check(b"a\n\x1b[2J", Err("line 2"));
        check("\u{feff}a".as_bytes(), Err("line 1"));
        check(b"\xff", Err("no text in UTF-8"));
        check("x\n".repeat(MAX_LABELS + 1).as_bytes(), Err("more than 100000"));
        check(&[b'x'; 1 + (1 << 20)], Err("longer than 1048576 bytes"));
        assert_eq!(parse("x\n".repeat(MAX_LABELS).as_bytes()).map(|labels| labels.len()), Ok(MAX_LABELS));
    }

    proptest! {
        #[test]
        fn any_bytes_are_judged(content in prop::collection::vec(any::<u8>(), 0..200)) {
            if let Ok(labels) = parse(&content) {
                let again = labels.join("\n");
                prop_assert_eq!(parse(again.as_bytes()), Ok(labels));
            }
        }
    }
}

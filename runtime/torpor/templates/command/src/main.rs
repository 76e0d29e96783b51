//! Names the species of irises by their measurements: a stand-in for what your program does. It reads the body of a request
//! from standard input, and writes the answer to standard output, behind a head with its type.

use std::io::{self, Read, Write};
use wasi_nn::{ExecutionTarget, GraphBuilder, GraphEncoding, TensorType};

/// The model's classes, in the order of its scores.
const SPECIES: [&str; 3] = ["setosa", "versicolor", "virginica"];
/// Lengths of one flower.
const LENGTHS: usize = 4;
const EXPECTED: &str = "expected four lengths in centimetres, above zero, with commas between";

/// What goes wrong here is the host's or the model's fault: its text goes to the host's log, and the caller gets a bare 500.
fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut body = Vec::new();
    io::stdin().read_to_end(&mut body)?;
    let answer = match flowers(&body) {
        Ok(lengths) => {
            let scores = classify(&lengths)?;
            format!("Content-Type: text/csv\n\n{}", lines(&scores))
        }
        Err(why) => format!("Status: 400\nContent-Type: text/plain\n\n{why}\n"),
    };
    io::stdout().write_all(answer.as_bytes())?;
    Ok(())
}

/// The lengths of all flowers of a text, one flower a line.
fn flowers(body: &[u8]) -> Result<Vec<f32>, String> {
    let text = std::str::from_utf8(body).map_err(|_| "expected a text in UTF-8")?;
    let mut all = Vec::new();
    for (line, number) in text.lines().zip(1..) {
        let lengths: Option<Vec<f32>> = line.split(',').map(length).collect();
        match lengths {
            Some(lengths) if lengths.len() == LENGTHS => all.extend(lengths),
            _ => return Err(format!("line {number}: {EXPECTED}")),
        }
    }
    if all.is_empty() {
        return Err("expected a line for each flower, and there is none".to_owned());
    }
    Ok(all)
}

/// A length, which is a number above zero.
fn length(word: &str) -> Option<f32> {
    let length: f32 = word.trim().parse().ok()?;
    (length.is_finite() && length > 0.0).then_some(length)
}

/// The model's scores: one for each species, flower after flower.
fn classify(lengths: &[f32]) -> Result<Vec<f32>, wasi_nn::Error> {
    // `model` is the name in `[model.model]`. The host knows its encoding, and the manifest where it runs.
    let model =
        GraphBuilder::new(GraphEncoding::Onnx, ExecutionTarget::AUTO).build_from_cache("model")?;
    let mut context = model.init_execution_context()?;
    let flowers = lengths.len() / LENGTHS;
    // Inputs and outputs have no names here: they count in the order of the model's file.
    context.set_input(0, TensorType::F32, &[flowers, LENGTHS], lengths)?;
    context.compute()?;
    let mut scores = vec![0_f32; flowers * SPECIES.len()];
    context.get_output(0, &mut scores)?;
    Ok(scores)
}

/// The likeliest species of each flower, with its score, one flower a line.
fn lines(scores: &[f32]) -> String {
    let best = scores.chunks_exact(SPECIES.len()).filter_map(|scores| {
        let rows = SPECIES.iter().zip(scores);
        let (species, score) = rows.max_by(|(_, one), (_, other)| one.total_cmp(other))?;
        Some(format!("{species},{score}\n"))
    });
    best.collect()
}

// What needs no host is tested natively, by `cargo test`.
#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flower_is_a_line_of_four_lengths() {
        assert_eq!(
            flowers(b"5.1,3.5,1.4,0.2\n6, 3, 5, 2\n"),
            Ok(vec![5.1, 3.5, 1.4, 0.2, 6.0, 3.0, 5.0, 2.0])
        );
        for body in [
            "",
            "5.1,3.5,1.4",
            "5.1,3.5,1.4,-1",
            "5.1,3.5,1.4,NaN",
            "5.1,long,3.5,1.4,0.2",
        ] {
            assert!(flowers(body.as_bytes()).is_err(), "{body}");
        }
    }

    #[test]
    fn the_highest_score_names_the_species() {
        assert_eq!(lines(&[0.1, 0.7, 0.2]), "versicolor,0.7\n");
    }
}

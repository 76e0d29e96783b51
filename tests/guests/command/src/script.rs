//! A script of raw calls, one a line, whose results are the answer, one a line.
//!
//! ```text
//! text @0 model            puts text at a place of a space of its own
//! words @16 1 @32 $        puts 32-bit numbers there
//! floats @32 1 2.5         puts 32-bit floating-point numbers there
//! model @64                puts the model there that follows after a line `--` in hexadecimal digits
//! file @64 name            puts the content of a file of the first granted folder there
//! set_input 0 0 @16        calls the function with these arguments, and says what number it answers
//! until 20000 load_by_name @0 5 @8     calls it until it does not answer 0, at most so often; says the number
//! word @8                  says the number that is there
//! read @32 2               says the floating-point numbers there
//! ```
//!
//! `@N` is the address of the Nth byte of the space, and `$` is that of the end of the memory.

use crate::{
    host::{address_mut, nn},
    program,
};
use std::fmt::Write;

/// Bytes of the space.
const SPACE: usize = 256 * 1024;

pub(crate) fn run(text: &str) -> String {
    let (text, model) = text.split_once("\n--\n").unwrap_or((text, ""));
    let mut space = vec![0_u8; SPACE];
    let mut answer = String::new();
    for line in text.lines() {
        let words: Vec<&str> = line.split_whitespace().collect();
        if let Some(said) = step(&mut space, &words, model) {
            // Writing to a string cannot fail.
            let _ = writeln!(answer, "{said}");
        }
    }
    answer
}

fn step(space: &mut [u8], words: &[&str], model: &str) -> Option<String> {
    let base = address_mut(space);
    let numbers: Vec<u32> = words.iter().skip(1).map(|word| number(base, word)).collect();
    let offset = |index: usize| numbers.get(index).map_or(0, |at| at.wrapping_sub(base) as usize);
    match *words.first()? {
        "text" => put(space, offset(0), words.get(2).unwrap_or(&"").as_bytes()),
        "words" => {
            put(space, offset(0), &numbers[1..].iter().flat_map(|number| number.to_le_bytes()).collect::<Vec<_>>())
        }
        "floats" => {
            let floats = words[2..].iter().map(|word| word.parse::<f32>().unwrap_or(f32::NAN));
            put(space, offset(0), &floats.flat_map(f32::to_le_bytes).collect::<Vec<_>>());
        }
        "file" => match program::file(words.get(2).unwrap_or(&"")) {
            Ok(content) => put(space, offset(0), &content),
            Err(errno) => return Some(format!("errno {errno}")),
        },
        "model" => put(space, offset(0), &unhex(model)),
        "word" => return Some(u32::from_le_bytes(*space[offset(0)..].first_chunk()?).to_string()),
        "read" => {
            let floats = space[offset(0)..].chunks_exact(4).take(*numbers.get(1)? as usize);
            let floats = floats.filter_map(|chunk| Some(f32::from_le_bytes(*chunk.first_chunk()?).to_string()));
            return Some(floats.collect::<Vec<_>>().join(" "));
        }
        "until" => {
            let most = words.get(1)?.parse::<u32>().ok()?;
            let mut answers = (0..most).map(|_| call(words[2], &numbers[2..]));
            return Some(answers.find(|&errno| errno != 0).unwrap_or(0).to_string());
        }
        name => return Some(call(name, &numbers).to_string()),
    }
    None
}

fn number(base: u32, word: &str) -> u32 {
    match word.strip_prefix('@') {
        Some(offset) => base + offset.parse::<u32>().unwrap_or(0),
        None if word == "$" => (core::arch::wasm32::memory_size(0) * 65536) as u32,
        None => word.parse().unwrap_or(0),
    }
}

fn put(space: &mut [u8], at: usize, bytes: &[u8]) {
    space[at..at + bytes.len()].copy_from_slice(bytes);
}

fn unhex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> = text.chars().filter_map(|digit| Some(digit.to_digit(16)? as u8)).collect();
    digits.chunks_exact(2).map(|pair| (pair[0] << 4) | pair[1]).collect()
}

fn call(name: &str, arguments: &[u32]) -> u32 {
    // What is left out is 0.
    let at = |index: usize| arguments.get(index).copied().unwrap_or(0);
    match name {
        "load" => nn::load(at(0), at(1), at(2), at(3), at(4)),
        "load_by_name" => nn::load_by_name(at(0), at(1), at(2)),
        "load_by_name_with_config" => nn::load_by_name_with_config(at(0), at(1), at(2), at(3), at(4)),
        "init_execution_context" => nn::init_execution_context(at(0), at(1)),
        "set_input" => nn::set_input(at(0), at(1), at(2)),
        "compute" => nn::compute(at(0)),
        "get_output" => nn::get_output(at(0), at(1), at(2), at(3), at(4)),
        "compute_single" => nn::compute_single(at(0)),
        "get_output_single" => nn::get_output_single(at(0), at(1), at(2), at(3), at(4)),
        "fini_single" => nn::fini_single(at(0)),
        "unload" => nn::unload(at(0)),
        "finalize_execution_context" => nn::finalize_execution_context(at(0)),
        other => panic!("there is no call `{other}`"),
    }
}

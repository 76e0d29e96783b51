//! The program: what it does for each word.

use crate::{
    host::{self, read, texts, write},
    script,
};
use std::sync::atomic::{AtomicU32, Ordering};

const STDOUT: u32 = 1;
const STDERR: u32 = 2;
/// The first folder that the host grants.
const FOLDER: u32 = 3;

// How files are opened, and what for.
const CREATE: u32 = 1;
const FD_READ: u64 = 1 << 1;
const FD_WRITE: u64 = 1 << 6;
/// How often the initializer ran, in this instance and in the one whose memory it began with.
static INITIALIZED: AtomicU32 = AtomicU32::new(0);

/// What `torpor pack` runs.
// SAFETY: no other crate here exports this name.
#[unsafe(export_name = "wizer-initialize")]
pub(crate) extern "C" fn initialize() {
    INITIALIZED.fetch_add(1, Ordering::Relaxed);
}

/// The entry point of a program.
// SAFETY: no other crate here exports this name.
#[unsafe(no_mangle)]
pub(crate) extern "C" fn _start() {
    let input = read(0);
    let end = input.iter().position(|&byte| byte == b'\n').unwrap_or(input.len());
    let line = String::from_utf8_lossy(&input[..end]).into_owned();
    let rest = input.get(end + 1..).unwrap_or_default();
    let (word, argument) = line.split_once(' ').unwrap_or((&line, ""));
    match word {
        "echo" => say(rest),
        "initialized" => say(INITIALIZED.fetch_add(1, Ordering::Relaxed).to_string()),
        "args" => {
            say(texts(|count, size| host::args_sizes_get(count, size), |at, to| host::args_get(at, to)).join("\n"))
        }
        "env" => {
            say(texts(|count, size| host::environ_sizes_get(count, size), |at, to| host::environ_get(at, to))
                .join("\n"));
        }
        "file" => say(file(argument).unwrap_or_else(errno)),
        "write" => say(open(argument, CREATE, FD_WRITE).map_or_else(errno, |_| b"it can be written".to_vec())),
        "exit" => {
            say("this is never an answer");
            host::proc_exit(argument.parse().unwrap_or(1));
        }
        "complain" => drop(write(STDERR, argument.as_bytes())),
        "trap" => panic!("asked to trap"),
        "spin" => loop {
            std::hint::spin_loop();
        },
        "flood" => {
            let chunk = [b'x'; 4096];
            // It takes no notice of what the host says to that, as a careless program would.
            for _ in 0..argument.parse().unwrap_or(0) {
                write(STDOUT, &chunk);
            }
        }
        "script" => say(script::run(&String::from_utf8_lossy(rest))),
        other => say(format!("Status: 404\n\nthe program has no `{other}`\n")),
    }
}

fn say(answer: impl AsRef<[u8]>) {
    write(STDOUT, answer.as_ref());
}

/// What a file of the first granted folder holds, or the number of the error.
pub(crate) fn file(name: &str) -> Result<Vec<u8>, u32> {
    let fd = open(name, 0, FD_READ)?;
    let mut content = Vec::new();
    host::read_to(fd, &mut content)?;
    Ok(content)
}

fn open(name: &str, how: u32, rights: u64) -> Result<u32, u32> {
    let mut fd = 0_u32;
    let out = host::address_mut(&mut fd);
    match host::path_open(FOLDER, 1, host::address(name), name.len() as u32, how, rights, 0, 0, out) {
        0 => Ok(fd),
        errno => Err(errno),
    }
}

fn errno(errno: u32) -> Vec<u8> {
    format!("errno {errno}").into_bytes()
}

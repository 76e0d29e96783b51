//! Takes the place of the C library's `clock_gettime` in a process that is started with it in `LD_PRELOAD`, and adds to the time on
//! the wall the seconds that stand in a file, which a test changes as it likes. The monotonic clock stays as it is, as it does where
//! an operator, or NTP, sets the other one.
//!
//! Linux only, as is the variable. Waits of the kernel's own are not changed; the standard library makes none by this clock.
#![allow(unsafe_code, reason = "it stands in for a function of C, and calls the system in its place")]
#![expect(clippy::disallowed_methods, reason = "whoever starts the process says by its environment where the file is")]

use std::{env, fs::File, os::unix::fs::FileExt, sync::OnceLock};

/// Names the file: eight bytes, the seconds as an `i64` in the machine's own order.
pub const VARIABLE: &str = "TEST_CLOCK";

/// # Safety
/// As the C library's own: `time` is where a `timespec` may be written.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn clock_gettime(clock: libc::clockid_t, time: *mut libc::timespec) -> libc::c_int {
    // SAFETY: these are the arguments of that system call, and the caller vouches for the pointer.
    let result = unsafe { libc::syscall(libc::SYS_clock_gettime, clock, time) };
    if result != 0 {
        return -1;
    }
    if clock == libc::CLOCK_REALTIME {
        // SAFETY: the system has just written there, and nobody else knows of it yet.
        let time = unsafe { &mut *time };
        time.tv_sec = time.tv_sec.saturating_add(offset());
    }
    0
}

/// What the file says now; nothing where there is none.
fn offset() -> i64 {
    static OFFSET: OnceLock<Option<File>> = OnceLock::new();
    let file = OFFSET.get_or_init(|| File::open(env::var_os(VARIABLE)?).ok());
    let mut seconds = [0; 8];
    // One read of eight bytes sees them as one write left them.
    match file.as_ref().map(|file| file.read_exact_at(&mut seconds, 0)) {
        Some(Ok(())) => i64::from_ne_bytes(seconds),
        _ => 0,
    }
}

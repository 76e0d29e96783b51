//! What this process takes from the operating system, and giving it back.
#![allow(unsafe_code, reason = "one call of the C library, which has no safe wrapper")]

/// Resident memory of this process in bytes; `None` where the system does not tell.
pub(crate) fn resident() -> Option<u64> {
    let statm = std::fs::read_to_string("/proc/self/statm").ok()?;
    let pages: u64 = statm.split(' ').nth(1)?.parse().ok()?;
    Some(pages * 4096)
}

/// Returns free memory of the C allocator to the operating system. A session that was dropped has freed its memory, but the
/// allocator keeps it: without this a function at zero would still cost what it cost awake. Takes milliseconds; not for an
/// async thread.
pub(crate) fn give_back() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    // SAFETY: `malloc_trim` may be called at any time from any thread; 0 asks it to keep no slack.
    unsafe {
        libc::malloc_trim(0);
    }
}

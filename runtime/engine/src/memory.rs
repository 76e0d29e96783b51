//! What this process takes from the operating system, and giving it back.
#![allow(unsafe_code, reason = "two calls of the C library, which have no safe wrapper")]

/// Memory of this process that no file backs, in bytes; `None` where the system does not tell. What is mapped from files, such as
/// code, the system can take back and read again.
pub(crate) fn anonymous() -> Option<u64> {
    anonymous_of("self")
}

/// The same of any process, by its number.
pub(crate) fn anonymous_of(process: &str) -> Option<u64> {
    let statm = std::fs::read_to_string(format!("/proc/{process}/statm")).ok()?;
    let mut pages = statm.split(' ').skip(1).map(str::parse::<u64>);
    let (resident, shared) = (pages.next()?.ok()?, pages.next()?.ok()?);
    Some(resident.saturating_sub(shared) * 4096)
}

/// By how much [`anonymous`] has grown since it was `before`.
pub(crate) fn grown(before: Option<u64>) -> Option<u64> {
    Some(anonymous()?.saturating_sub(before?))
}

/// What glibc keeps at the end of a heap unless told otherwise.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
const TRIM_THRESHOLD: libc::c_int = 128 * 1024;

/// Keeps the C allocator from learning to hold on to memory. Call it once, before models are opened.
///
/// By default glibc raises its thresholds with each large block that is freed. From then on it keeps up to 64 MiB at the end of
/// every heap but the first, which `malloc_trim` does not reach. Setting one threshold makes all of them stay.
pub(crate) fn keep_little() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    // SAFETY: `mallopt` may be called at any time; it only sets a parameter of the allocator.
    unsafe {
        libc::mallopt(libc::M_TRIM_THRESHOLD, TRIM_THRESHOLD);
    }
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

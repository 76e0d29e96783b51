//! What the library does besides inference unless it is told not to.

/// The variable by which the library is told.
const VARIABLE: &str = "ORT_DISABLE_TELEMETRY";

/// Keeps the library from giving this machine an identifier, and from collecting events in a database to be sent to its makers. It
/// does so as soon as it is loaded; what its interface offers against that comes too late. Call it first of all: where other
/// threads run already, nothing is changed, and false is returned.
#[expect(clippy::disallowed_methods, reason = "it is the library's own variable")]
pub fn forbid_telemetry() -> bool {
    if std::env::var_os(VARIABLE).is_some() {
        return true;
    }
    let alone = std::fs::read_dir("/proc/self/task").is_ok_and(|threads| threads.count() == 1);
    if alone {
        // SAFETY: no other thread exists that could read the environment meanwhile.
        unsafe { std::env::set_var(VARIABLE, "1") };
    }
    alone
}

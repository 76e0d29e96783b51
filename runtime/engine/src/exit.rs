//! Ending the process while native code may still run.
#![allow(unsafe_code, reason = "one call of the C library, which has no safe wrapper")]

use std::io::{self, Write};

/// Ends the process at once, without what libraries have registered to be done at its end. A thread that still opens or runs a
/// model cannot be waited for, and would crash when its library takes itself apart meanwhile.
pub fn exit(code: u8) -> ! {
    // Nobody could be told that this fails.
    let _ = io::stdout().flush();
    // SAFETY: `_exit` may be called at any time, and does not return.
    unsafe { libc::_exit(i32::from(code)) }
}

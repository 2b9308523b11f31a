//! Entry of `queue`, `qsh` and `queue-sh`.
//!
//! The C library calls `main` here directly, without Rust's runtime in between: that would set `SIGPIPE` to be
//! ignored before anybody could see how it was inherited (the remote command has to inherit the same), and it
//! costs some of the few hundred microseconds that a launch takes.
#![no_main]

use std::ffi::{CStr, OsStr, c_char, c_int};
use std::os::unix::ffi::OsStrExt as _;

/// Called by the C library's start-up code.
// SAFETY: the symbol is what that code expects, with its usual arguments; nothing else here has this name.
#[unsafe(no_mangle)]
extern "C" fn main(argc: c_int, argv: *const *const c_char) -> c_int {
    let args: Vec<_> = (0..argc as usize)
        .map(|i| {
            // SAFETY: the start-up code gives `argc` pointers to strings that live as long as the process.
            let arg = unsafe { CStr::from_ptr(*argv.add(i)) };
            OsStr::from_bytes(arg.to_bytes()).to_owned()
        })
        .collect();
    // A panic was reported by its hook; it must not unwind into C.
    std::panic::catch_unwind(|| queue_front::main(&args)).map_or(125, c_int::from)
}

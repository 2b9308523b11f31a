//! What the fuzz targets do with bytes. A target passes if it does not panic, and what was understood means the
//! same when it is written and read again.
//!
//! Also compiled into a test (`tests/corpus`), which plays the corpus, and damaged copies of it, on every toolchain.

pub mod journal;
pub mod messages;
pub mod screen;
pub mod session;
pub mod text;
pub mod trust;
pub mod x11;

/// One target.
pub type Target = fn(&[u8]);

/// All targets; each has a folder in `corpus` and a file in `fuzz_targets`.
pub const TARGETS: &[(&str, Target)] = &[
    ("cert", trust::cert),
    ("class", text::class),
    ("config", text::config),
    ("expr", text::expr),
    ("forward", session::forward),
    ("frame", messages::frame),
    ("gossip", messages::gossip),
    ("jobfile", text::jobfile),
    ("journal", journal::journal),
    ("launch", messages::launch),
    ("monitor", trust::monitor),
    ("preamble", messages::preamble),
    ("screen", screen::screen),
    ("size", text::size),
    ("stream", session::stream),
    ("submit", messages::submit),
    ("ticket", trust::ticket),
    ("token", text::token),
    ("warrant", trust::warrant),
    ("x11", x11::x11),
];

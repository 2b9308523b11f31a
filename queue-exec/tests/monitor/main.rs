//! The real monitor, in directories of its own, with a session process that does as it is told (this very
//! program under another name). Needs root for most; says what it leaves out otherwise.

mod control;
mod daemon;
mod fake;
mod host;
mod jobs;
mod rejoin;
mod runner;
mod tests;
mod upgrade;

use std::io::{self, Write as _};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().collect();
    if args[0].ends_with("queue-session") {
        fake::run();
        return ExitCode::SUCCESS;
    }
    if args.get(1).map(String::as_str) == Some("--ask-from-userns") {
        fake::ask_from_userns(&args[2]);
        return ExitCode::SUCCESS;
    }
    if args.get(1).map(String::as_str) == Some("--measure-jobs") {
        jobs::measure(args[2].parse().unwrap());
        return ExitCode::SUCCESS;
    }
    let list = args.iter().any(|a| a == "--list");
    let wanted: Vec<&String> = args[1..].iter().filter(|a| !a.starts_with('-')).collect();
    let root = nix::unistd::geteuid().is_root();
    let mut out = io::stderr();
    let mut failed = 0;
    for (name, needs_root, test) in tests::ALL
        .iter()
        .chain(control::ALL)
        .chain(jobs::ALL)
        .chain(upgrade::ALL)
        .chain(rejoin::ALL)
    {
        if !wanted.is_empty() && !wanted.iter().any(|w| name.contains(w.as_str())) {
            continue;
        }
        if list {
            let _ = writeln!(io::stdout(), "{name}: test");
            continue;
        }
        let result = if *needs_root && !root {
            "left out: needs root"
        } else if catch_unwind(AssertUnwindSafe(test)).is_ok() {
            "ok"
        } else {
            failed += 1;
            "FAILED"
        };
        let _ = writeln!(out, "test {name} ... {result}");
    }
    if failed == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

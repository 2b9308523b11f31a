//! End to end: Queue installed and running on hosts made of namespaces, looked at from outside only.
//! One file per topic. Needs root; says so and fails without.

mod hangs;
mod join;
mod launch;
mod privilege;
mod programs;
mod terminal;
mod world;

use std::io::{self, Write};
use std::process::ExitCode;
use std::sync::Arc;

use libtest_mimic::{Arguments, run};

use world::World;

fn main() -> ExitCode {
    let args = Arguments::from_args();
    if !args.list && !nix::unistd::geteuid().is_root() {
        let _ = writeln!(
            io::stderr(),
            "e2e: needs root: hosts are made of namespaces (sudo -E make check)"
        );
        return ExitCode::FAILURE;
    }
    let world = Arc::new(World::default());
    let mut trials = Vec::new();
    for topic in [
        launch::trials,
        join::trials,
        privilege::trials,
        programs::trials,
        hangs::trials,
        terminal::trials,
    ] {
        trials.extend(topic(&world));
    }
    let conclusion = run(&args, trials);
    if let Err(e) = world.down() {
        let _ = writeln!(io::stderr(), "e2e: taking the hosts down: {e:#}");
        return ExitCode::FAILURE;
    }
    conclusion.exit_code()
}

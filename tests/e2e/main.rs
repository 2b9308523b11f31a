//! End to end: Queue installed and running on hosts made of namespaces, looked at from outside only.
//! One file per topic. Needs root; says so and fails without.

mod attach;
mod batch;
mod completions;
mod forward;
mod hangs;
mod hostile;
mod join;
mod launch;
mod mail;
mod members;
mod place;
mod privilege;
mod programs;
mod resume;
mod seeing;
mod skew;
mod survive;
mod terminal;
mod upgrade;
mod world;

use std::io::{self, Write};
use std::process::ExitCode;

use libtest_mimic::{Arguments, run};

use world::World;

fn main() -> ExitCode {
    // An attacker inside a host (`hostile`), not the tests.
    let words: Vec<String> = std::env::args().collect();
    if words.get(1).is_some_and(|w| w == "--play") {
        return hostile::play(&words[2..]);
    }
    let args = Arguments::from_args();
    if !args.list && !nix::unistd::geteuid().is_root() {
        let _ = writeln!(
            io::stderr(),
            "e2e: needs root: hosts are made of namespaces (sudo -E make check)"
        );
        return ExitCode::FAILURE;
    }
    let world = World::of(world::three);
    let more = World::of(world::three_more);
    let jobs = World::of(world::three);
    let skew = World::of(skew::mixed);
    let sessions = World::of(world::three);
    let besieged = World::of(hostile::with_a_stranger);
    let mut trials = Vec::new();
    for topic in [
        launch::trials,
        join::trials,
        privilege::trials,
        programs::trials,
        hangs::trials,
        terminal::trials,
        forward::trials,
    ] {
        trials.extend(topic(&world));
    }
    for topic in [
        members::trials,
        place::trials,
        seeing::trials,
        completions::trials,
    ] {
        trials.extend(topic(&more));
    }
    for topic in [batch::trials, survive::trials, upgrade::trials] {
        trials.extend(topic(&jobs));
    }
    for topic in [resume::trials, attach::trials] {
        trials.extend(topic(&sessions));
    }
    trials.extend(skew::trials(&skew));
    trials.extend(mail::trials());
    trials.extend(hostile::trials(&besieged));
    let conclusion = run(&args, trials);
    for hosts in [world, more, jobs, sessions, skew, besieged] {
        if let Err(e) = hosts.down() {
            let _ = writeln!(io::stderr(), "e2e: taking the hosts down: {e:#}");
            return ExitCode::FAILURE;
        }
    }
    conclusion.exit_code()
}

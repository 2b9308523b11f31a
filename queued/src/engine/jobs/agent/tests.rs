//! What the agent does, one thing at a time. Long histories with a leader are in `sim`.

use super::Agent;
use crate::engine::jobs::types::{AgentEffect, AgentInput, Clock};
use crate::store::{SpoolOp, Spooled};
use libqueue::wire::job::{
    Attempt, Block, Cause, Dispatch, JobRun, Key, KillAttempt, Outcome, Rejected, Renew, Renewed, Running,
    Submit, Submitted, Welcome, WorkHello, down, up,
};
use libqueue::wire::{ErrorCode, Need};

const LIFE: [u8; 16] = [7; 16];

/// An agent with its time.
struct Bench {
    agent: Agent,
    now: u64,
}

impl Bench {
    fn new(spooled: Spooled) -> Self {
        let clock = Clock { boot: 0, wall: 0 };
        Self {
            agent: Agent::new(clock, "h2", spooled),
            now: 0,
        }
    }

    /// One that has numbers, a leader and queue-exec.
    fn ready() -> Self {
        let mut b = Self::new(Spooled {
            block: Some(Block { from: 1, to: 1001 }),
            submits: Vec::new(),
        });
        b.told(&[]);
        b.linked(1);
        b
    }

    fn put(&mut self, input: AgentInput) -> Vec<AgentEffect> {
        let mut out = Vec::new();
        let clock = Clock {
            boot: self.now,
            wall: 5000 + self.now,
        };
        self.agent.handle(clock, input, &mut out);
        out
    }

    /// Time passes, with ticks as they are asked for.
    fn pass(&mut self, time: u64) -> Vec<AgentEffect> {
        let end = self.now + time;
        let mut out = Vec::new();
        while let Some(at) = self.agent.wake().filter(|at| *at <= end) {
            self.now = at.max(self.now);
            out.extend(self.put(AgentInput::Tick));
            assert!(self.agent.wake().is_none_or(|next| next > self.now), "no rest");
        }
        self.now = end;
        out
    }

    fn hears(&mut self, link: u64, message: down::Kind) -> Vec<AgentEffect> {
        self.put(AgentInput::Heard(link, message))
    }

    fn welcomed(&mut self, link: u64, epoch: u64) -> Vec<AgentEffect> {
        self.hears(link, down::Kind::Welcome(Welcome { epoch, link }))
    }

    fn linked(&mut self, link: u64) -> Vec<AgentEffect> {
        let mut out = self.put(AgentInput::Linked(link));
        out.extend(self.welcomed(link, 1));
        out
    }

    fn told(&mut self, runs: &[Key]) -> Vec<AgentEffect> {
        let mut out = self.put(AgentInput::ExecUp(LIFE));
        for key in runs {
            out.extend(self.put(AgentInput::ExecStarted(*key, None)));
        }
        out.extend(self.put(AgentInput::ExecTold));
        out
    }

    fn submit(&mut self, ask: u64) -> Vec<AgentEffect> {
        let submit = Box::<Submit>::default();
        self.put(AgentInput::Submit { ask, submit })
    }

    fn dispatch(&mut self, link: u64, attempts: Vec<Attempt>) -> Vec<AgentEffect> {
        let run = |a: &Attempt| JobRun {
            job: a.key.unwrap_or_default().job,
            ..JobRun::default()
        };
        let dispatch = Dispatch {
            epoch: 1,
            link,
            runs: attempts.iter().map(run).collect(),
            attempts,
        };
        self.hears(link, down::Kind::Dispatch(dispatch))
    }

    /// An attempt that runs.
    fn running(&mut self, job: u64) -> Key {
        self.dispatch(1, vec![attempt(job, 1)]);
        self.put(AgentInput::Granted(key(job)));
        self.put(AgentInput::ExecStarted(key(job), Some(running())));
        key(job)
    }
}

fn key(job: u64) -> Key {
    Key {
        job,
        task: 0,
        attempt: 1,
    }
}

fn attempt(job: u64, cores: u32) -> Attempt {
    Attempt {
        key: Some(key(job)),
        need: Some(Need {
            cores,
            ..Need::default()
        }),
        ..Attempt::default()
    }
}

fn running() -> Running {
    Running {
        pid: 9,
        ..Running::default()
    }
}

fn exited(code: u32) -> Outcome {
    Outcome {
        code: Some(code),
        ..Outcome::default()
    }
}

fn hello(out: &[AgentEffect]) -> &WorkHello {
    let hello = out.iter().find_map(|e| match e {
        AgentEffect::Send(_, up::Kind::Hello(h)) => Some(h),
        _ => None,
    });
    hello.expect("a hello")
}

fn ended(out: &[AgentEffect]) -> Vec<(u64, Cause)> {
    let ended = out.iter().filter_map(|e| match e {
        AgentEffect::Send(_, up::Kind::Ended(e)) => {
            let cause = e.outcome.as_ref().map(|o| o.cause).unwrap_or_default();
            Some((e.key?.job, Cause::try_from(cause).ok()?))
        }
        _ => None,
    });
    ended.collect()
}

fn granting(out: &[AgentEffect]) -> Vec<u64> {
    let grants = out.iter().filter_map(|e| match e {
        AgentEffect::Grant { key, .. } => Some(key.job),
        _ => None,
    });
    grants.collect()
}

fn submitted(out: &[AgentEffect]) -> Vec<u64> {
    let sent = out.iter().filter_map(|e| match e {
        AgentEffect::Send(_, up::Kind::Submit(s)) => Some(s.id),
        _ => None,
    });
    sent.collect()
}

fn renewal(out: &[AgentEffect]) -> Option<&Renew> {
    out.iter().find_map(|e| match e {
        AgentEffect::Send(_, up::Kind::Renew(r)) => Some(r),
        _ => None,
    })
}

fn accepted(id: u64, existed: bool) -> down::Kind {
    down::Kind::Accepted(Submitted {
        id,
        existed,
        ..Submitted::default()
    })
}

fn full(key: Key) -> AgentInput {
    AgentInput::NotGranted(key, ErrorCode::Full, "full".to_owned())
}

#[test]
fn a_number_is_written_down_before_it_is_used_and_the_leader_answers() {
    let mut b = Bench::ready();
    let out = b.submit(10);
    assert_eq!(
        out[0],
        AgentEffect::Spool(SpoolOp::Used(65)),
        "some numbers at once"
    );
    assert_eq!(submitted(&out), [1]);
    let out = b.submit(11);
    assert!(!out.iter().any(|e| matches!(e, AgentEffect::Spool(_))), "{out:?}");
    assert_eq!(submitted(&out), [2], "several are under way");
    let out = b.hears(1, accepted(1, false));
    assert!(matches!(&out[..], [AgentEffect::Answer(10, Ok(s))] if s.id == 1 && s.spooled.is_empty()));
    // There is one like it already.
    let out = b.hears(1, accepted(1, true));
    assert!(matches!(&out[..], [AgentEffect::Answer(11, Ok(s))] if s.id == 1 && s.existed));
    assert_eq!(b.agent.wake(), None);
}

#[test]
fn of_two_alike_that_are_under_way_the_first_is_answered_first() {
    let submit = |id| Submit {
        id,
        ..Submit::default()
    };
    let mut b = Bench::new(Spooled {
        block: None,
        submits: vec![submit(3), submit(4)],
    });
    b.linked(1);
    let out = b.hears(1, accepted(4, true));
    assert!(out.contains(&AgentEffect::Spool(SpoolOp::Gone(3))), "{out:?}");
    let out = b.hears(1, accepted(4, false));
    assert_eq!(out, [AgentEffect::Spool(SpoolOp::Gone(4))]);
}

#[test]
fn without_an_answer_it_is_kept_here_and_sent_until_the_leader_has_it() {
    let mut b = Bench::ready();
    b.submit(10);
    assert_eq!(b.pass(999), []);
    let out = b.pass(1);
    assert!(
        matches!(&out[..], [AgentEffect::Spool(SpoolOp::Put(s)), AgentEffect::Answer(10, Ok(a))]
        if s.id == 1 && s.at_ms == 5000 && a.id == 1 && !a.spooled.is_empty())
    );
    // The leader is slow: the next one does not wait.
    let out = b.submit(11);
    assert!(
        out.iter().any(|e| matches!(e, AgentEffect::Answer(11, Ok(_)))),
        "{out:?}"
    );
    b.put(AgentInput::Unlinked(1));
    let out = b.linked(2);
    assert_eq!(submitted(&out), [1, 2]);
    let out = b.hears(2, accepted(1, false));
    assert_eq!(out, [AgentEffect::Spool(SpoolOp::Gone(1))]);
    let rejected = Rejected {
        id: 2,
        text: "no such class".to_owned(),
    };
    let out = b.hears(2, down::Kind::Rejected(rejected));
    assert!(
        matches!(
            &out[..],
            [AgentEffect::Log(..), AgentEffect::Spool(SpoolOp::Gone(2))]
        ),
        "{out:?}"
    );
}

#[test]
fn without_a_leader_and_numbers_it_waits_for_both() {
    let mut b = Bench::new(Spooled::default());
    assert_eq!(b.submit(10), []);
    let out = b.pass(9999);
    assert_eq!(out, []);
    let out = b.pass(1);
    assert!(matches!(&out[..], [AgentEffect::Answer(10, Err(e))] if e.code == ErrorCode::NotReady as i32));
    // The leader comes in time.
    b.submit(11);
    b.pass(9000);
    let out = b.linked(1);
    assert!(
        out.iter()
            .any(|e| matches!(e, AgentEffect::Send(1, up::Kind::WantBlock(_)))),
        "{out:?}"
    );
    let out = b.hears(1, down::Kind::Block(Block { from: 1, to: 101 }));
    assert_eq!(submitted(&out), [1], "{out:?}");
    let out = b.hears(1, accepted(1, false));
    assert!(matches!(&out[..], [AgentEffect::Answer(11, Ok(s))] if s.id == 1));
}

#[test]
fn without_a_leader_it_is_kept_at_once_if_there_are_numbers() {
    let mut b = Bench::new(Spooled {
        block: Some(Block { from: 70, to: 80 }),
        submits: vec![Submit {
            id: 66,
            ..Submit::default()
        }],
    });
    let out = b.submit(10);
    assert!(matches!(&out[..], [
        AgentEffect::Spool(SpoolOp::Used(80)), AgentEffect::Spool(SpoolOp::Put(s)), AgentEffect::Answer(10, Ok(_))
    ] if s.id == 70));
    // With the connection lost, what was under way is kept, too.
    let out = b.linked(1);
    assert_eq!(submitted(&out), [66, 70], "{out:?}");
    assert_eq!(submitted(&b.submit(11)), [71]);
    let out = b.put(AgentInput::Unlinked(1));
    assert!(
        matches!(&out[..], [AgentEffect::Spool(SpoolOp::Put(s)), AgentEffect::Answer(11, Ok(_))] if s.id == 71)
    );
}

#[test]
fn numbers_are_asked_for_in_time_and_never_given_twice() {
    let mut b = Bench::new(Spooled::default());
    let wants = |out: &[AgentEffect]| {
        out.iter()
            .any(|e| matches!(e, AgentEffect::Send(_, up::Kind::WantBlock(_))))
    };
    assert!(wants(&b.linked(1)));
    assert!(!wants(&b.submit(10)), "asked for already");
    let out = b.hears(1, down::Kind::Block(Block { from: 5, to: 9 }));
    assert_eq!(submitted(&out), [5]);
    assert!(
        !wants(&b.submit(11)) && wants(&b.submit(12)),
        "less than half is left"
    );
    // The same block again gives nothing new.
    b.hears(1, down::Kind::Block(Block { from: 5, to: 9 }));
    assert!(wants(&b.submit(13)));
    let out = b.hears(1, down::Kind::Block(Block { from: 20, to: 24 }));
    assert_eq!(
        out,
        [AgentEffect::Spool(SpoolOp::Block(Block { from: 20, to: 24 }))]
    );
    assert_eq!(submitted(&b.submit(14)), [20]);
    // Nobody answers: an error, after a while.
    let mut b = Bench::new(Spooled::default());
    b.linked(1);
    b.submit(10);
    assert!(matches!(&b.pass(10_000)[..], [AgentEffect::Answer(10, Err(_))]));
}

#[test]
fn attempts_start_in_order_and_smaller_ones_pass() {
    let mut b = Bench::ready();
    let out = b.dispatch(
        1,
        vec![attempt(1, 4), attempt(2, 8), attempt(3, 1), attempt(4, 1)],
    );
    assert_eq!(granting(&out), [1], "one question at a time");
    let out = b.put(full(key(1)));
    assert_eq!(granting(&out), [3], "what is larger is in vain");
    let out = b.put(AgentInput::Granted(key(3)));
    assert!(matches!(&out[0], AgentEffect::Run { attempt, run, deadline: 0 }
        if attempt.key == Some(key(3)) && run.job == 3));
    assert_eq!(granting(&out), [4]);
    assert_eq!(granting(&b.put(full(key(4)))), []);
    assert_eq!(granting(&b.pass(249)), []);
    assert_eq!(granting(&b.pass(1)), [1], "tried again");
    b.put(full(key(1)));
    b.put(full(key(4)));
    let started = b.put(AgentInput::ExecStarted(key(3), Some(running())));
    assert!(matches!(&started[0], AgentEffect::Send(1, up::Kind::Started(_))));
    let out = b.put(AgentInput::ExecEnded(key(3), Some(exited(0))));
    assert_eq!(
        (ended(&out), granting(&out)),
        (vec![(3, Cause::Exited)], vec![1]),
        "something ended"
    );
    let draining = AgentInput::NotGranted(key(1), ErrorCode::Draining, "draining".to_owned());
    assert_eq!(ended(&b.put(draining)), [(1, Cause::NotStarted)]);
}

#[test]
fn what_has_not_started_is_taken_back_or_killed_at_once() {
    let mut b = Bench::ready();
    b.dispatch(1, vec![attempt(1, 1), attempt(2, 1), attempt(3, 1)]);
    assert_eq!(
        ended(&b.hears(1, down::Kind::Revoke(key(1)))),
        [(1, Cause::NotStarted)]
    );
    let kill = |job| {
        down::Kind::Kill(KillAttempt {
            key: Some(key(job)),
            cause: Cause::Killed as i32,
            by: "alice@h1".to_owned(),
            ..KillAttempt::default()
        })
    };
    assert_eq!(ended(&b.hears(1, kill(2))), [(2, Cause::Killed)]);
    // The grant that was asked for is given back, and the next one has its turn.
    let out = b.put(AgentInput::Granted(key(1)));
    assert_eq!(out[0], AgentEffect::Ungrant(key(1)));
    assert_eq!(granting(&out), [3]);
    b.put(AgentInput::Granted(key(3)));
    assert_eq!(b.hears(1, down::Kind::Revoke(key(3))), [], "it may have started");
    assert!(matches!(&b.hears(1, kill(3))[..], [AgentEffect::End(k)] if k.by == "alice@h1"));
    // queue-exec may not have heard it.
    b.put(AgentInput::ExecDown);
    assert!(b.told(&[key(3)]).iter().any(|e| matches!(e, AgentEffect::End(_))));
    let out = b.put(AgentInput::ExecEnded(key(3), None));
    assert_eq!(ended(&out), [(3, Cause::SessionLost)]);
}

#[test]
fn what_queue_exec_does_not_know_starts_anew_or_is_lost() {
    let mut b = Bench::ready();
    b.running(1);
    b.dispatch(1, vec![attempt(2, 1)]);
    b.put(AgentInput::Granted(key(2)));
    b.put(AgentInput::ExecDown);
    b.dispatch(1, vec![attempt(3, 1)]);
    let out = b.told(&[]);
    assert_eq!(ended(&out), [(1, Cause::SessionLost)]);
    assert!(out.contains(&AgentEffect::Ungrant(key(2))));
    assert_eq!(granting(&out), [2]);
}

#[test]
fn a_result_is_kept_until_the_leader_has_it() {
    let mut b = Bench::ready();
    b.running(1);
    b.put(AgentInput::Unlinked(1));
    let out = b.put(AgentInput::ExecEnded(key(1), Some(exited(3))));
    assert_eq!(out, []);
    for link in 2..4 {
        let out = b.linked(link);
        let held = &hello(&out).held;
        assert_eq!(held[0].ended, Some(exited(3)));
    }
    assert_eq!(b.hears(2, down::Kind::Forget(key(1))), [], "another connection");
    let out = b.hears(3, down::Kind::Forget(key(1)));
    assert_eq!(out, [AgentEffect::Forget(vec![key(1)])]);
    assert_eq!(hello(&b.linked(4)).held, []);
}

#[test]
fn results_that_find_no_place_in_a_hello_follow_it() {
    let mut b = Bench::ready();
    for job in 1..=3 {
        b.running(job);
        let outcome = Outcome {
            head: vec![b'x'; 2 << 20],
            ..exited(0)
        };
        b.put(AgentInput::ExecEnded(key(job), Some(outcome)));
    }
    let out = b.linked(2);
    let told = hello(&out).held.iter().filter(|h| h.ended.is_some()).count();
    assert_eq!((told, ended(&out).len()), (1, 2));
}

#[test]
fn a_hello_is_complete_once_queue_exec_has_told_all() {
    let mut b = Bench::new(Spooled::default());
    let out = b.put(AgentInput::Linked(4));
    let first = hello(&out);
    assert!(!first.complete && first.life.is_empty() && first.link == 4);
    b.welcomed(4, 1);
    let out = b.told(&[key(5)]);
    let second = hello(&out);
    assert!(second.complete && second.life == LIFE && second.held.len() == 1);
    b.put(AgentInput::ExecDown);
    let out = b.told(&[key(5)]);
    assert!(
        out.iter().all(|e| !matches!(e, AgentEffect::Send(..))),
        "the leader knows that: {out:?}"
    );
}

#[test]
fn an_earlier_leader_and_another_connection_count_for_nothing() {
    let mut b = Bench::ready();
    b.put(AgentInput::Linked(2));
    assert_eq!(b.dispatch(2, vec![attempt(1, 1)]), [], "before the welcome");
    b.welcomed(2, 6);
    assert_eq!(b.dispatch(2, vec![attempt(1, 1)]), [], "of another epoch");
    assert_eq!(b.dispatch(1, vec![attempt(1, 1)]), []);
    b.put(AgentInput::Unlinked(1));
    assert_eq!(b.put(AgentInput::Linked(2)), []);
    b.put(AgentInput::Linked(3));
    let out = b.welcomed(3, 5);
    assert_eq!(out[0], AgentEffect::Unlink(3));
}

fn leased(job: u64) -> Attempt {
    Attempt {
        lease_ms: 9000,
        ..attempt(job, 1)
    }
}

#[test]
fn leases_count_from_what_was_sent_and_heard() {
    let mut b = Bench::ready();
    b.now = 1000;
    b.dispatch(1, vec![leased(1)]);
    let out = b.put(AgentInput::Granted(key(1)));
    assert!(
        matches!(out[0], AgentEffect::Run { deadline: 9000, .. }),
        "from the hello: {out:?}"
    );
    b.put(AgentInput::ExecStarted(key(1), Some(running())));
    let out = b.pass(2000);
    let first = renewal(&out).expect("at a third").clone();
    assert_eq!((b.now, &first.keys[..]), (3000, &[key(1)][..]));
    assert!(
        renewal(&b.pass(1499)).is_none() && renewal(&b.pass(1)).is_some(),
        "asked again"
    );
    // Only those that are named, and from when it was sent.
    let renewed = |number, keys| down::Kind::Renewed(Renewed { number, keys });
    assert_eq!(b.hears(1, renewed(first.number, Vec::new())), []);
    assert_eq!(b.hears(1, renewed(77, vec![key(1)])), []);
    let out = b.hears(1, renewed(first.number + 1, vec![key(1), key(9)]));
    assert_eq!(out, [AgentEffect::Lease(key(1), 4500 + 9000)]);
    // What has run out is not extended.
    b.now = 13_400;
    let out = b.put(AgentInput::Tick);
    let last = renewal(&out).expect("late").number;
    b.now = 13_500;
    assert_eq!(b.hears(1, renewed(last, vec![key(1)])), []);
}

#[test]
fn nothing_starts_on_an_old_lease() {
    let mut b = Bench::ready();
    b.now = 60_000;
    let out = b.dispatch(1, vec![leased(1)]);
    assert_eq!(granting(&out), []);
    let number = renewal(&out).expect("asked for").number;
    let keys = vec![key(1)];
    let out = b.hears(1, down::Kind::Renewed(Renewed { number, keys }));
    assert_eq!(granting(&out), [1]);
    // Frozen meanwhile.
    b.now = 70_000;
    let out = b.put(AgentInput::Granted(key(1)));
    assert_eq!(out[0], AgentEffect::Ungrant(key(1)));
    assert!(renewal(&out).is_some() && granting(&out).is_empty(), "{out:?}");
}

#[test]
fn leases_of_an_earlier_daemon_go_on() {
    let mut b = Bench::new(Spooled::default());
    b.put(AgentInput::ExecUp(LIFE));
    b.put(AgentInput::ExecLease(key(1), 9000));
    b.put(AgentInput::ExecStarted(key(1), Some(running())));
    b.put(AgentInput::ExecTold);
    b.now = 100;
    let out = b.linked(1);
    let number = renewal(&out).expect("at once").number;
    let keys = vec![key(1)];
    let out = b.hears(1, down::Kind::Renewed(Renewed { number, keys }));
    assert_eq!(out, [AgentEffect::Lease(key(1), 9100)]);
}

#[test]
fn who_waits_lends_its_slot_to_one() {
    let mut b = Bench::ready();
    let parent = b.running(1);
    let child = |job| Attempt {
        parent: Some(parent),
        ..attempt(job, 1)
    };
    let lent = |out: &[AgentEffect]| {
        out.iter().find_map(|e| match e {
            AgentEffect::Grant { lent, .. } => Some(*lent),
            _ => None,
        })
    };
    let out = b.dispatch(1, vec![child(2), child(3)]);
    assert_eq!(lent(&out), Some(Some(parent)));
    assert_eq!(
        lent(&b.put(AgentInput::Granted(key(2)))),
        Some(None),
        "one at a time"
    );
    b.put(full(key(3)));
    b.put(AgentInput::ExecStarted(key(2), Some(running())));
    let out = b.put(AgentInput::ExecEnded(key(2), Some(exited(0))));
    assert_eq!(lent(&out), Some(Some(parent)));
}

#[test]
fn what_an_attempt_executes_is_needed_and_kept_as_long() {
    let mut b = Bench::ready();
    let dispatch = Dispatch {
        epoch: 1,
        link: 1,
        runs: Vec::new(),
        attempts: vec![attempt(1, 1)],
    };
    let out = b.hears(1, down::Kind::Dispatch(dispatch.clone()));
    assert_eq!(ended(&out), [(1, Cause::NotStarted)]);
    b.dispatch(1, vec![attempt(2, 1)]);
    b.hears(1, down::Kind::JobOver(2));
    let out = b.put(AgentInput::Granted(key(2)));
    assert!(matches!(out[0], AgentEffect::Run { .. }), "{out:?}");
}

#[test]
fn letters_and_deliveries_are_done_once() {
    use libqueue::wire::job::{Deliver, Letter, Mailed};
    let mut b = Bench::ready();
    let letter = Letter {
        number: 4,
        ..Letter::default()
    };
    let asks = |b: &mut Bench, link| b.hears(link, down::Kind::Letter(letter.clone()));
    assert!(matches!(&asks(&mut b, 1)[..], [AgentEffect::Mail(_)]));
    assert_eq!(asks(&mut b, 1), [], "being sent");
    b.put(AgentInput::Unlinked(1));
    let mailed = Mailed {
        number: 4,
        ..Mailed::default()
    };
    assert_eq!(b.put(AgentInput::Mailed(mailed.clone())), []);
    b.linked(2);
    assert_eq!(
        asks(&mut b, 2),
        [AgentEffect::Send(2, up::Kind::Mailed(mailed))],
        "it was sent"
    );
    let deliver = Deliver {
        number: 5,
        ..Deliver::default()
    };
    let out = b.hears(2, down::Kind::Deliver(deliver));
    assert!(matches!(&out[..], [AgentEffect::Deliver(_)]));
}

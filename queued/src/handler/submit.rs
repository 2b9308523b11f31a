//! Submissions of batch jobs. A program may send many without waiting for an answer; answers come in their order.
//! Checks that the warrant is that of the user at the other end, and for this run; knows nothing of jobs beyond it.

use super::{WRITE, error};
use crate::batch::frames::Frames;
use crate::batch::{Answer, Batch};
use crate::door::Door;
use crate::driver::{Driver, Event};
use libqueue::frame;
use libqueue::wire::job::{FRAME_MAX, Run, Submit, TASKS_MAX, TaskRange};
use libqueue::wire::{self, ErrorCode, reply, request};
use nix::unistd::User;
use prost::Message as _;
use queue_exec::entries::Tree;
use queue_exec::protocol::{BLOB_MAX, RUN_MAX};
use queue_exec::warrant::Warrant;
use sha2::{Digest as _, Sha256};
use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio::io::AsyncWriteExt as _;
use tokio::net::UnixStream;
use tokio::sync::oneshot;
use tokio::time::timeout;

/// Submissions of one connection that wait for their answers.
const PIPELINE: usize = 4096;
/// So long the name of a user is believed.
const BELIEVED: Duration = Duration::from_secs(60);
/// Users that are remembered.
const USERS: usize = 10_000;

/// An answer that is yet to come, or one that is known.
enum Reply {
    Later(Answer),
    Now(reply::Kind),
}

impl Reply {
    /// It, if it is there.
    fn ready(&mut self) -> Option<reply::Kind> {
        use tokio::sync::oneshot::error::TryRecvError;
        match self {
            Self::Later(rx) => match rx.try_recv() {
                Ok(answer) => Some(kind(answer)),
                Err(TryRecvError::Empty) => None,
                Err(TryRecvError::Closed) => Some(super::ending()),
            },
            Self::Now(kind) => Some(kind.clone()),
        }
    }

    async fn wait(&mut self) -> reply::Kind {
        match self {
            Self::Later(rx) => rx.await.map_or_else(|_| super::ending(), kind),
            Self::Now(kind) => kind.clone(),
        }
    }
}

fn kind(answer: Result<wire::job::Submitted, wire::Error>) -> reply::Kind {
    match answer {
        Ok(s) => reply::Kind::Submitted(s),
        Err(e) => reply::Kind::Error(e),
    }
}

/// What follows when submissions are over.
pub(super) enum Next {
    /// Another question.
    Asked(Box<wire::Request>),
    /// Nothing.
    End,
    /// What the next program reads, beginning with this.
    Left(Vec<u8>),
}

/// Takes submissions, the first of which was read and maybe a part of others, until something else is asked, or until
/// the end.
pub(super) async fn serve(
    first: Submit,
    said: &[u8],
    stream: &mut UnixStream,
    uid: u32,
    batch: &Batch,
    driver: &Driver,
    door: &Door,
) -> Next {
    let (read, mut write) = stream.split();
    let mut frames = Frames::new(read, FRAME_MAX).after(said);
    let mut shut = false;
    let mut replies = VecDeque::new();
    replies.push_back(take(first, uid, batch, driver).await);
    let mut next = None;
    let mut ended = false;
    loop {
        // Until all is answered.
        if replies.is_empty() && (ended || next.is_some()) {
            return match next {
                Some(q) if !frames.has_rest() => Next::Asked(Box::new(q)),
                _ => Next::End,
            };
        }
        if replies.is_empty() && shut {
            return Next::Left(frames.into_rest());
        }
        let reading = !ended && !shut && next.is_none() && replies.len() < PIPELINE;
        tokio::select! {
            biased;
            kind = wait_first(&mut replies) => {
                let mut bytes = frame::encode(&wire::Reply { kind: Some(kind) });
                replies.pop_front();
                while let Some(kind) = replies.front_mut().and_then(Reply::ready) {
                    bytes.extend_from_slice(&frame::encode(&wire::Reply { kind: Some(kind) }));
                    replies.pop_front();
                }
                if !matches!(timeout(WRITE, write.write_all(&bytes)).await, Ok(Ok(()))) {
                    return Next::End;
                }
            }
            () = door.shut(), if !shut => shut = true,
            question = frames.next::<wire::Request>(), if reading => match question {
                Ok((wire::Request { kind: Some(request::Kind::Submit(s)) }, _)) => {
                    replies.push_back(take(s, uid, batch, driver).await);
                }
                Ok((other, _)) => next = Some(other),
                Err(e) => {
                    if e.kind() == io::ErrorKind::InvalidData {
                        let kind = error(ErrorCode::BadRequest, e.to_string());
                        replies.push_back(Reply::Now(kind));
                    }
                    ended = true;
                }
            },
        }
    }
}

async fn wait_first(replies: &mut VecDeque<Reply>) -> reply::Kind {
    match replies.front_mut() {
        Some(r) => r.wait().await,
        None => std::future::pending().await,
    }
}

async fn take(mut submit: Submit, uid: u32, batch: &Batch, driver: &Driver) -> Reply {
    let refused = |(code, text): (ErrorCode, String)| Reply::Now(error(code, text));
    let warrant = match check(&submit) {
        Ok(w) => w,
        Err(text) => return refused((ErrorCode::BadRequest, text)),
    };
    if let Err(r) = is_user(&warrant.user, uid).await {
        return refused(r);
    }
    if let Some(text) = no_member(&submit, driver).await {
        return refused((ErrorCode::NoSuchHost, text));
    }
    submit.owner = warrant.user;
    let bytes = submit.encoded_len();
    Reply::Later(batch.submit(submit, bytes).await)
}

/// Why a job for one host only would never run: there is no such host. One that is down may come back.
async fn no_member(submit: &Submit, driver: &Driver) -> Option<String> {
    let host = submit.plan.as_ref().map(|p| p.host.as_str()).unwrap_or_default();
    if host.is_empty() || host == "+" {
        return None;
    }
    let (tx, rx) = oneshot::channel();
    driver.send(Event::Roster(tx)).await;
    let all = rx.await.ok()?;
    let names: Vec<String> = all.into_iter().map(|e| e.host.name).collect();
    (!names.iter().any(|n| n == host)).then(|| {
        format!(
            "no host {host} in this cluster: there are {} (`queue hosts` shows them)",
            names.join(", ")
        )
    })
}

/// What can be told from the submission alone.
fn check(s: &Submit) -> Result<Warrant, String> {
    let (warrant, ..) = Warrant::parse(&s.warrant).map_err(|e| format!("the submission's warrant: {e}"))?;
    if s.warrant.len() > BLOB_MAX || s.cert.len() > BLOB_MAX || s.cert.is_empty() {
        return Err("the submission's warrant or certificate has a wrong size".into());
    }
    if s.run.len() > RUN_MAX {
        return Err(format!(
            "what is to be executed (command, environment, script) has {} bytes: at most {RUN_MAX} are allowed",
            s.run.len()
        ));
    }
    if warrant.run != <[u8; 32]>::from(Sha256::digest(&s.run)) {
        return Err("the submission's warrant is for something else than what it wants executed".into());
    }
    let Some(plan) = &s.plan else {
        return Err("the submission has no plan: is the front end of another version?".into());
    };
    let Some(tasks) = plan
        .array
        .as_ref()
        .map_or(Some(1), |a| count(&a.ranges))
        .filter(|n| (1..=u64::from(TASKS_MAX)).contains(n))
    else {
        return Err(format!(
            "an array has 1 to {TASKS_MAX} tasks, given as ascending ranges"
        ));
    };
    if !s.entries.is_empty() {
        let run = Run::decode(&s.run[..]).map_err(|e| format!("what is to be executed: {e}"))?;
        let fits = |e: &wire::job::Entries| {
            e.count as usize == s.entries.len()
                && tasks == s.entries.len() as u64
                && e.root == Tree::new(&s.entries).root()
        };
        if !run.entries.as_ref().is_some_and(fits) {
            return Err("the entries of the array's tasks are not those of the warrant".into());
        }
    }
    Ok(warrant)
}

/// How many tasks; `None`: they do not ascend.
fn count(ranges: &[TaskRange]) -> Option<u64> {
    let mut last = None;
    let mut all = 0u64;
    for r in ranges {
        if r.from > r.to || last.is_some_and(|l| r.from <= l) {
            return None;
        }
        all += u64::from((r.to - r.from) / r.step.max(1)) + 1;
        last = Some(r.to);
    }
    Some(all)
}

/// Whether a name is that of this user here.
async fn is_user(name: &str, uid: u32) -> Result<(), (ErrorCode, String)> {
    static KNOWN: Mutex<BTreeMap<String, (u32, Instant)>> = Mutex::new(BTreeMap::new());
    let known = {
        let known = KNOWN.lock().unwrap_or_else(PoisonError::into_inner);
        known
            .get(name)
            .filter(|(_, at)| at.elapsed() < BELIEVED)
            .map(|(u, _)| *u)
    };
    let found = match known {
        Some(u) => Some(u),
        None => {
            let asked = name.to_owned();
            let look = move || User::from_name(&asked);
            // The name service may be slow.
            let user = tokio::task::spawn_blocking(look).await.ok().and_then(Result::ok);
            let Some(user) = user else {
                let text = format!("the name service does not say who {name} is: try again");
                return Err((ErrorCode::NotReady, text));
            };
            let uid = user.map(|u| u.uid.as_raw());
            if let Some(u) = uid {
                let mut known = KNOWN.lock().unwrap_or_else(PoisonError::into_inner);
                if known.len() >= USERS {
                    known.clear();
                }
                known.insert(name.to_owned(), (u, Instant::now()));
            }
            uid
        }
    };
    if found == Some(uid) {
        Ok(())
    } else {
        let text = format!("the submission's warrant is that of {name}, and you are another user");
        Err((ErrorCode::Denied, text))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use libqueue::wire::job::{Array, Entries, Plan};

    fn warrant(run: &[u8], user: &str) -> Vec<u8> {
        let key = ed25519_dalek::SigningKey::from_bytes(&[7; 32]);
        Warrant {
            cluster: [1; 32],
            source: "h1".into(),
            user: user.into(),
            login: user.into(),
            issued: 1,
            run: Sha256::digest(run).into(),
        }
        .sign(&key)
    }

    fn submit(run: Vec<u8>) -> Submit {
        Submit {
            warrant: warrant(&run, "alice"),
            run,
            plan: Some(Plan::default()),
            cert: vec![1],
            ..Submit::default()
        }
    }

    fn range(from: u32, to: u32, step: u32) -> TaskRange {
        TaskRange { from, to, step }
    }

    #[test]
    fn a_submission_is_what_its_warrant_says() {
        let good = submit(vec![1, 2, 3]);
        assert_eq!(check(&good).unwrap().user, "alice");
        let bad = |change: fn(&mut Submit), word: &str| {
            let mut s = submit(vec![1, 2, 3]);
            change(&mut s);
            let e = check(&s).unwrap_err();
            assert!(e.contains(word), "{e}");
        };
        bad(|s| s.run.push(0), "something else");
        bad(|s| s.plan = None, "no plan");
        bad(|s| s.warrant.truncate(9), "warrant");
        bad(|s| s.cert.clear(), "size");
        bad(|s| s.entries.push(vec![1]), "executed");
        bad(
            |s| s.plan.as_mut().unwrap().array = Some(Array::default()),
            "1 to 10000000 tasks",
        );
        let large = submit(vec![0; RUN_MAX + 1]);
        assert!(check(&large).unwrap_err().contains("bytes"));
    }

    #[test]
    fn entries_are_those_of_the_tree() {
        let entries: Vec<Vec<u8>> = (0..3).map(|i| vec![i]).collect();
        let run = Run {
            entries: Some(Entries {
                count: 3,
                root: Tree::new(&entries).root().to_vec(),
            }),
            ..Run::default()
        };
        let mut s = submit(run.encode_to_vec());
        s.plan.as_mut().unwrap().array = Some(Array {
            ranges: vec![range(1, 3, 1)],
            at_once: 0,
        });
        s.entries = entries;
        check(&s).unwrap();
        s.entries.swap(0, 1);
        check(&s).unwrap_err();
        s.entries.pop();
        check(&s).unwrap_err();
    }

    #[test]
    fn tasks_are_counted() {
        assert_eq!(count(&[range(1, 10, 0), range(20, 30, 5)]), Some(13));
        assert_eq!(count(&[range(1, 10, 1), range(10, 11, 1)]), None);
        assert_eq!(count(&[range(5, 4, 1)]), None);
        assert_eq!(count(&[range(0, u32::MAX, 1)]), Some(1 << 32));
    }

    #[test]
    fn only_the_user_himself() {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            for _ in 0..2 {
                is_user("root", 0).await.unwrap();
                assert_eq!(is_user("root", 1000).await.unwrap_err().0, ErrorCode::Denied);
            }
            assert!(is_user("no-such-user-here", 0).await.is_err());
        });
    }
}

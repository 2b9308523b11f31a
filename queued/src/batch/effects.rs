//! What the effects of the two engines do: each one here, in the order in which the gates let them out.

use super::Input;
use super::runs::Lack;
use super::task::{Link, Local, Task, Waiting};
use crate::driver::Event as DriverEvent;
use crate::engine::jobs::types::{AgentEffect, AgentInput, LeaderEffect, LeaderInput};
use crate::engine::types::{AskId, Level};
use crate::exec::JobAsk;
use crate::mail::MailRoom;
use libqueue::wire::SessionNote;
use libqueue::wire::job::{
    Attempt, Cause, Deliver, Dispatch, Down, FRAME_MAX, JobReply, JobRun, Key, KillAttempt, Letter, Up, down,
    up,
};
use prost::Message as _;
use queue_exec::protocol::{JobKey, JobRequest, KEYS_MAX, RUN_INLINE_MAX};
use std::os::fd::OwnedFd;

/// A dispatch whose runs are larger goes out in parts.
const PART: usize = FRAME_MAX / 4;

fn log(level: Level, text: &str) {
    match level {
        Level::Error => tracing::error!("{text}"),
        Level::Warn => tracing::warn!("{text}"),
        Level::Info => tracing::info!("{text}"),
        Level::Debug => tracing::debug!("{text}"),
    }
}

/// As queue-exec names it.
pub(super) fn exec_key(k: Key) -> JobKey {
    JobKey {
        job: k.job,
        task: k.task,
        attempt: k.attempt,
    }
}

/// As everybody else does.
pub(crate) fn wire_key(k: JobKey) -> Key {
    Key {
        job: k.job,
        task: k.task,
        attempt: k.attempt,
    }
}

impl Task {
    pub(super) async fn agent_effect(&mut self, e: AgentEffect) {
        match e {
            // Never gets here: it goes to the writer.
            AgentEffect::Spool(_) => {}
            AgentEffect::Send(to, message) => self.send_up(to, message),
            AgentEffect::Unlink(gone) => match &self.link {
                Link::Remote { link, outbox } if *link == gone => outbox.close(),
                Link::Local { link, .. } if *link == gone => self.uncouple(),
                _ => {}
            },
            AgentEffect::Answer(ask, answer) => {
                if let Some(Waiting { tx, .. }) = self.answers.remove(&ask) {
                    let _ = tx.send(answer);
                }
            }
            AgentEffect::Grant { key, mut need, lent } => {
                if lent.is_some() {
                    need.cores = 0;
                }
                (need.by_name, need.look) = (false, false);
                self.asked.push(key);
                self.driver.send(DriverEvent::JobGrant(key, need)).await;
            }
            AgentEffect::Ungrant(key) => {
                if let Some(ask) = self.grants.remove(&key) {
                    self.ungrant(ask).await;
                } else if self.asked.contains(&key) {
                    self.unwanted.push(key);
                }
            }
            AgentEffect::Run {
                attempt,
                run,
                deadline,
            } => self.run_attempt(&attempt, &run, deadline),
            AgentEffect::End(kill) => self.end(kill),
            AgentEffect::Lease(key, until) => {
                let leases = vec![(exec_key(key), until)];
                self.exec.job(JobRequest::Lease { leases }, None, JobAsk::Tell);
            }
            AgentEffect::Forget(keys) => {
                self.here.forget(&keys);
                self.forget.extend(keys);
            }
            AgentEffect::Deliver(deliver) => self.bring_home(*deliver),
            AgentEffect::Mail(letter) => self.mail(*letter),
            AgentEffect::Log(level, text) => log(level, &text),
        }
    }

    fn send_up(&mut self, to: u64, message: up::Kind) {
        match &self.link {
            Link::Local { link, conn } if *link == to => {
                self.local.push_back(Local::ToLeader(*conn, message));
            }
            Link::Remote { link, outbox } if *link == to => {
                let up = Up { kind: Some(message) };
                if !outbox.push(&up) {
                    tracing::warn!("the leader takes no more messages: the connection is opened anew");
                    outbox.close();
                }
            }
            // Of a connection that is no more: the next hello says it again.
            _ => {}
        }
    }

    fn run_attempt(&mut self, attempt: &Attempt, run: &JobRun, deadline: u64) {
        let Some(key) = attempt.key else { return };
        let params = attempt.params.as_ref().map(|p| p.encode_to_vec());
        let note = SessionNote {
            need: attempt.need.clone(),
            grant: self.grants.get(&key).copied().unwrap_or(0),
            boot: self.driver.context().boot.to_vec(),
            lease_ms: attempt.lease_ms,
        };
        let (fd, inline) = match self.large(run) {
            Ok(r) => r,
            Err(e) => {
                let text = format!("cannot hand the job to queue-exec: {e}");
                return self.tell_agent(AgentInput::NotRun(key, text, true));
            }
        };
        let request = JobRequest::Run {
            key: exec_key(key),
            warrant: run.warrant.clone(),
            source_cert: run.cert.clone(),
            run: inline,
            params: params.unwrap_or_default(),
            lease: deadline,
            note: note.encode_to_vec(),
        };
        self.exec.job(request, fd, JobAsk::Run(key));
    }

    /// A run that is too large for a packet goes as a file.
    fn large(&mut self, run: &JobRun) -> std::io::Result<(Option<OwnedFd>, Vec<u8>)> {
        if run.run.len() <= RUN_INLINE_MAX {
            return Ok((None, run.run.clone()));
        }
        Ok((Some(self.files.get(run.job, &run.run)?), Vec::new()))
    }

    fn end(&mut self, kill: KillAttempt) {
        let Some(key) = kill.key else { return };
        let text = if kill.cause() == Cause::Killed && !kill.by.is_empty() {
            format!("killed by {}", kill.by)
        } else {
            kill.by.clone()
        };
        let request = JobRequest::End {
            key: exec_key(key),
            signal: u8::try_from(kill.signal).unwrap_or(0),
            cause: u8::try_from(kill.cause).unwrap_or(0),
            text,
        };
        self.exec.job(request, None, JobAsk::Tell);
    }

    fn bring_home(&mut self, deliver: Deliver) {
        let number = deliver.number;
        let run = deliver.run.unwrap_or_default();
        let (fd, inline) = match self.large(&run) {
            Ok(r) => r,
            Err(e) => {
                return self.tell_agent(AgentInput::Delivered(libqueue::wire::job::Delivered {
                    number,
                    failed: format!("cannot hand it to queue-exec: {e}"),
                    hopeless: false,
                }));
            }
        };
        // No attempts of it are to come.
        self.files.remove(run.job);
        let request = JobRequest::Deliver {
            job: run.job,
            warrant: run.warrant,
            source_cert: run.cert,
            run: inline,
            from: deliver.from,
        };
        self.exec.job(request, fd, JobAsk::Deliver(number));
    }

    /// How letters leave this host.
    fn mail_room(&self) -> MailRoom {
        let context = self.driver.context();
        MailRoom::new(&context.config.mail, &self.host, &context.identity.cluster.name)
    }

    /// Whether this host can send mail may have changed.
    pub(super) fn mailer(&mut self) {
        let able = self.mail_room().able();
        self.tell_agent(AgentInput::Mailer(able));
    }

    fn mail(&mut self, letter: Letter) {
        let (room, batch) = (self.mail_room(), self.batch.clone());
        tokio::spawn(async move { batch.send(Input::Mailed(room.send(letter).await)) });
    }

    /// Outcomes that the leader has, many at once.
    pub(super) fn flush_forget(&mut self) {
        for keys in self.forget.chunks(KEYS_MAX) {
            let keys = keys.iter().map(|k| exec_key(*k)).collect();
            self.exec.job(JobRequest::Forget { keys }, None, JobAsk::Tell);
        }
        self.forget.clear();
    }

    pub(super) fn leader_effect(&mut self, e: LeaderEffect) {
        match e {
            // Never gets here: it goes to the writer.
            LeaderEffect::Store(_) => {}
            LeaderEffect::Send { conn, message } => self.send_down(conn, message),
            LeaderEffect::Dispatch {
                conn,
                mut dispatch,
                runs,
                entries,
            } => match self.runs.fill(&mut dispatch, &runs, &entries, &self.known) {
                Ok(()) => {
                    self.known = Lack::default();
                    self.dispatch(conn, dispatch);
                }
                Err(lack) => {
                    let again = LeaderEffect::Dispatch {
                        conn,
                        dispatch,
                        runs,
                        entries,
                    };
                    self.fetch(lack, again);
                }
            },
            LeaderEffect::Deliver {
                conn,
                job,
                from,
                number,
            } => match self.runs.run(job) {
                None if !self.known.runs.contains(&job) => {
                    let lack = Lack {
                        runs: vec![job],
                        entries: Vec::new(),
                    };
                    let again = LeaderEffect::Deliver {
                        conn,
                        job,
                        from,
                        number,
                    };
                    self.fetch(lack, again);
                }
                None => {
                    self.known = Lack::default();
                    tracing::error!(
                        "what job {job} executes is not in the store: its output stays on {from}"
                    );
                }
                Some(run) => {
                    self.known = Lack::default();
                    let deliver = Deliver {
                        run: Some((*run).clone()),
                        from,
                        number,
                    };
                    self.send_down(conn, down::Kind::Deliver(deliver));
                }
            },
            LeaderEffect::Close { conn, why } => {
                if let Some(c) = self.conns.get(&conn) {
                    tracing::info!("closed the work connection of {}: {why}", c.host);
                    c.outbox.close();
                } else if matches!(self.link, Link::Local { conn: c, .. } if c == conn) {
                    tracing::warn!("closed the work connection of this host: {why}");
                    self.uncouple();
                }
            }
            LeaderEffect::Reply { ask, reply, last } => {
                let Some(tx) = self.asks.get(&ask) else { return };
                let told = tx.try_send(JobReply { kind: Some(reply) }).is_ok();
                if last {
                    self.asks.remove(&ask);
                } else if !told {
                    // He takes nothing any more.
                    self.drop_asker(ask);
                }
            }
            LeaderEffect::Read { ask, who, read } => {
                if let (Some(tx), Some(desk)) = (self.asks.remove(&ask), &self.leader.desk) {
                    desk.read(who, read, tx);
                }
            }
            LeaderEffect::Log(level, text) => log(level, &text),
        }
    }

    fn drop_asker(&mut self, ask: AskId) {
        self.asks.remove(&ask);
        self.tell_leader(LeaderInput::Gone(ask));
    }

    /// Fetches what an effect lacks; it and all behind it wait.
    fn fetch(&mut self, lack: Lack, again: LeaderEffect) {
        if let Some(desk) = &self.leader.desk {
            desk.fetch(lack, self.leader.generation, self.batch.tx.clone());
        }
        self.leader.gate.hold(again);
    }

    fn dispatch(&mut self, conn: u64, mut dispatch: Dispatch) {
        let size: usize = dispatch.runs.iter().map(|r| r.run.len()).sum();
        if size > PART {
            for run in std::mem::take(&mut dispatch.runs) {
                let part = Dispatch {
                    runs: vec![run],
                    attempts: Vec::new(),
                    ..dispatch
                };
                self.send_down(conn, down::Kind::Dispatch(part));
            }
        }
        self.send_down(conn, down::Kind::Dispatch(dispatch));
    }

    fn send_down(&mut self, to: u64, message: down::Kind) {
        if let Link::Local { link, conn } = self.link
            && conn == to
        {
            self.local.push_back(Local::ToAgent(link, message));
        } else if let Some(c) = self.conns.get(&to)
            && !c.outbox.push(&Down { kind: Some(message) })
        {
            tracing::warn!(
                "{} takes no more messages of the leader: its connection is closed",
                c.host
            );
            c.outbox.close();
        }
    }
}

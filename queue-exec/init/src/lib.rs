//! The leader of a command's terminal session, and what a session process and it say to each other over a
//! stream socket pair.
//!
//! It becomes the user when told, executes a command in a process group of its own (a session of batch jobs: one
//! after the other), reaps every orphan of the tree, and reports. It knows nothing of networks, keys or people, keeps no secret and parses nothing from
//! outside, because it is what a checkpoint will carry from host to host together with the command's tree.

mod command;
mod init;
mod tree;

pub use init::run;

/// Largest message: an environment and argument list as large as the kernel takes.
pub const MESSAGE_MAX: usize = 16 << 20;

/// What the session tells init. With [`ToInit::Exec`] go three descriptors: stdin, stdout, stderr.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ToInit {
    /// First of all, still as root: become this user.
    Become {
        /// User.
        uid: u32,
        /// Primary group.
        gid: u32,
        /// Supplementary groups.
        groups: Vec<u32>,
    },
    /// Run this. Only once nothing is left of what ran before.
    Exec(Box<Spec>),
    /// Send a signal to every process of the tree.
    SignalTree(i32),
    /// Exit and leave the rest of the tree alone.
    Leave,
}

/// What init tells the session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FromInit {
    /// The command was executed.
    Started {
        /// Its process id, and its group's.
        pid: i32,
    },
    /// It was not, and nothing is left of it. Another command may follow, unless we could not become the user.
    Failed {
        /// What was being done.
        stage: Stage,
        /// Why.
        errno: i32,
    },
    /// The command stopped.
    Stopped {
        /// By this signal.
        signal: i32,
    },
    /// The command goes on.
    Continued,
    /// The command ended.
    Exited {
        /// As `waitpid(2)` gives it.
        status: i32,
        /// CPU time of all that was reaped since the command was started, in microseconds.
        cpu_us: u64,
        /// Largest resident size among them, in KiB.
        maxrss_kib: u64,
    },
    /// Nothing of the tree is left. Another command may follow.
    Empty {
        /// CPU time of all that was reaped since the command was started, in microseconds.
        cpu_us: u64,
        /// Largest resident size among them, in KiB.
        maxrss_kib: u64,
    },
}

/// What init was doing when it failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Stage {
    /// Becoming the user.
    Become = 1,
    /// Making the process, its group, its terminal.
    Process = 2,
    /// Entering the working directory.
    Directory = 3,
    /// Executing the program.
    Exec = 4,
}

impl Stage {
    /// From its number.
    pub fn from_u8(v: u8) -> Option<Self> {
        [Self::Become, Self::Process, Self::Directory, Self::Exec]
            .into_iter()
            .find(|s| *s as u8 == v)
    }
}

/// A command and how it is to be run.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Spec {
    /// Program: with a `/` it is a path, else it is searched in `PATH` of `env`.
    pub program: Vec<u8>,
    /// Arguments, the first one being the name it sees.
    pub argv: Vec<Vec<u8>>,
    /// Environment.
    pub env: Vec<Vec<u8>>,
    /// Working directory.
    pub cwd: Vec<u8>,
    /// If the directory cannot be entered, go on in `/` (a login whose home is away).
    pub cwd_optional: bool,
    /// Umask, if not init's own.
    pub umask: Option<u32>,
    /// Nice value, if larger than init's own.
    pub nice: i32,
    /// Resource, soft, hard; only tightened.
    pub rlimits: Vec<(u32, u64, u64)>,
    /// Signals to ignore: bit N-1 for signal N.
    pub ignored: u64,
    /// Signals to block.
    pub blocked: u64,
    /// Which of descriptors 0 to 2 is the terminal: it becomes the controlling terminal. 255: none.
    pub terminal: u8,
}

/// The bytes are not a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Malformed;

struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn fixed<const N: usize>(&mut self) -> Result<[u8; N], Malformed> {
        let (head, rest) = self.0.split_first_chunk::<N>().ok_or(Malformed)?;
        self.0 = rest;
        Ok(*head)
    }

    fn u8(&mut self) -> Result<u8, Malformed> {
        self.fixed::<1>().map(|b| b[0])
    }

    fn u32(&mut self) -> Result<u32, Malformed> {
        self.fixed().map(u32::from_le_bytes)
    }

    fn i32(&mut self) -> Result<i32, Malformed> {
        self.fixed().map(i32::from_le_bytes)
    }

    fn u64(&mut self) -> Result<u64, Malformed> {
        self.fixed().map(u64::from_le_bytes)
    }

    fn bytes(&mut self) -> Result<&'a [u8], Malformed> {
        let n = self.u32()? as usize;
        if n > self.0.len() {
            return Err(Malformed);
        }
        let (head, rest) = self.0.split_at(n);
        self.0 = rest;
        Ok(head)
    }

    fn list<T>(&mut self, item: impl Fn(&mut Self) -> Result<T, Malformed>) -> Result<Vec<T>, Malformed> {
        // Each item takes at least four bytes, so a large count alone allocates nothing.
        let n = self.u32()? as usize;
        if n > self.0.len() / 4 {
            return Err(Malformed);
        }
        (0..n).map(|_| item(self)).collect()
    }
}

fn put_bytes(v: &mut Vec<u8>, b: &[u8]) {
    v.extend((b.len() as u32).to_le_bytes());
    v.extend(b);
}

fn put_list(v: &mut Vec<u8>, list: &[Vec<u8>]) {
    v.extend((list.len() as u32).to_le_bytes());
    for b in list {
        put_bytes(v, b);
    }
}

/// The length that goes in front of each message: four bytes.
pub const HEAD: usize = 4;

impl ToInit {
    /// The message with its length in front.
    pub fn encode(&self) -> Vec<u8> {
        let mut v = vec![0; HEAD];
        match self {
            Self::Become { uid, gid, groups } => {
                v.push(1);
                v.extend(uid.to_le_bytes());
                v.extend(gid.to_le_bytes());
                v.extend((groups.len() as u32).to_le_bytes());
                groups.iter().for_each(|g| v.extend(g.to_le_bytes()));
            }
            Self::Exec(s) => {
                v.push(2);
                put_bytes(&mut v, &s.program);
                put_list(&mut v, &s.argv);
                put_list(&mut v, &s.env);
                put_bytes(&mut v, &s.cwd);
                v.push(u8::from(s.cwd_optional));
                v.extend(s.umask.unwrap_or(u32::MAX).to_le_bytes());
                v.extend(s.nice.to_le_bytes());
                v.extend((s.rlimits.len() as u32).to_le_bytes());
                for (r, soft, hard) in &s.rlimits {
                    v.extend(r.to_le_bytes());
                    v.extend(soft.to_le_bytes());
                    v.extend(hard.to_le_bytes());
                }
                v.extend(s.ignored.to_le_bytes());
                v.extend(s.blocked.to_le_bytes());
                v.push(s.terminal);
            }
            Self::SignalTree(signal) => {
                v.push(3);
                v.extend(signal.to_le_bytes());
            }
            Self::Leave => v.push(4),
        }
        let n = (v.len() - HEAD) as u32;
        v[..HEAD].copy_from_slice(&n.to_le_bytes());
        v
    }

    /// Reads a message without its length.
    ///
    /// # Errors
    /// [`Malformed`].
    pub fn decode(payload: &[u8]) -> Result<Self, Malformed> {
        let mut r = Reader(payload);
        let m = match r.u8()? {
            1 => Self::Become {
                uid: r.u32()?,
                gid: r.u32()?,
                groups: r.list(Reader::u32)?,
            },
            2 => Self::Exec(Box::new(Spec {
                program: r.bytes()?.to_vec(),
                argv: r.list(|r| r.bytes().map(<[u8]>::to_vec))?,
                env: r.list(|r| r.bytes().map(<[u8]>::to_vec))?,
                cwd: r.bytes()?.to_vec(),
                cwd_optional: r.u8()? != 0,
                umask: Some(r.u32()?).filter(|u| *u != u32::MAX),
                nice: r.i32()?,
                rlimits: r.list(|r| Ok((r.u32()?, r.u64()?, r.u64()?)))?,
                ignored: r.u64()?,
                blocked: r.u64()?,
                terminal: r.u8()?,
            })),
            3 => Self::SignalTree(r.i32()?),
            4 => Self::Leave,
            _ => return Err(Malformed),
        };
        if r.0.is_empty() { Ok(m) } else { Err(Malformed) }
    }
}

impl FromInit {
    /// Length of every message to the session.
    pub const LEN: usize = 24;

    /// The message; always [`Self::LEN`] bytes.
    pub fn encode(&self) -> [u8; Self::LEN] {
        let (kind, a, b, c, d) = match *self {
            Self::Started { pid } => (1, 0, pid, 0, 0),
            Self::Failed { stage, errno } => (2, stage as u8, errno, 0, 0),
            Self::Stopped { signal } => (3, 0, signal, 0, 0),
            Self::Continued => (4, 0, 0, 0, 0),
            Self::Exited {
                status,
                cpu_us,
                maxrss_kib,
            } => (5, 0, status, cpu_us, maxrss_kib),
            Self::Empty { cpu_us, maxrss_kib } => (6, 0, 0, cpu_us, maxrss_kib),
        };
        let mut v = [0; Self::LEN];
        v[0] = kind;
        v[1] = a;
        v[4..8].copy_from_slice(&i32::to_le_bytes(b));
        v[8..16].copy_from_slice(&u64::to_le_bytes(c));
        v[16..24].copy_from_slice(&u64::to_le_bytes(d));
        v
    }

    /// Reads a message.
    ///
    /// # Errors
    /// [`Malformed`].
    pub fn decode(v: &[u8; Self::LEN]) -> Result<Self, Malformed> {
        let mut r = Reader(&v[4..]);
        let (b, c, d) = (r.i32()?, r.u64()?, r.u64()?);
        Ok(match v[0] {
            1 => Self::Started { pid: b },
            2 => Self::Failed {
                stage: Stage::from_u8(v[1]).ok_or(Malformed)?,
                errno: b,
            },
            3 => Self::Stopped { signal: b },
            4 => Self::Continued,
            5 => Self::Exited {
                status: b,
                cpu_us: c,
                maxrss_kib: d,
            },
            6 => Self::Empty {
                cpu_us: c,
                maxrss_kib: d,
            },
            _ => return Err(Malformed),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_come_back_and_cut_ones_are_refused() {
        let spec = Spec {
            program: b"ls".to_vec(),
            argv: vec![b"ls".to_vec(), b"-l\n".to_vec()],
            env: vec![b"A=B".to_vec()],
            cwd: b"/tmp".to_vec(),
            cwd_optional: true,
            umask: Some(0o77),
            nice: -3,
            rlimits: vec![(7, 1, u64::MAX)],
            ignored: 1 << 63,
            blocked: 5,
            terminal: 0,
        };
        for m in [
            ToInit::Become {
                uid: 1,
                gid: 2,
                groups: vec![3, 4],
            },
            ToInit::Exec(Box::new(spec)),
            ToInit::Exec(Box::default()),
            ToInit::SignalTree(9),
            ToInit::Leave,
        ] {
            let v = m.encode();
            assert_eq!(
                u32::from_le_bytes(*v.first_chunk().unwrap()) as usize,
                v.len() - HEAD
            );
            assert_eq!(ToInit::decode(&v[HEAD..]), Ok(m));
            for cut in HEAD..v.len() {
                assert!(ToInit::decode(&v[HEAD..cut]).is_err());
            }
        }
        for m in [
            FromInit::Started { pid: 7 },
            FromInit::Failed {
                stage: Stage::Directory,
                errno: 2,
            },
            FromInit::Stopped { signal: 20 },
            FromInit::Continued,
            FromInit::Exited {
                status: 256,
                cpu_us: u64::MAX,
                maxrss_kib: 1,
            },
            FromInit::Empty {
                cpu_us: 3,
                maxrss_kib: u64::MAX,
            },
        ] {
            assert_eq!(FromInit::decode(&m.encode()), Ok(m));
        }
        assert_eq!(ToInit::decode(&[2, 0xff, 0xff, 0xff, 0xff]), Err(Malformed));
    }
}

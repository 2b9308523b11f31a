//! What to run, and how it is to look like a local command. Nothing of what is said once it runs.

use super::Look;
use prost::{Enumeration, Message};

/// How the command was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Enumeration)]
#[repr(i32)]
pub enum Form {
    /// `queue -- COMMAND`: argv as given, caller's environment and directory.
    Launch = 0,
    /// `queue HOST [COMMAND]`: the user's login shell there, home directory, login environment.
    Rsh = 1,
    /// `queue -c STRING`: `/bin/sh` with these arguments, caller's environment and directory.
    Shell = 2,
}

/// What to run, and how it is to look like a local command. Its encoded bytes are what the ticket's hash
/// covers; they are the first control frame of the stream.
#[derive(Clone, PartialEq, Message)]
pub struct Launch {
    /// The form.
    #[prost(enumeration = "Form", tag = "1")]
    pub form: i32,
    /// Launch: argv. Shell: the arguments after `sh`. Rsh: one string for `SHELL -c`, or none for a login
    /// shell.
    #[prost(bytes = "vec", repeated, tag = "2")]
    pub argv: Vec<Vec<u8>>,
    /// `NAME=VALUE` each. Rsh: only what goes along (`TERM`, `LANG`, `LC_*`).
    #[prost(bytes = "vec", repeated, tag = "3")]
    pub env: Vec<Vec<u8>>,
    /// Working directory; empty in the rsh form (home).
    #[prost(bytes = "vec", tag = "4")]
    pub cwd: Vec<u8>,
    /// Umask; absent in the rsh form (the login default there).
    #[prost(uint32, optional, tag = "5")]
    pub umask: Option<u32>,
    /// Nice value, only ever raised there.
    #[prost(int32, tag = "6")]
    pub nice: i32,
    /// Soft and hard limits, only ever tightened there.
    #[prost(message, repeated, tag = "7")]
    pub rlimits: Vec<Rlimit>,
    /// Signals ignored by the caller: bit N-1 for signal N.
    #[prost(uint64, tag = "8")]
    pub ignored: u64,
    /// Signals blocked by the caller.
    #[prost(uint64, tag = "9")]
    pub blocked: u64,
    /// The terminal to make, if any.
    #[prost(message, optional, tag = "10")]
    pub pty: Option<Pty>,
    /// Standard input is `/dev/null` (`-n` of rsh, `--no-stdin`).
    #[prost(bool, tag = "11")]
    pub no_stdin: bool,
    /// The rsh form on a named host: wait for end of file on the pipes, and leave background processes alone.
    #[prost(bool, tag = "12")]
    pub leave: bool,
    /// Name of the submitting host, for `QUEUE_SUBMIT_HOST`.
    #[prost(string, tag = "13")]
    pub submit_host: String,
    /// Nothing is run: the session says what it sees of these sessions ([`Looked`](super::Looked)) and ends.
    #[prost(message, optional, tag = "14")]
    pub look: Option<Look>,
    /// The caller acknowledges, keeps and resumes the stream; the session does the same then, as it said in its
    /// [`SessionAnswer`](super::SessionAnswer).
    #[prost(bool, tag = "15")]
    pub resume: bool,
    /// X11 connections are forwarded to the caller's display (`-X`).
    #[prost(message, optional, tag = "16")]
    pub x11: Option<X11>,
    /// Connections to the authentication agent are forwarded to the caller's (`-A`).
    #[prost(bool, tag = "17")]
    pub agent: bool,
}

/// How a forwarded display is to look there.
#[derive(Clone, PartialEq, Message)]
pub struct X11 {
    /// Name of the authorisation protocol (`MIT-MAGIC-COOKIE-1`).
    #[prost(string, tag = "1")]
    pub protocol: String,
    /// The cookie that programs there are to show: made for this session, and replaced by the true one where the
    /// display is, so that the true one is not told.
    #[prost(bytes = "vec", tag = "2")]
    pub cookie: Vec<u8>,
    /// Number of the screen.
    #[prost(uint32, tag = "3")]
    pub screen: u32,
}

/// A resource limit. `u64::MAX` is infinity.
#[derive(Clone, PartialEq, Message)]
pub struct Rlimit {
    /// Linux number of the resource (`RLIMIT_*`).
    #[prost(uint32, tag = "1")]
    pub resource: u32,
    /// Soft limit.
    #[prost(uint64, tag = "2")]
    pub soft: u64,
    /// Hard limit.
    #[prost(uint64, tag = "3")]
    pub hard: u64,
}

/// A terminal, and which descriptors are it. Output of a terminal comes on channel stdout.
#[derive(Clone, PartialEq, Message)]
pub struct Pty {
    /// Descriptor 0 is the terminal.
    #[prost(bool, tag = "1")]
    pub stdin: bool,
    /// Descriptor 1 is the terminal.
    #[prost(bool, tag = "2")]
    pub stdout: bool,
    /// Descriptor 2 is the terminal.
    #[prost(bool, tag = "3")]
    pub stderr: bool,
    /// Its modes; absent: the kernel's defaults.
    #[prost(message, optional, tag = "4")]
    pub modes: Option<Termios>,
    /// Its size.
    #[prost(message, optional, tag = "5")]
    pub size: Option<Winsize>,
}

/// Terminal modes, Linux numbering (`termios(3)`).
#[derive(Clone, PartialEq, Message)]
pub struct Termios {
    /// `c_iflag`.
    #[prost(uint32, tag = "1")]
    pub iflag: u32,
    /// `c_oflag`.
    #[prost(uint32, tag = "2")]
    pub oflag: u32,
    /// `c_cflag`.
    #[prost(uint32, tag = "3")]
    pub cflag: u32,
    /// `c_lflag`.
    #[prost(uint32, tag = "4")]
    pub lflag: u32,
    /// `c_cc`.
    #[prost(bytes = "vec", tag = "5")]
    pub cc: Vec<u8>,
}

/// Window size in characters and pixels.
#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub struct Winsize {
    /// Rows.
    #[prost(uint32, tag = "1")]
    pub rows: u32,
    /// Columns.
    #[prost(uint32, tag = "2")]
    pub cols: u32,
    /// Width in pixels.
    #[prost(uint32, tag = "3")]
    pub xpixel: u32,
    /// Height in pixels.
    #[prost(uint32, tag = "4")]
    pub ypixel: u32,
}

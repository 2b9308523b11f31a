//! The command line of `queued`. Each subcommand has a file of its own; this one has the grammar and what
//! they share: where the installation is and what its configuration says.

mod check;
mod complete;
mod init;
mod join;
mod run;
mod token;
mod upgrade;

use crate::{account, name};
use anyhow::{Context as _, bail};
use clap::{Args, Parser, Subcommand};
use libqueue::config::Config;
use libqueue::frame;
use libqueue::wire::{Reply, Request, reply, request};
use nix::unistd::{Gid, Uid};
use queue_exec::layout::Layout;
use std::fs;
use std::io::{self, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

/// Daemon of a host in a Queue cluster
///
/// Without a subcommand it runs in the foreground; with nothing set up it works for this machine alone.
#[derive(Debug, Parser)]
#[command(
    name = "queued",
    version,
    disable_help_subcommand = true,
    args_conflicts_with_subcommands = true
)]
#[command(
    after_help = "A cluster of two: on the first host 'queued init' and 'queued token', on the second \
                        'queued join TOKEN'; 'queued run' on both."
)]
pub struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    run: Run,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Make this host the first of a cluster
    Init(Init),
    /// Print a token that lets a host join
    Token(Token),
    /// Make this host a member
    Join(Join),
    /// Run the daemon in the foreground (the default)
    Run(Run),
    /// Say what is wrong with the configuration, by file and line
    Check(Check),
    /// Have the programs that are installed now take the place of those that run: jobs and sessions go on
    Upgrade(Upgrade),
}

#[derive(Debug, Default, Args)]
struct Run {
    /// Listen on this TCP port [default: 7838]
    #[arg(long, value_name = "PORT", value_parser = clap::value_parser!(u16).range(1..))]
    port: Option<u16>,
    /// Go on where the program before was, which left a note in this descriptor
    #[arg(long, value_name = "N", hide = true)]
    takeover: Option<String>,
}

#[derive(Debug, Args)]
struct Check {
    /// And that this program could take over from one that runs
    #[arg(long, hide = true)]
    takeover: bool,
}

#[derive(Debug, Args)]
struct Upgrade {
    /// Say what runs now for programs
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
struct Init {
    /// The cluster's name, for people [default: queue]
    #[arg(long, value_name = "CLUSTER")]
    name: Option<String>,
    /// This host's name in the cluster [default: its host name]
    #[arg(long, value_name = "NAME")]
    host: Option<String>,
    /// Where other hosts reach this one: HOST or HOST:PORT (an IPv6 address with a port in brackets)
    #[arg(long, value_name = "ADDRESS")]
    advertise: Option<String>,
    /// Even though the host's name is spelled like a verb of queue
    #[arg(long)]
    force: bool,
    /// How long host certificates are valid (they are renewed in time by themselves)
    #[arg(long, value_name = "TIME", value_parser = token::span, hide = true)]
    cert_lifetime: Option<Duration>,
}

#[derive(Debug, Args)]
struct Token {
    /// How long it may be used: 90s, 15m, 12h, 7d
    #[arg(long, value_name = "TIME", default_value = "15m", value_parser = token::span)]
    ttl: Duration,
    /// How many hosts may use it
    #[arg(long, value_name = "N", default_value_t = 1)]
    uses: u32,
    /// Whom those hosts may vouch for: user names with commas between, * for all ordinary users [default: *]
    #[arg(long, value_name = "USERS")]
    vouch: Option<String>,
    /// Only for a host of this name
    #[arg(long, value_name = "NAME")]
    host: Option<String>,
    /// Without an address: hosts in the same LAN find this one by multicast DNS
    #[arg(long)]
    lan: bool,
}

#[derive(Debug, Args)]
struct Join {
    /// What 'queued token' printed; - to read it from standard input
    token: String,
    /// Where other hosts reach this one: HOST or HOST:PORT (an IPv6 address with a port in brackets)
    #[arg(long, value_name = "ADDRESS")]
    advertise: Option<String>,
    /// This host's name in the cluster [default: its host name]
    #[arg(long, value_name = "NAME")]
    host: Option<String>,
    /// Port that queued will listen on here [default: 7838]
    #[arg(long, value_name = "PORT", value_parser = clap::value_parser!(u16).range(1..))]
    port: Option<u16>,
    /// Even though the host's name is spelled like a verb of queue
    #[arg(long)]
    force: bool,
}

/// Parses the command line and does what it says.
pub fn main() -> ExitCode {
    // Scripts of shells ask this; it stands in no help, and its words are no options of ours.
    let args: Vec<_> = std::env::args_os().skip(1).collect();
    if let Some((first, rest)) = args.split_first()
        && first == "complete"
    {
        complete::run(rest);
        return ExitCode::SUCCESS;
    }
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(e) => return refused(&e),
    };
    let result = match cli.command.unwrap_or(Command::Run(cli.run)) {
        Command::Init(args) => init::run(&args),
        Command::Token(args) => token::run(&args),
        Command::Join(args) => join::run(&args),
        Command::Run(args) => run::run(&args),
        Command::Upgrade(args) => upgrade::run(&args),
        Command::Check(Check { takeover: _ }) => match check::run() {
            Ok(0) => Ok(()),
            Ok(_) => return ExitCode::FAILURE,
            Err(e) => Err(e),
        },
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            note(&format!("{e:#}"));
            ExitCode::FAILURE
        }
    }
}

/// Words that the grammar does not have: one line, as for all that goes wrong. Help and version are as they are.
fn refused(e: &clap::Error) -> ExitCode {
    if !e.use_stderr() {
        e.exit();
    }
    let text = e.to_string();
    note(&one_line(&text));
    ExitCode::from(u8::try_from(e.exit_code()).unwrap_or(2))
}

/// What is wrong, of the page that the parser of the command line has for it: what is missing stands in lines of its
/// own, indented; usage and hints follow behind an empty line.
fn one_line(page: &str) -> String {
    let page = page.strip_prefix("error: ").unwrap_or(page);
    let what: Vec<&str> = page
        .lines()
        .map(str::trim)
        .take_while(|l| !l.is_empty())
        .collect();
    let usage = page.lines().find_map(|l| l.strip_prefix("Usage: "));
    // The words of the subcommand: options and values begin otherwise.
    let words = usage.unwrap_or("queued").split(' ');
    let verb: Vec<&str> = words
        .take_while(|w| w.starts_with(|c: char| c.is_ascii_lowercase()))
        .collect();
    format!("{} (`{} --help` tells more)", what.join(" "), verb.join(" "))
}

/// A line for people on standard error.
fn note(text: &str) {
    let _ = writeln!(io::stderr(), "queued: {text}");
}

/// A line on standard output.
fn say(text: &str) {
    let _ = writeln!(io::stdout(), "{text}");
}

/// An installation: where it is, and what its configuration says.
struct Site {
    layout: Layout,
    config: Config,
    config_file: PathBuf,
    /// We are root, and have to leave the daemon's files to its user.
    root: bool,
}

impl Site {
    /// The installation of whoever calls.
    fn open() -> anyhow::Result<Self> {
        let root = nix::unistd::geteuid().is_root();
        let mut layout = Layout::for_daemon(root || account::is_daemon_user());
        let config_file = config_file(&layout);
        let config = Config::load(&config_file)?;
        if let Some(dir) = &config.state_dir {
            layout.state.clone_from(dir);
        }
        Ok(Self {
            layout,
            config,
            config_file,
            root,
        })
    }

    /// The owner of the daemon's room, made if need be with the directories above: `None` in a single-user
    /// install.
    fn owner(&self) -> anyhow::Result<Option<(Uid, Gid)>> {
        if !self.root {
            return Ok(None);
        }
        for dir in [&self.layout.config, &self.layout.state] {
            if !dir.is_dir() {
                let failed = || format!("cannot make {}", dir.display());
                fs::create_dir_all(dir).with_context(failed)?;
                // Whatever root's umask is: the daemon's user has to get through.
                fs::set_permissions(dir, fs::Permissions::from_mode(0o755)).with_context(failed)?;
            }
        }
        account::ensure().map(|u| Some((u.uid, u.gid)))
    }

    /// Only who may read the host's keys can go on.
    fn need_root(&self, what: &str) -> anyhow::Result<()> {
        if self.layout.root && !self.root {
            bail!("{what} has to be done as root");
        }
        Ok(())
    }

    /// The host's name: as said, as configured, or its host name; in lower case.
    fn host_name(&self, said: Option<&str>, force: bool) -> anyhow::Result<String> {
        let name = said
            .or(self.config.name.as_deref())
            .map_or_else(name::default_name, str::to_ascii_lowercase);
        name::check(&name, force)?;
        Ok(name)
    }

    /// Asks the running daemon; `None` if none runs.
    fn ask(&self, question: request::Kind) -> anyhow::Result<Option<reply::Kind>> {
        let path = self.layout.queued_socket();
        let Ok(mut s) = UnixStream::connect(&path) else {
            return Ok(None);
        };
        s.set_read_timeout(Some(Duration::from_secs(5)))?;
        s.set_write_timeout(Some(Duration::from_secs(5)))?;
        let talk = (|| {
            s.write_all(&frame::encode(&Request { kind: Some(question) }))?;
            frame::read::<Reply>(&mut s)
        })();
        let reply = talk.with_context(|| format!("no answer from queued at {}", path.display()))?;
        match reply.kind {
            Some(reply::Kind::Error(e)) => bail!("{}", e.text),
            k => Ok(k),
        }
    }

    /// What to type, or to have the service manager do, so that the daemon runs.
    fn how_to_run(&self) -> &'static str {
        let unit = [
            "/etc/systemd/system",
            "/usr/lib/systemd/system",
            "/lib/systemd/system",
        ]
        .iter()
        .any(|d| std::path::Path::new(d).join("queued.service").exists());
        if self.layout.root && unit && std::path::Path::new("/run/systemd/system").exists() {
            "systemctl enable --now queue-exec queued"
        } else {
            "queued run"
        }
    }
}

/// The configuration file: `QUEUE_CONFIG`, or where the layout has it.
fn config_file(layout: &Layout) -> PathBuf {
    std::env::var_os("QUEUE_CONFIG")
        .filter(|v| !v.is_empty())
        .map(PathBuf::from)
        .filter(|p| p.is_absolute())
        .unwrap_or_else(|| layout.queued_toml())
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory as _;

    #[test]
    fn the_grammar_is_sound_and_run_is_the_default() {
        Cli::command().debug_assert();
        let c = Cli::try_parse_from(["queued", "--port", "7000"]).unwrap();
        assert!(c.command.is_none() && c.run.port == Some(7000));
        assert!(matches!(
            Cli::try_parse_from(["queued", "run", "--port", "1"])
                .unwrap()
                .command,
            Some(Command::Run(Run { port: Some(1), .. }))
        ));
        assert!(matches!(
            Cli::try_parse_from(["queued", "join", "-"]).unwrap().command,
            Some(Command::Join(_))
        ));
        for bad in [
            &["queued", "--port", "0"][..],
            &["queued", "join"],
            &["queued", "frobnicate"],
        ] {
            assert!(Cli::try_parse_from(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn what_is_wrong_is_one_line() {
        for (words, said) in [
            (
                &["queued", "upgrade", "now"][..],
                "unexpected argument 'now' found (`queued upgrade --help` tells more)",
            ),
            (
                &["queued", "frobnicate"],
                "unrecognized subcommand 'frobnicate' (`queued --help` tells more)",
            ),
            (
                &["queued", "join"],
                "the following required arguments were not provided: <TOKEN> (`queued join --help` tells more)",
            ),
        ] {
            let e = Cli::try_parse_from(words).map(|_| ()).unwrap_err();
            assert_eq!(one_line(&e.to_string()), said);
        }
    }
}

//! The grammar as a table: what was typed, and what it means in one line.

use super::*;
use crate::verbs::table;
use libqueue::wire::Place;
use std::fmt::Write as _;

/// Splits at blanks; `%` stands for a blank inside a word, `''` for an empty word.
fn words(line: &str) -> Vec<OsString> {
    line.split_whitespace()
        .map(|w| {
            if w == "''" {
                OsString::new()
            } else {
                w.replace('%', " ").into()
            }
        })
        .collect()
}

fn join(v: &[OsString]) -> String {
    v.join(OsStr::new("|")).to_string_lossy().into_owned()
}

/// The meaning in one line: form, place, then only what differs from the default.
fn meaning(line: &str) -> String {
    let all = words(line);
    match decide(&all[0], &all[1..]) {
        Err(e) => format!("{} {}", e.code(), e.text),
        Ok(Command::Submit(s)) => {
            let (form, words) = match &s.what {
                Work::Launch(v) => ("command", v),
                Work::Script(v) => ("script", v),
                Work::Shell(v) => ("sh", v),
            };
            let stays = if s.attached { " stays" } else { "" };
            let json = if s.json { " json" } else { "" };
            format!("batch {form} {}{stays}{json}", join(words))
        }
        Ok(Command::Run(r)) => {
            let mut s = match &r.what {
                What::Launch(v) => format!("launch {}", join(v)),
                What::Shell(v) => format!("sh {}", join(v)),
                What::Rsh(Some(c)) => format!("rsh {}", c.to_string_lossy()),
                What::Rsh(None) => "rsh login".to_owned(),
            };
            let _ = match &r.host {
                Target::Any => write!(s, " @+"),
                Target::Only(h) => write!(s, " @{h}"),
                Target::Prefer(h) => write!(s, " @~{h}"),
            };
            let default = match &r.what {
                What::Launch(_) => Tty::Auto,
                What::Rsh(None) => Tty::Login,
                _ => Tty::None,
            };
            if r.tty != default {
                let _ = write!(s, " tty={:?}", r.tty);
            }
            if !r.login.is_empty() {
                let _ = write!(s, " as {}", r.login);
            }
            if r.wait {
                s += " waits";
            }
            if let Some(n) = r.need.wire(false) {
                let _ = write!(s, " needs {}", crate::need::in_words(&n));
            }
            if r.no_stdin {
                s += " <null";
            }
            if let Some(t) = &r.tee {
                let _ = write!(s, " tee={}", t.display());
            }
            if let Some(t) = r.connect_timeout {
                let _ = write!(s, " within={}", t.as_secs());
            }
            if r.x11 {
                s += " x11";
            }
            if r.agent {
                s += " agent";
            }
            for e in r.send_env.iter().chain(&r.set_env) {
                let _ = write!(s, " env:{}", e.to_string_lossy());
            }
            s
        }
        Ok(Command::Help(topic)) => match topic {
            Topic::Queue => "help on queue".to_owned(),
            Topic::Qsh => "help on qsh".to_owned(),
            Topic::QueueSh => "help on queue-sh".to_owned(),
            Topic::Verb(v) => format!("help on {}", v.name),
        },
        Ok(other) => format!("{other:?}"),
    }
}

#[test]
fn forwarding() {
    for (typed, means) in [
        ("queue -- x", "launch x @+"),
        ("queue -X -- x", "launch x @+ x11"),
        ("queue -Y -h B -- x", "launch x @B x11"),
        ("queue -A -X -- x", "launch x @+ x11 agent"),
        ("queue -XA -a -- x", "launch x @+ x11"),
        ("queue -x -X -- x", "launch x @+ x11"),
        ("queue -Xx -- x", "launch x @+"),
        ("queue -X h2", "rsh login @h2 x11"),
        ("queue -A -t h2 ls", "rsh ls @h2 tty=Login agent"),
        ("qsh -Y h2 xterm", "rsh xterm @h2 x11"),
        ("qsh -AX -a -x h2", "rsh login @h2"),
        (
            "qsh -o ForwardX11=yes -oforwardagent=YES h2",
            "rsh login @h2 x11 agent",
        ),
        ("qsh -XA -oForwardX11=no -oForwardAgent%no h2", "rsh login @h2"),
        // ssh takes a socket's path here.
        ("qsh -A -oForwardAgent=/tmp/socket h2", "rsh login @h2 agent"),
        // Still a shell's options.
        ("queue -x -c ls", "sh -x|-c|ls @+"),
        ("queue -a ./script", "sh -a|./script @+"),
    ] {
        assert_eq!(meaning(typed), means, "{typed}");
    }
    assert!(meaning("queue -X hosts").contains("ambiguous"));
    assert!(meaning("queue -b -X -- x").contains("-X leads to the caller"));
}

#[test]
fn launch_form() {
    for (typed, means) in [
        ("queue -- ls -l", "launch ls|-l @+"),
        ("queue -i -- matlab", "launch matlab @+"),
        ("queue --interactive -- x", "launch x @+"),
        ("queue --immediate -- x", "launch x @+"),
        ("queue -h B -n -- hostname", "launch hostname @B tty=None"),
        ("queue -hB -- x", "launch x @B"),
        ("queue --host B -- x", "launch x @B"),
        ("queue --host=B -- x", "launch x @B"),
        ("queue -h + -- hostname", "launch hostname @+"),
        ("queue -H B -n -- hostname", "launch hostname @~B tty=None"),
        ("queue --prefer=B -- x", "launch x @~B"),
        ("queue -h A -H B -- x", "launch x @~B"),
        ("queue -H B -h A -- x", "launch x @A"),
        ("queue -p -- vim a b", "launch vim|a|b @+ tty=Full"),
        ("queue -o -- x", "launch x @+ tty=Input"),
        ("queue -o -- a=b", "launch a=b @+ tty=Input"),
        ("queue -in -- x", "launch x @+ tty=None"),
        ("queue -p -n -- x", "launch x @+ tty=None"),
        ("queue -pihB -- x", "launch x @B tty=Full"),
        ("queue -l bob -- x", "launch x @+ as bob"),
        ("queue -lbob -- x", "launch x @+ as bob"),
        ("queue --no-stdin -- x", "launch x @+ <null"),
        ("queue --tee F -- x", "launch x @+ tee=F"),
        ("queue --tee=F -- x", "launch x @+ tee=F"),
        ("queue -d now -- x", "launch x @+"),
        ("queue -q -i -- x", "launch x @+"),
        ("queue -q -- x", "launch x @+ waits needs 1 core"),
        ("queue -i -q -- x", "launch x @+ waits needs 1 core"),
        ("queue -d wait -- x", "launch x @+ waits needs 1 core"),
        ("queue -q --class=now -- x", "launch x @+"),
        (
            "queue --queue --cores 4 -h B -- x",
            "launch x @B waits needs 4 cores",
        ),
        (
            "queue --mem=4G --gpus 1 --disk 1T -- x",
            "launch x @+ needs 4.0G memory, 1 GPU, 1.0T disk",
        ),
        ("queue -R raid>=200G -- x", "launch x @+ needs -R 'raid>=200G'"),
        ("queue -- -x", "launch -x @+"),
        ("queue -- -- x", "launch --|x @+"),
        ("queue -- hosts", "launch hosts @+"),
        ("queue -h hosts -- x", "launch x @hosts"),
        ("queue -- a%b ''", "launch a b| @+"),
        ("/usr/bin/queue -- x", "launch x @+"),
        ("queue -- sh -c echo", "launch sh|-c|echo @+"),
        (
            "queue -- cat /dev/fd/2 /dev/fd/x fd/63",
            "launch cat|/dev/fd/2|/dev/fd/x|fd/63 @+",
        ),
    ] {
        assert_eq!(meaning(typed), means, "{typed}");
    }
}

#[test]
fn rsh_form() {
    for (typed, means) in [
        ("queue h2", "rsh login @h2"),
        ("queue +", "rsh login @+"),
        ("queue h2 ''", "rsh login @h2"),
        ("queue h2 ls -l /", "rsh ls -l / @h2"),
        ("queue h2 ls -- x", "rsh ls -- x @h2"),
        ("queue bob@h2 id", "rsh id @h2 as bob"),
        ("queue a@b@h2 id", "rsh id @h2 as a@b"),
        ("queue -l alice bob@h2 id", "rsh id @h2 as alice"),
        ("queue -lalice h2 id", "rsh id @h2 as alice"),
        ("queue -nx h2 id", "rsh id @h2 <null"),
        ("queue -q h2 id", "rsh id @h2"),
        ("queue -4 -6 -X -x h2 id", "rsh id @h2"),
        ("queue -p 22 h2 id", "rsh id @h2"),
        ("queue -p22 h2 id", "rsh id @h2"),
        ("queue -np 22 h2 id", "rsh id @h2 <null"),
        ("queue -o BatchMode=yes h2 id", "rsh id @h2"),
        ("queue -oBatchMode=yes h2 id", "rsh id @h2"),
        (
            "queue -o SendEnv=GIT_PROTOCOL h2 git-upload-pack%'x'",
            "rsh git-upload-pack 'x' @h2 env:GIT_PROTOCOL",
        ),
        ("queue -o SetEnv=A=B%C h2 env", "rsh env @h2 env:A=B C"),
        ("queue -o User=bob h2 id", "rsh id @h2 as bob"),
        ("queue -o ConnectTimeout=5 h2 id", "rsh id @h2 within=5"),
        ("queue -t h2 vim", "rsh vim @h2 tty=Login"),
        ("queue -tt h2 vim", "rsh vim @h2 tty=Force"),
        ("queue -t -t h2 vim", "rsh vim @h2 tty=Force"),
        ("queue -T h2", "rsh login @h2 tty=None"),
        ("queue -o RequestTTY=no h2", "rsh login @h2 tty=None"),
        ("queue -o RequestTTY=force h2 x", "rsh x @h2 tty=Force"),
        ("queue --tee F h2 x", "rsh x @h2 tee=F"),
        ("queue --no-stdin h2 x", "rsh x @h2 <null"),
        (
            "queue -l alice h2 rsync --server -e.Lsfx . rel/dir",
            "rsh rsync --server -e.Lsfx . rel/dir @h2 as alice",
        ),
        // As scp has it.
        (
            "queue -x -oPermitLocalCommand=no -oClearAllForwardings=yes -oRemoteCommand=none -oRequestTTY=no -l bob -- h2 scp%-t%.",
            "rsh scp -t . @h2 as bob",
        ),
        ("queue -oForwardX11%no -x -- h2 id", "rsh id @h2"),
        ("queue -G h2", "PrintConfig { host: \"h2\", login: \"\" }"),
        ("queue -G bob@h2", "PrintConfig { host: \"h2\", login: \"bob\" }"),
        ("qsh h2 uptime", "rsh uptime @h2"),
        ("qsh hosts uptime", "rsh uptime @hosts"),
        ("qsh + hostname", "rsh hostname @+"),
        ("qsh -l bob B ls -l /", "rsh ls -l / @B as bob"),
        ("qsh -- h2 ls", "rsh ls @h2"),
        ("qsh h2 -- exec%perl", "rsh exec perl @h2"),
        ("qsh -2 -a -x -lbob h2 date", "rsh date @h2 as bob"),
        ("qsh -i id_rsa -F none -e none -c aes h2 date", "rsh date @h2"),
        ("/opt/bin/qsh -p 22 h2", "rsh login @h2"),
        ("qsh -o %User%bob h2", "rsh login @h2"),
        ("qsh h2 -l", "rsh -l @h2"),
        ("qsh h2 ls % ''", "rsh ls    @h2"),
    ] {
        assert_eq!(meaning(typed), means, "{typed}");
    }
    assert!(meaning("queue -x -s -- h2 sftp").contains("exec sftp-server"));
}

#[test]
fn shell_form() {
    for (typed, means) in [
        ("queue -c echo%hi", "sh -c|echo hi @+"),
        ("queue -ec x", "sh -ec|x @+"),
        ("queue -xec x name a b", "sh -xec|x|name|a|b @+"),
        ("queue -e -c x", "sh -e|-c|x @+"),
        ("queue -eu -o pipefail -c x", "sh -eu|-o|pipefail|-c|x @+"),
        ("queue -euo pipefail -c x", "sh -euo|pipefail|-c|x @+"),
        ("queue -o errexit -c x", "sh -o|errexit|-c|x @+"),
        ("queue +e -c x", "sh +e|-c|x @+"),
        ("queue -c -- hosts", "sh -c|--|hosts @+"),
        ("queue -c hosts", "sh -c|hosts @+"),
        (
            "queue ./libtool --mode=link gcc",
            "sh ./libtool|--mode=link|gcc @+",
        ),
        ("queue /bin/script -h x", "sh /bin/script|-h|x @+"),
        ("queue -e ./configure", "sh -e|./configure @+"),
        ("queue -x ./configure", "sh -x|./configure @+"),
        ("queue-sh", "sh  @+"),
        ("queue-sh -c x", "sh -c|x @+"),
        ("queue-sh -i -c x", "sh -i|-c|x @+"),
        ("queue-sh script", "sh script @+"),
        ("queue-sh hosts", "sh hosts @+"),
        ("-queue-sh", "sh  @+"),
    ] {
        assert_eq!(meaning(typed), means, "{typed}");
    }
}

#[test]
fn verbs_and_information() {
    for (typed, means) in [
        (
            "queue hosts remove h2",
            "Verb(RemoveHost { name: \"h2\", json: false })",
        ),
        (
            "queue --json hosts remove h2",
            "Verb(RemoveHost { name: \"h2\", json: true })",
        ),
        ("queue hosts --help", "help on hosts"),
        ("queue --help hosts", "help on hosts"),
        ("queue kill --frob --help", "help on kill"),
        ("queue explain --cores 2 --help -- x", "help on explain"),
        ("queue help", "help on queue"),
        ("queue help drain", "help on drain"),
        ("queue help qsh", "help on qsh"),
        ("queue help queue-sh", "help on queue-sh"),
        ("queue help help", "help on queue"),
        ("queue --help", "help on queue"),
        ("queue -n --help -- x", "help on queue"),
        ("queue --version", "Version"),
        ("qsh --help", "help on qsh"),
        ("qsh --version", "Version"),
        ("queue-sh --help", "help on queue-sh"),
        ("queue-sh --version", "Version"),
        ("queue-sh --version x", "sh --version|x @+"),
    ] {
        assert_eq!(meaning(typed), means, "{typed}");
    }
}

#[test]
fn errors_say_what_to_do_and_have_the_exit_code_of_their_form() {
    for (typed, code, part) in [
        ("queue", 125, "queue -- COMMAND"),
        ("queue --", 125, "nothing to run behind"),
        ("queue -- ''", 125, "empty word"),
        ("queue -h", 125, "help is --help"),
        ("queue -h B", 125, "nothing to run"),
        ("queue -h B hostname", 125, "behind `--`"),
        ("queue -i hostname", 125, "behind `--`"),
        ("queue -H B hostname", 125, "behind `--`"),
        ("queue -p h2 vim", 125, "qsh -t h2"),
        ("queue -o h2 vim", 125, "qsh -t h2"),
        ("queue -t -- vim", 125, "qsh -t HOST"),
        ("queue -k -i -- vim", 125, "qsh -k"),
        ("queue -h B -o A=B h2", 125, "qsh -o"),
        ("queue -Z -- x", 125, "unknown option -Z"),
        ("queue -nZ h2", 125, "unknown option -Z in -nZ"),
        ("queue --frob -- x", 125, "unknown option --frob"),
        ("queue --no-stdin=1 -- x", 125, "takes no value"),
        ("queue --tee", 125, "--tee needs a value: FILE"),
        ("queue -d sas -- x", 125, "-d sas: a class is for batch jobs"),
        ("queue -q --class=now -d sas -- x", 125, "-d sas"),
        ("queue --time 5 -- x", 125, "--time is for batch jobs"),
        ("queue -b -i --time 5 -- x", 125, "--time is for batch jobs"),
        ("queue -b", 125, "nothing to run"),
        ("queue -b --", 125, "nothing to run behind"),
        ("queue -b --time 5x -- x", 125, "--time: `5x`"),
        ("queue -b kill 12", 125, "`queue -b -- kill"),
        ("queue -h -- true", 125, "-h needs a value: HOST"),
        ("queue -b -h -- true", 125, "-h needs a value: HOST"),
        (
            "queue -b --retries -1 -- x",
            125,
            "--retries: the value must not be negative: -1",
        ),
        (
            "queue jobs foo",
            125,
            "a host named `jobs` is reached by `qsh jobs`",
        ),
        ("queue -b -t -- x", 125, "-t is of the rsh form"),
        ("queue -b --tee x -- x", 125, "add -w"),
        ("queue -b -- cat /dev/fd/63", 125, "<(...)"),
        ("queue -b -p -- x", 125, "-p asks for a terminal"),
        ("queue -b --checkpoint on -- x", 125, "comes with migration"),
        ("queue --checkpoint=on -- x", 125, "comes with migration"),
        ("queue log", 125, "usage: queue log"),
        ("queue log x", 125, "no number of a job"),
        ("queue admin fetch x", 125, "are versions mixed"),
        ("queue --json -- x", 125, "is for verbs"),
        ("queue top", 125, "`queue top` is not"),
        ("queue web", 125, "`queue web` is not"),
        ("queue admin x --y", 125, "does not know --y"),
        ("queue help top", 125, "`queue top` is not"),
        ("queue help frob", 125, "no help on `frob`"),
        ("queue --cores 0 -- x", 125, "--cores: `0` is no number"),
        ("queue --cores 4 x", 125, "behind `--`"),
        ("queue --mem=4G", 125, "nothing to run"),
        ("queue --mem 4X -- x", 125, "--mem: "),
        ("queue -R a> -- x", 125, "-R: "),
        ("queue explain make", 125, "`queue explain ... -- make ...`"),
        ("queue explain -k -- make", 125, "does not know -k"),
        ("queue -n kill s123", 125, "qsh -n kill"),
        ("queue -n hosts", 125, "qsh -n hosts"),
        ("queue hosts uptime", 125, "qsh hosts"),
        ("queue hosts remove", 125, "one NAME"),
        ("queue hosts remove a b", 125, "one NAME"),
        ("queue hosts --frob", 125, "--frob"),
        ("queue -n ./script", 125, "queue-sh -n"),
        ("queue -i -c x", 125, "queue-sh -i"),
        ("queue -h B ./script", 125, "behind `--`"),
        ("queue -l bob ./script", 255, "no host name"),
        ("queue -- cat /dev/fd/63", 125, "<(...)"),
        ("queue -- cat --file=/proc/self/fd/12", 125, "<(...)"),
        ("qsh h2 cat /dev/fd/63", 255, "<(...)"),
        ("queue h2 cat /dev/fd/63", 255, "<(...)"),
        ("qsh", 255, "no host"),
        ("qsh -l", 255, "needs a value: USER"),
        ("qsh -h h2", 255, "unknown option -h"),
        ("qsh -N h2", 255, "-N is not done here"),
        ("qsh -L 1:h:2 h2", 255, "-L is not done here"),
        ("qsh -i h2", 255, "no host"),
        ("qsh --host h2 x", 255, "--host does not belong"),
        ("qsh @ x", 255, "no host name"),
        ("qsh -s h2 nfs", 255, "no such subsystem"),
        ("qsh a%b x", 255, "no host name"),
    ] {
        let got = meaning(typed);
        assert!(
            got.starts_with(&format!("{code} ")) && got.contains(part),
            "{typed}\n  gave: {got}"
        );
        assert!(!got.contains('\n'));
    }
}

#[test]
fn batch_jobs() {
    for (typed, means) in [
        ("queue -b -- make all", "batch command make|all"),
        ("queue -r -- x", "batch command x"),
        ("queue --batch --json -- x", "batch command x json"),
        ("queue -bw -- x -y", "batch command x|-y stays"),
        ("queue -w -- x", "batch command x stays"),
        ("queue -q -b -- x", "batch command x"),
        ("queue -i -b -- x", "batch command x"),
        ("queue -b ./s.sh a -b", "batch script ./s.sh|a|-b"),
        ("queue -b s.sh", "batch script s.sh"),
        ("queue -b --cores 2 s.sh", "batch script s.sh"),
        ("queue -b -c exit%3", "batch sh -c|exit 3"),
        ("queue -w -c x%$1 sh a", "batch sh -c|x $1|sh|a stays"),
        ("queue -b -c x -- a", "batch sh -c|x|a"),
        ("queue -b --retries -- x", "batch command x"),
        ("queue -b --retries 2 -- x", "batch command x"),
        ("queue -b --dedupe -- x", "batch command x"),
        ("queue -b --dedupe=1h -- x", "batch command x"),
        ("queue -b -n -h h2 -l bob -- x", "batch command x"),
        ("queue -b --help", "help on queue"),
        // Behind the host or the command they are somebody else's.
        ("queue -b -i -- x", "launch x @+"),
    ] {
        assert_eq!(meaning(typed), means, "{typed}");
    }
    let log = |line: &str| matches!(decide(&words(line)[0], &words(line)[1..]), Ok(Command::Log(_)));
    assert!(log("queue log -f 12") && log("queue --json log 12"));
    assert!(matches!(
        decide(OsStr::new("queue"), &words("admin spool 12")),
        Ok(Command::Inner(_))
    ));
}

#[test]
fn every_later_option_is_refused_and_never_taken_for_a_host() {
    for o in crate::options::LATER {
        for spelled in o
            .short
            .chars()
            .map(|c| format!("-{c}"))
            .chain(o.long.iter().map(|w| format!("--{w}")))
        {
            let value = if o.value.is_empty() { "" } else { "1" };
            let got = meaning(&format!("queue {spelled} {value} -- true"));
            assert!(
                got.starts_with("125 ") && got.contains("not in this version yet"),
                "{spelled}: {got}"
            );
        }
    }
    let works = |v: &str| v == "help" || table::by_name(v).is_some();
    for v in VERB_NAMES.iter().filter(|v| !works(v)) {
        assert!(meaning(&format!("queue {v}")).contains("not in this version yet"));
    }
}

#[test]
fn what_the_daemon_is_asked() {
    let place = |line: &str| match decide(&words(line)[0], &words(line)[1..]) {
        Ok(Command::Run(r)) => r.place(),
        Ok(Command::Verb(Ask::Explain { place, .. })) => place,
        other => panic!("{line}: {other:?}"),
    };
    for line in ["queue -- x", "queue + x", "queue -h + -- x", "queue -c x"] {
        assert_eq!(place(line), Place::default(), "{line}");
    }
    // An administrator's way in is by name, in the rsh form only.
    for (line, by_name) in [
        ("queue h2 x", true),
        ("qsh h2", true),
        ("queue -h h2 -- x", false),
    ] {
        let p = place(line);
        assert_eq!(
            (p.host.as_str(), p.need.is_some_and(|n| n.by_name)),
            ("h2", by_name),
            "{line}"
        );
    }
    let p = place("queue -H h2 --cores 3 -q -- x");
    assert!(p.prefer && p.wait && p.host == "h2");
    assert_eq!(p.need.unwrap().cores, 3);
    assert_eq!(
        place("queue explain -H h2 --cores 3 -q -- x -y"),
        place("queue -H h2 --cores 3 -q -- x")
    );
    assert_eq!(place("queue explain"), Place::default());
    assert_eq!(
        place("queue explain -b --time 1h --cores 2 -- x"),
        place("queue --cores 2 -- x")
    );
}

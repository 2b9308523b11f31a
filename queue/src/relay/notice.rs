//! What is told while the host does not answer, and when we leave before the command does. Pure: texts.

use super::escape;
use crate::messages::printable;
use crate::table::cut;
use libqueue::wire::Detached;

/// How a user can leave although nobody answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Exit {
    /// By this escape character and a dot.
    Escape(u8),
    /// By Ctrl-C, twice.
    Interrupt,
    /// There is no keyboard.
    None,
}

/// The host does not answer.
pub(super) fn silent(host: &str, exit: Exit) -> String {
    match exit {
        Exit::Escape(c) => format!("{host} does not answer; waiting, {}. to give up", escape::show(c)),
        Exit::Interrupt => format!("{host} does not answer; waiting, Ctrl-C twice to give up"),
        Exit::None => format!("{host} does not answer; waiting"),
    }
}

/// Bytes that show a text in the last line of a screen of so many rows, the other way round, and leave the cursor and
/// its looks as they are (`DECSC`, origin mode off, `CUP`, `SGR 7`, `EL`, `DECRC`).
pub(super) fn status(text: &str, rows: u32, columns: usize) -> String {
    panel(&[text], rows, columns)
}

/// The same with some lines, of which as many are shown as there is room for.
pub(super) fn panel(lines: &[impl AsRef<str>], rows: u32, columns: usize) -> String {
    let mut out = String::from("\x1b7\x1b[?6l");
    let first = u64::from(rows) + 1 - u64::from(rows).min(lines.len() as u64);
    for (row, text) in (first..=rows.into()).zip(lines) {
        // The last column stays free: a terminal may scroll there.
        let line = cut(
            &format!(" queue: {} ", text.as_ref()),
            Some(columns.saturating_sub(1).max(20)),
        );
        out += &format!("\x1b[{row};1H\x1b[0;7m{line}\x1b[m\x1b[K");
    }
    out + "\x1b8"
}

/// Bytes that empty that line.
pub(super) fn no_status(rows: u32) -> String {
    format!("\x1b7\x1b[?6l\x1b[{rows};1H\x1b[m\x1b[2K\x1b8")
}

/// It does again.
pub(super) fn back(host: &str) -> String {
    format!("{host} answers again")
}

/// Somebody has let us go.
pub(super) fn detached(host: &str, d: &Detached) -> String {
    let (id, by) = (printable(&d.session), printable(&d.by));
    match (d.taken, by.as_str()) {
        (true, by) => {
            let by = if by.is_empty() { "somebody" } else { by };
            format!("{by} took {id} on {host} over: 'queue attach {id}' takes it back")
        }
        (false, "") => format!("detached from {id} on {host}: 'queue attach {id}' comes back"),
        (false, by) => format!("{by} detached {id} on {host}: 'queue attach {id}' comes back"),
    }
}

/// The user has given up. `answers`: whether the host heard of it.
pub(super) fn given_up(host: &str, answers: bool) -> String {
    if answers {
        format!("given up: what runs on {host} is ended there")
    } else {
        format!("given up: {host} does not answer; what runs there ends when it has waited long enough")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts() {
        assert_eq!(
            silent("h2", Exit::Escape(b'~')),
            "h2 does not answer; waiting, ~. to give up"
        );
        assert!(silent("h2", Exit::Escape(0x1d)).contains("waiting, ^]. to"));
        assert!(silent("h2", Exit::Interrupt).contains("Ctrl-C twice"));
        assert_eq!(silent("h2", Exit::None), "h2 does not answer; waiting");
        assert_eq!(back("h2"), "h2 answers again");
        assert_eq!(
            status("h2 does not answer", 24, 80),
            "\x1b7\x1b[?6l\x1b[24;1H\x1b[0;7m queue: h2 does not answer \x1b[m\x1b[K\x1b8"
        );
        assert!(status(&"x".repeat(200), 24, 30).contains(&format!("{}...\x1b[m", "x".repeat(18))));
        assert_eq!(
            panel(&["a", "b", "c"], 2, 80),
            "\x1b7\x1b[?6l\x1b[1;1H\x1b[0;7m queue: a \x1b[m\x1b[K\x1b[2;1H\x1b[0;7m queue: b \x1b[m\x1b[K\x1b8"
        );
        assert!(panel(&["a", "b"], 24, 80).starts_with("\x1b7\x1b[?6l\x1b[23;1H"));
        assert!(no_status(24).contains("\x1b[24;1H"));
        let told = |by: &str, taken| {
            let d = Detached {
                session: "s1a2b3c4d".into(),
                by: by.into(),
                taken,
            };
            detached("h2", &d)
        };
        assert_eq!(
            told("", false),
            "detached from s1a2b3c4d on h2: 'queue attach s1a2b3c4d' comes back"
        );
        assert!(told("alice@h3", true).starts_with("alice@h3 took s1a2b3c4d on h2 over"));
        assert!(told("", true).starts_with("somebody took"));
        assert!(told("al\x1bice@h3", false).starts_with("al\\x1bice@h3 detached s1a2b3c4d"));
        assert!(
            given_up("h2", true).contains("is ended") && given_up("h2", false).contains("does not answer")
        );
    }
}

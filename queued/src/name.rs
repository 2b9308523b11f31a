//! What a host may be called. Knows spelling only.

use std::fmt;

/// Verbs of `queue`: a host of that name could not be reached by `queue NAME`.
pub(crate) const VERBS: &[&str] = &[
    "hosts", "jobs", "show", "log", "wait", "kill", "suspend", "resume", "hold", "release", "retry",
    "delete", "attach", "detach", "migrate", "explain", "classes", "limits", "drain", "undrain", "stats",
    "history", "cron", "admin", "top", "web", "help",
];

/// Why a name is refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum NameError {
    /// It is not spelled as a host name.
    Spelling(String),
    /// It is a verb of `queue`.
    Verb(String),
}

impl fmt::Display for NameError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Spelling(text) => f.write_str(text),
            Self::Verb(n) => write!(
                f,
                "a host must not be called {n}: 'queue {n}' is a verb; choose another name with --host, or insist \
                 with --force (then 'queue -h {n} -- COMMAND' and 'qsh {n}' reach it)"
            ),
        }
    }
}

impl std::error::Error for NameError {}

/// Checks a name; `force` lets verbs pass.
///
/// # Errors
/// Why it is refused.
pub(crate) fn check(name: &str, force: bool) -> Result<(), NameError> {
    // `+` is any host; the rest would not survive a shell, an address or a file name.
    queue_exec::authority::check_name(name).map_err(|e| NameError::Spelling(e.text))?;
    if VERBS.contains(&name.to_ascii_lowercase().as_str()) && !force {
        return Err(NameError::Verb(name.to_owned()));
    }
    Ok(())
}

/// The name that this host has if nobody says another one: the first label of its host name, in lower case.
pub(crate) fn default_name() -> String {
    let full = nix::unistd::gethostname()
        .map(|n| n.to_string_lossy().into_owned())
        .unwrap_or_default();
    let short = full.split('.').next().unwrap_or_default().to_ascii_lowercase();
    if short.is_empty() {
        "localhost".into()
    } else {
        short
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn verbs_and_odd_names_are_refused() {
        for good in ["h1", "node-1.example", "a_b", "killer"] {
            assert_eq!(check(good, false), Ok(()), "{good}");
        }
        for verb in VERBS {
            assert_eq!(check(verb, false), Err(NameError::Verb((*verb).into())));
            assert_eq!(check(verb, true), Ok(()));
        }
        assert!(matches!(check("KILL", false), Err(NameError::Verb(_))));
        for odd in [
            "",
            "+",
            "a b",
            "a/b",
            "-x",
            ".",
            "..",
            "a..b",
            "é",
            "a\n",
            "@h",
            &"x".repeat(300),
        ] {
            assert!(matches!(check(odd, true), Err(NameError::Spelling(_))), "{odd:?}");
        }
    }
}

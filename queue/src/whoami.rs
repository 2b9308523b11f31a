//! Under which name the kernel's user numbers are known here. Reads the user database as a file and, for users that are
//! not in it (LDAP, SSSD), asks `getent(1)`: this program may be linked statically, and glibc's name service would have
//! to load modules of exactly the version that it was built with.

use nix::unistd::Uid;
use std::process::{Command, Stdio};

/// The name of a user; `None`: there is no such user.
pub fn name(uid: Uid) -> Option<String> {
    let text = std::fs::read("/etc/passwd").unwrap_or_default();
    find(&text, uid.as_raw()).or_else(|| {
        let out = Command::new("getent")
            .args(["passwd", &uid.to_string()])
            .stdin(Stdio::null())
            .stderr(Stdio::null())
            .output()
            .ok()?;
        find(&out.stdout, uid.as_raw())
    })
}

/// The first entry with this number, as with `getpwuid(3)`; see `passwd(5)`.
fn find(passwd: &[u8], uid: u32) -> Option<String> {
    String::from_utf8_lossy(passwd).lines().find_map(|line| {
        let mut fields = line.split(':');
        let (name, _, number) = (fields.next()?, fields.next()?, fields.next()?);
        // Lines of NIS compatibility begin with + or -.
        (number.parse() == Ok(uid) && !name.is_empty() && !name.starts_with(['+', '-']))
            .then(|| name.to_owned())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_of_a_number_counts() {
        let text = b"# users\nroot:x:0:0:root:/root:/bin/sh\n+@lab:x:5\n-bob:x:5\n::5\nalice:x:5:5::/home/alice:\nal:x:5:5\nshort:x\n";
        assert_eq!(find(text, 0).as_deref(), Some("root"));
        assert_eq!(find(text, 5).as_deref(), Some("alice"));
        assert_eq!(find(text, 7), None);
    }

    #[test]
    fn who_is_in_the_database_is_found_and_nobody_else() {
        assert_eq!(name(Uid::from_raw(0)).as_deref(), Some("root"));
        assert_eq!(name(Uid::from_raw(u32::MAX - 7)), None);
    }
}

//! As the user that runs the tests, on this host.

use super::*;
use std::ffi::OsStr;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;

const KEY: [u8; 32] = [1; 32];

fn value(env: &[Vec<u8>], name: &str) -> String {
    let start = format!("{name}=");
    let all = env.iter().map(|e| String::from_utf8_lossy(e).into_owned());
    all.into_iter()
        .find_map(|e| e.strip_prefix(&start).map(str::to_owned))
        .unwrap_or_default()
}

fn wishes() -> Launch {
    Launch {
        x11: Some(wire::X11 {
            protocol: "MIT-MAGIC-COOKIE-1".into(),
            cookie: vec![7; 16],
            screen: 2,
        }),
        agent: true,
        ..Launch::default()
    }
}

#[test]
fn nothing_is_made_unless_asked_for() {
    let b = begin(&Launch::default(), &[], KEY);
    assert!(b.forwarding.is_none() && b.env.is_empty() && b.notices.is_empty());
}

#[test]
fn all_is_private_and_goes_with_the_session() {
    let b = begin(&wishes(), &[b"XDG_RUNTIME_DIR=/nowhere".to_vec()], KEY);
    assert_eq!(b.notices, Vec::<String>::new());
    let (file, socket) = (value(&b.env, "XAUTHORITY"), value(&b.env, "SSH_AUTH_SOCK"));
    let (file, socket) = (PathBuf::from(file), PathBuf::from(socket));
    let dir = file.parent().expect("a directory").to_owned();
    assert!(dir.starts_with("/tmp") && socket.parent() == Some(&dir));
    for (path, mode) in [(&dir, 0o700), (&file, 0o600), (&socket, 0o600)] {
        let m = std::fs::symlink_metadata(path).expect("it is there");
        assert_eq!(m.permissions().mode() & 0o777, mode, "{}", path.display());
    }
    let display = value(&b.env, "DISPLAY");
    let number = display
        .strip_prefix("localhost:")
        .and_then(|d| d.strip_suffix(".2"));
    let number: u16 = number.expect("a display").parse().expect("a number");
    assert!(number >= 10);
    let connect = || std::net::TcpStream::connect(("127.0.0.1", 6000 + number));
    assert!(connect().is_ok());
    // The next session has another one.
    let second = begin(&wishes(), &[], KEY);
    assert_ne!(value(&second.env, "DISPLAY"), display);
    drop(second);
    drop(b);
    assert!(!dir.exists());
    // A process that another test is just starting may hold it for a moment.
    let gone = (0..1000).any(|_| {
        std::thread::sleep(std::time::Duration::from_millis(1));
        connect().is_err()
    });
    assert!(gone);
}

#[test]
fn the_users_own_directory_is_taken_if_it_is_private() {
    let own = nix::unistd::mkdtemp("/tmp/queue-test-XXXXXX").expect("a directory");
    let entry = [b"XDG_RUNTIME_DIR=", own.as_os_str().as_bytes()].concat();
    let agent = Launch {
        agent: true,
        ..Launch::default()
    };
    let inside = |env: &[Vec<u8>]| value(env, "SSH_AUTH_SOCK").starts_with(own.to_str().unwrap_or("?"));
    let b = begin(&agent, std::slice::from_ref(&entry), KEY);
    assert!(inside(&b.env) && value(&b.env, "DISPLAY").is_empty());
    drop(b);
    std::fs::set_permissions(&own, std::fs::Permissions::from_mode(0o755)).expect("mode");
    assert!(!inside(&begin(&agent, std::slice::from_ref(&entry), KEY).env));
    assert_eq!(std::fs::read_dir(&own).expect("read").count(), 0);
    std::fs::remove_dir(&own).expect("removed");
}

#[test]
fn cookie_file() {
    let bytes = xauthority::file(b"h2", 11, "MIT-MAGIC-COOKIE-1", &[1, 2]);
    let rest = b"\0\x0211\0\x12MIT-MAGIC-COOKIE-1\0\x02\x01\x02";
    assert_eq!(
        bytes,
        [&b"\x01\0\0\x02h2"[..], rest, b"\xff\xff\0\0", rest].concat()
    );
    // What X's own program makes of it, where that is installed.
    let path = nix::unistd::mkdtemp("/tmp/queue-test-XXXXXX").expect("a directory");
    let file = path.join("cookies");
    std::fs::write(&file, &bytes).expect("written");
    let words = [OsStr::new("-f"), file.as_os_str(), OsStr::new("list")];
    if let Ok(out) = std::process::Command::new("xauth").args(words).output() {
        let text = String::from_utf8_lossy(&out.stdout).into_owned();
        assert!(text.contains("h2/unix:11  MIT-MAGIC-COOKIE-1  0102"), "{text}");
    }
    std::fs::remove_dir_all(&path).expect("removed");
}

use super::*;
use libqueue::wire::job::Header;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::TcpListener;

fn letter() -> Letter {
    let header = |name: &str, value: &str| Header {
        name: name.to_owned(),
        value: value.to_owned(),
    };
    Letter {
        number: 7,
        to: "alice".to_owned(),
        subject: "Crash: 12 größer\r\nBcc: mallory@example.com".to_owned(),
        body: "Job 12: killed.\n.\nlast line\r\n".to_owned(),
        at_ms: 1_741_083_060_000,
        headers: vec![
            header("User", "alice"),
            header("Job", "12"),
            header("Name", "x\r\nBcc: m@example.com"),
        ],
    }
}

fn config(text: &str) -> Config {
    libqueue::config::Config::parse(&format!("[mail]\n{text}"), Path::new("queued.toml"))
        .unwrap()
        .mail
}

/// What a server was told: envelope commands and lines of the message.
type Heard = Arc<Mutex<Vec<String>>>;

/// A mail server that answers certain commands as it is told; an empty answer: it says nothing.
async fn sink(answers: &'static [(&'static str, &'static str)]) -> (String, Heard) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let at = listener.local_addr().unwrap().to_string();
    let heard = Heard::default();
    let copy = Arc::clone(&heard);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let (read, mut write) = stream.into_split();
            let mut lines = BufReader::new(read).lines();
            let answer = |c: &str, usual: &'static str| {
                let said = answers.iter().find(|(begin, _)| c.starts_with(begin));
                said.map_or(usual, |(_, a)| *a)
            };
            let _ = write
                .write_all(answer("CONNECT", "220 sink\r\n").as_bytes())
                .await;
            let mut data = false;
            while let Ok(Some(line)) = lines.next_line().await {
                copy.lock().unwrap().push(line.clone());
                let said = match &line[..] {
                    "." if data => {
                        data = false;
                        answer("END", "250 taken\r\n")
                    }
                    _ if data => continue,
                    "DATA" => {
                        data = true;
                        answer("DATA", "354 go on\r\n")
                    }
                    l if l.starts_with("EHLO") => {
                        answer("EHLO", "250-sink\r\n250-AUTH PLAIN\r\n250 8BITMIME\r\n")
                    }
                    l => answer(l, "250 ok\r\n"),
                };
                if write.write_all(said.as_bytes()).await.is_err() {
                    break;
                }
            }
        }
    });
    (at, heard)
}

async fn send(config: &Config, letter: Letter) -> Mailed {
    MailRoom::new(config, "h1.example.org", "blue").send(letter).await
}

#[tokio::test]
async fn a_server_gets_the_letter_and_no_header_that_a_user_made_up() {
    let (at, heard) = sink(&[]).await;
    let c = config(&format!(
        "smtp = '{at}'\ntls = 'none'\nfrom = 'queue@example.org'"
    ));
    let sent = send(&c, letter()).await;
    assert_eq!((sent.number, &sent.failed[..], sent.hopeless), (7, "", false));
    let heard = heard.lock().unwrap().clone();
    let has = |l: &str| assert!(heard.iter().any(|h| h == l), "{l} in {heard:#?}");
    has("EHLO h1.example.org");
    assert!(
        heard
            .iter()
            .any(|l| l.starts_with("MAIL FROM:<queue@example.org>")),
        "{heard:#?}"
    );
    has("RCPT TO:<alice@example.org>");
    has("To: alice@example.org");
    has("Reply-To: alice@example.org");
    has("Auto-Submitted: auto-generated");
    has("MIME-Version: 1.0");
    has("Message-ID: <queue-7-1741083060000@blue.example.org>");
    has("Date: Tue, 04 Mar 2025 10:11:00 +0000");
    has("X-Queue-Job: 12");
    has("X-Queue-Name: x  Bcc: m@example.com");
    has("last line");
    assert!(
        !heard.iter().any(|l| l.to_lowercase().starts_with("bcc")),
        "{heard:#?}"
    );
    assert!(
        heard.iter().any(|l| l.starts_with("Subject: Crash: 12 =?utf-8?")),
        "{heard:#?}"
    );
    assert_eq!(heard.iter().filter(|l| l.starts_with("RCPT")).count(), 1);
}

#[tokio::test]
async fn what_a_server_says_is_judged() {
    for (answers, hopeless, part) in [
        (
            &[("RCPT", "550 5.1.1 no such user\r\n")][..],
            true,
            "no such user",
        ),
        (&[("RCPT", "451 4.7.1 greylisted\r\n")], false, "greylisted"),
        (&[("END", "552 too large\r\n")], true, "too large"),
        (&[("END", "452 no space\r\n")], false, "no space"),
        (&[("CONNECT", "421 busy\r\n")], false, "busy"),
        (&[("MAIL", "530 authenticate first\r\n")], false, "authenticate"),
        (&[("CONNECT", "nonsense\r\n")], false, ""),
    ] {
        let (at, _) = sink(answers).await;
        let c = config(&format!("smtp = '{at}'\ntls = 'none'"));
        let sent = send(&c, letter()).await;
        assert_eq!(sent.hopeless, hopeless, "{answers:?}: {sent:?}");
        assert!(
            sent.failed.contains(part) && sent.failed.contains(&at),
            "{answers:?}: {sent:?}"
        );
        assert!(!sent.failed.contains(['\r', '\n']));
    }
    let free = TcpListener::bind("127.0.0.1:0")
        .await
        .unwrap()
        .local_addr()
        .unwrap();
    let down = send(&config(&format!("smtp = '{free}'\ntls = 'none'")), letter()).await;
    assert!(!down.hopeless && down.failed.contains("refused"), "{down:?}");
}

#[tokio::test]
async fn a_server_that_says_nothing_is_left() {
    let (at, _) = sink(&[("CONNECT", "")]).await;
    let c = config(&format!("smtp = '{at}'\ntls = 'none'"));
    let mut room = MailRoom::new(&c, "h1", "blue");
    room.patience = Duration::from_millis(50);
    let sent = room.send(letter()).await;
    assert!(!sent.hopeless && sent.failed.contains("did not take"), "{sent:?}");
}

#[tokio::test]
async fn nothing_goes_without_the_encryption_that_was_asked_for() {
    let (at, heard) = sink(&[]).await;
    let secret = std::env::temp_dir().join(format!("queue-mail-secret-{}", std::process::id()));
    std::fs::write(&secret, "hunter2\n").unwrap();
    let with = |tls: &str| {
        let file = secret.display();
        config(&format!(
            "smtp = '{at}'\ntls = '{tls}'\nuser = 'queue'\npassword-file = '{file}'"
        ))
    };
    let sent = send(&with("starttls"), letter()).await;
    assert!(!sent.hopeless && sent.failed.contains("STARTTLS"), "{sent:?}");
    assert!(
        !heard
            .lock()
            .unwrap()
            .iter()
            .any(|l| l.contains("AUTH") || l.contains("MAIL"))
    );
    let sent = send(&with("none"), letter()).await;
    assert_eq!(sent.failed, "");
    assert!(heard.lock().unwrap().iter().any(|l| l.starts_with("AUTH PLAIN")));
    std::fs::remove_file(&secret).unwrap();
    let sent = send(&with("none"), letter()).await;
    assert!(
        !sent.hopeless && sent.failed.contains("queue-mail-secret"),
        "{sent:?}"
    );
}

/// A program that writes down its arguments and input, and ends with a code.
fn program(name: &str, code: u8) -> (PathBuf, PathBuf) {
    let dir = std::env::temp_dir().join(format!("queue-mail-{}-{name}", std::process::id()));
    std::fs::create_dir_all(&dir).unwrap();
    let path = dir.join("sendmail");
    let at = dir.display();
    let text = format!("#!/bin/sh\necho \"$@\" >{at}/args\ncat >{at}/input\necho trouble >&2\nexit {code}\n");
    // Written by a child: a descriptor that is open for writing here would make "text file busy" of another fork.
    let shell = std::process::Command::new("/bin/sh")
        .args(["-c", "printf %s \"$1\" > \"$2\"", "sh", &text])
        .arg(&path)
        .status()
        .unwrap();
    assert!(shell.success());
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    (dir, path)
}

#[tokio::test]
async fn a_program_gets_the_letter_and_its_code_is_judged() {
    let (dir, path) = program("good", 0);
    let c = config(&format!("sendmail = '{}'", path.display()));
    assert!(MailRoom::new(&c, "h1", "blue").able());
    assert_eq!(send(&c, letter()).await.failed, "");
    let read = |n: &str| std::fs::read_to_string(dir.join(n)).unwrap();
    assert_eq!(read("args"), "-i -f queue@h1.example.org -- alice\n");
    let input = read("input");
    assert!(
        input.contains("\nX-Queue-Job: 12\n") && !input.contains('\r'),
        "{input}"
    );
    assert!(input.ends_with("Job 12: killed.\n.\nlast line\n"), "{input}");
    let mut abroad = letter();
    abroad.to = "bob@example.net".to_owned();
    send(&c, abroad).await;
    assert_eq!(read("args"), "-i -f queue@h1.example.org -- bob@example.net\n");
    for (code, hopeless) in [(67, true), (65, true), (75, false), (1, false)] {
        let (other, path) = program(&format!("bad-{code}"), code);
        let sent = send(&config(&format!("sendmail = '{}'", path.display())), letter()).await;
        assert_eq!(sent.hopeless, hopeless, "{sent:?}");
        assert!(
            sent.failed.contains(&format!("ended with {code}: trouble")),
            "{sent:?}"
        );
        std::fs::remove_dir_all(other).unwrap();
    }
    std::fs::remove_dir_all(dir).unwrap();
}

#[tokio::test]
async fn odd_receivers_are_refused_for_good() {
    let (at, heard) = sink(&[]).await;
    let c = config(&format!(
        "smtp = '{at}'\ntls = 'none'\noperator = 'ops@example.org'"
    ));
    for to in [
        "-oQ/tmp",
        "a b",
        "a@b@c",
        "x\r\nRCPT TO:<y@z>",
        "a@",
        "|/bin/sh",
        "../x",
        "é",
    ] {
        let mut l = letter();
        l.to = to.to_owned();
        let sent = send(&c, l).await;
        assert!(sent.hopeless && !sent.failed.contains('\n'), "{to}: {sent:?}");
    }
    assert!(heard.lock().unwrap().is_empty());
    let mut l = letter();
    l.to.clear();
    assert_eq!(send(&c, l).await.failed, "");
    assert!(
        heard
            .lock()
            .unwrap()
            .iter()
            .any(|h| h.contains("<ops@example.org>"))
    );
}

#[tokio::test]
async fn a_host_without_mail_says_so() {
    let off = config("enabled = false\nsmtp = 'localhost:25'");
    assert!(!MailRoom::new(&off, "h1", "blue").able());
    assert!(!send(&off, letter()).await.hopeless);
    let none = config("");
    assert_eq!(
        MailRoom::new(&none, "h1", "blue").able(),
        Path::new("/usr/sbin/sendmail").is_file()
    );
}

//! Hands a message to the program that takes mail on this host, as sendmail does.

use super::Failure;
use super::message::{Ready, clean};
use std::path::Path;
use std::process::Stdio;
use tokio::io::AsyncWriteExt as _;
use tokio::process::Command;

/// Codes of sysexits.h that say that the message or its receiver is at fault.
const HOPELESS: [i32; 3] = [65, 67, 68];

/// Gives it to the program, and waits for what it says.
pub(super) async fn send(program: &Path, ready: &Ready) -> Result<(), Failure> {
    let at = program.display();
    let from = ready.envelope.from().map(ToString::to_string).unwrap_or_default();
    let to = match &ready.account {
        Some(account) => account.clone(),
        None => ready.envelope.to().iter().map(ToString::to_string).collect(),
    };
    let mut child = Command::new(program)
        .args(["-i", "-f", &from, "--", &to])
        .env_clear()
        .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
        .current_dir("/")
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .map_err(|e| Failure::later(format!("cannot run {at}: {e}")))?;
    let mut input = child.stdin.take();
    // A program of this kind wants plain line ends; the builder leaves no other carriage return.
    let text: Vec<u8> = ready.bytes.iter().copied().filter(|b| *b != b'\r').collect();
    let write = async {
        if let Some(pipe) = &mut input {
            // What it thinks of a message that it does not read to the end, its exit code says.
            let _ = pipe.write_all(&text).await;
            let _ = pipe.shutdown().await;
        }
        drop(input);
    };
    let ((), done) = tokio::join!(write, child.wait_with_output());
    let done = done.map_err(|e| Failure::later(format!("cannot wait for {at}: {e}")))?;
    if done.status.success() {
        return Ok(());
    }
    let said = clean(&String::from_utf8_lossy(&done.stderr), 200);
    let code = done.status.code();
    let text = match code {
        Some(code) => format!("{at} ended with {code}: {said}"),
        None => format!("{at} was killed: {said}"),
    };
    Err(Failure {
        text: text.trim_end_matches([':', ' ']).to_owned(),
        hopeless: code.is_some_and(|c| HOPELESS.contains(&c)),
    })
}

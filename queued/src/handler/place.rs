//! Where shall it run?

use super::ending;
use crate::driver::{Driver, Question};
use libqueue::wire::{Place, reply};
use tokio::io::AsyncReadExt as _;
use tokio::net::UnixStream;

pub(super) async fn answer(place: Place, driver: &Driver) -> reply::Kind {
    driver.ask(Question::Place(place)).await.unwrap_or_else(ending)
}

/// Waits for room, and says meanwhile what it waits for. `None`: the asker went away, or said something while it
/// was to listen.
pub(super) async fn wait(place: Place, stream: &mut UnixStream, driver: &Driver) -> Option<reply::Kind> {
    let mut answers = driver.wait(Question::Place(place)).await;
    loop {
        let mut byte = [0];
        tokio::select! {
            kind = answers.recv() => match kind {
                Some(kind @ reply::Kind::Waiting(_)) => {
                    if !super::answer(stream, kind).await {
                        return None;
                    }
                }
                Some(kind) => return Some(kind),
                None => return Some(ending()),
            },
            _ = stream.read(&mut byte) => return None,
        }
    }
}

//! Where shall it run?

use super::ending;
use crate::driver::{Driver, Question};
use libqueue::wire::{Place, reply};

pub(super) async fn answer(place: Place, driver: &Driver) -> reply::Kind {
    driver.ask(Question::Place(place)).await.unwrap_or_else(ending)
}

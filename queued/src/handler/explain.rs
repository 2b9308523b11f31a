//! How would each host be judged for this?

use super::ending;
use crate::driver::{Driver, Question};
use libqueue::wire::{Place, reply};

pub(super) async fn answer(place: Place, driver: &Driver) -> reply::Kind {
    driver.ask(Question::Explain(place)).await.unwrap_or_else(ending)
}

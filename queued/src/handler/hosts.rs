//! How are all hosts?

use super::ending;
use crate::driver::{Driver, Question};
use libqueue::wire::reply;

pub(super) async fn answer(driver: &Driver) -> reply::Kind {
    driver.ask(Question::Hosts).await.unwrap_or_else(ending)
}

//! Waiting for a condition with a limit: what tests do instead of sleeping.

use std::time::{Duration, Instant};

use anyhow::{Result, bail};

/// A limit for things that take a moment on a busy machine; reaching it means failure.
pub const LIMIT: Duration = Duration::from_secs(20);

/// Asks `condition` again and again until it is true; after `limit` an error names `what`.
pub fn wait_until(limit: Duration, what: &str, mut condition: impl FnMut() -> bool) -> Result<()> {
    wait_for(limit, what, || condition().then_some(()))
}

/// Asks `probe` again and again until it gives something; after `limit` an error names `what`.
pub fn wait_for<T>(limit: Duration, what: &str, mut probe: impl FnMut() -> Option<T>) -> Result<T> {
    let start = Instant::now();
    let mut pause = Duration::from_millis(1);
    loop {
        if let Some(found) = probe() {
            return Ok(found);
        }
        if start.elapsed() > limit {
            bail!("waited {} s in vain for {what}", limit.as_secs_f32());
        }
        std::thread::sleep(pause);
        pause = (pause * 2).min(Duration::from_millis(50));
    }
}

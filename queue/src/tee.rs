//! `--tee FILE`: a second copy of the output. As `tee(1)` does, a failing file never stops the output: it is told
//! once, and the exit code shows it where the command itself succeeded.

use crate::messages::{Failure, reason, say};
use std::fs::File;
use std::io::Write as _;
use std::path::{Path, PathBuf};

/// The file.
#[derive(Debug)]
pub struct Tee {
    file: Option<File>,
    path: PathBuf,
}

impl Tee {
    /// Creates it, or empties the one that is there.
    ///
    /// # Errors
    /// Nothing is run if that fails.
    pub fn create(path: &Path) -> Result<Self, Failure> {
        let file = File::create(path)
            .map_err(|e| Failure::own(format!("--tee {}: {}", path.display(), reason(&e))))?;
        Ok(Self {
            file: Some(file),
            path: path.to_owned(),
        })
    }

    /// Whether not all output is in it.
    pub fn has_failed(&self) -> bool {
        self.file.is_none()
    }

    /// Adds output. `raw`: how the terminal stands, for a message.
    pub fn write(&mut self, data: &[u8], raw: bool) {
        let Some(file) = &mut self.file else { return };
        if let Err(e) = file.write_all(data) {
            self.file = None;
            let (path, why) = (self.path.display(), reason(&e));
            say(
                &format!("--tee {path}: {why}: the output goes on without it"),
                raw,
            );
        }
    }
}

//! The file by which an executing host sees whether it has the directory of the submission: made there under a
//! random name that it also contains. Neither path nor inode number would prove that.

use crate::messages::Failure;
use crate::sign;
use std::fmt::Write as _;
use std::fs::OpenOptions;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

/// The file, which is removed again unless it is [kept](Self::keep).
#[derive(Debug)]
pub struct NonceFile {
    path: PathBuf,
    name: String,
    kept: bool,
}

impl NonceFile {
    /// Makes one in a directory; `None`: nothing can be written there.
    ///
    /// # Errors
    /// There is no randomness.
    pub fn create(dir: &Path) -> Result<Option<Self>, Failure> {
        let random = sign::nonce()?;
        let mut name = String::from(".queue-");
        for b in &random[..8] {
            let _ = write!(name, "{b:02x}");
        }
        let path = dir.join(&name);
        let file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o644)
            .open(&path);
        let Ok(mut file) = file else { return Ok(None) };
        let made = Self {
            path,
            name,
            kept: false,
        };
        // Dropped, and so removed, if the disk is full.
        Ok(file.write_all(made.name.as_bytes()).is_ok().then_some(made))
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The job was submitted: who runs it removes the file.
    pub fn keep(mut self) {
        self.kept = true;
    }
}

impl Drop for NonceFile {
    fn drop(&mut self) {
        if !self.kept {
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_there_only_as_long_as_it_is_needed() {
        let dir = std::env::temp_dir().join(format!("queue-nonce-{}", std::process::id()));
        std::fs::create_dir(&dir).unwrap();
        let one = NonceFile::create(&dir).unwrap().unwrap();
        let two = NonceFile::create(&dir).unwrap().unwrap();
        assert_ne!(one.name(), two.name());
        let (name, digits) = (
            two.name().to_owned(),
            one.name().strip_prefix(".queue-").unwrap().to_owned(),
        );
        assert!(digits.len() == 16 && digits.bytes().all(|b| b.is_ascii_hexdigit()));
        drop(one);
        two.keep();
        let left: Vec<_> = std::fs::read_dir(&dir)
            .unwrap()
            .map(|e| e.unwrap().file_name().into_string().unwrap())
            .collect();
        assert_eq!(left, std::slice::from_ref(&name));
        assert_eq!(std::fs::read_to_string(dir.join(&name)).unwrap(), name);
        std::fs::remove_dir_all(&dir).unwrap();
        assert!(NonceFile::create(&dir).unwrap().is_none());
    }
}

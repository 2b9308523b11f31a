//! Puts a file that arrives where it belongs: behind what is there, once, whatever is interrupted.
//!
//! It arrives in a file of its own beside its place, `.NAME.queue-ROOM`. When it is complete, that becomes
//! `.NAME.queue-ROOM@SIZE` with the size that the place has then, and is linked or added there. It is kept until the
//! other host has removed what it came from: who finds it knows what was done, and goes on there.

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};
use nix::libc;
use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::os::unix::fs::{FileExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

/// Compared and copied at once.
const CHUNK: usize = 64 * 1024;

/// A file that arrives.
#[derive(Debug)]
pub(super) struct Arriving {
    place: PathBuf,
    part: PathBuf,
    file: File,
    /// So many bytes of it are here already from the last time.
    skip: u64,
    size: u64,
}

/// A file that is in its place.
#[derive(Debug)]
pub(super) struct Placed {
    place: PathBuf,
    kept: PathBuf,
}

fn failed(what: &Path, e: io::Error) -> io::Error {
    io::Error::new(
        e.kind(),
        format!("{}: {}", what.display(), crate::messages::reason(&e)),
    )
}

impl Arriving {
    /// Begins with a file for a place.
    ///
    /// # Errors
    /// It cannot be written beside it.
    pub(super) fn begin(place: &Path, room: &str, size: u64) -> io::Result<Self> {
        let (Some(dir), Some(name)) = (place.parent(), place.file_name()) else {
            return Err(io::ErrorKind::InvalidInput.into());
        };
        let mut part = OsString::from(".");
        part.push(name);
        part.push(format!(".queue-{room}"));
        let part = dir.join(part);
        let mut options = OpenOptions::new();
        options.create(true).mode(0o666).custom_flags(libc::O_NOFOLLOW);
        let (file, skip) = match kept(&part)? {
            // More may have been written there since.
            Some((kept, _)) => {
                let file = options.append(true).open(&kept).map_err(|e| failed(&kept, e))?;
                let skip = file.metadata()?.len();
                (file, skip)
            }
            None => {
                let file = options.write(true).truncate(true).open(&part);
                (file.map_err(|e| failed(&part, e))?, 0)
            }
        };
        Ok(Self {
            place: place.to_owned(),
            part,
            file,
            skip,
            size,
        })
    }

    /// Takes bytes of it.
    ///
    /// # Errors
    /// The disk is full, say.
    pub(super) fn write(&mut self, data: &[u8]) -> io::Result<()> {
        let skipped = data.len().min(usize::try_from(self.skip).unwrap_or(usize::MAX));
        self.skip -= skipped as u64;
        self.file
            .write_all(&data[skipped..])
            .map_err(|e| failed(&self.part, e))
    }

    /// It is complete: puts it into its place.
    ///
    /// # Errors
    /// That cannot be written.
    pub(super) fn finish(self) -> io::Result<Placed> {
        self.file.sync_all().map_err(|e| failed(&self.part, e))?;
        let fail = |e| failed(&self.place, e);
        let (kept, base) = match kept(&self.part)? {
            Some(found) => found,
            None => self.mark().map_err(fail)?,
        };
        put(&kept, &self.place, base, self.size).map_err(fail)?;
        Ok(Placed {
            place: self.place,
            kept,
        })
    }

    /// Writes down where in its place it will begin.
    fn mark(&self) -> io::Result<(PathBuf, u64)> {
        let base = match fs::metadata(&self.place) {
            Ok(m) => m.len(),
            Err(e) if e.kind() == io::ErrorKind::NotFound => 0,
            Err(e) => return Err(e),
        };
        let mut name = self.part.clone().into_os_string();
        name.push(format!("@{base}"));
        let kept = PathBuf::from(name);
        fs::rename(&self.part, &kept)?;
        sync_dir(&kept)?;
        Ok((kept, base))
    }
}

/// The file of an earlier time that was complete, and where in its place it begins.
fn kept(part: &Path) -> io::Result<Option<(PathBuf, u64)>> {
    let (Some(dir), Some(name)) = (part.parent(), part.file_name()) else {
        return Ok(None);
    };
    let head = [name.as_bytes(), b"@"].concat();
    for entry in fs::read_dir(dir).map_err(|e| failed(dir, e))? {
        let name = entry?.file_name().into_vec();
        let base = name
            .strip_prefix(&head[..])
            .and_then(|b| std::str::from_utf8(b).ok()?.parse().ok());
        if let Some(base) = base {
            return Ok(Some((dir.join(OsString::from_vec(name)), base)));
        }
    }
    Ok(None)
}

/// Adds a file to a place where it is not yet.
fn put(kept: &Path, place: &Path, base: u64, size: u64) -> io::Result<()> {
    if base == 0 {
        match fs::hard_link(kept, place) {
            Ok(()) => return Ok(()),
            // Something is there, or this file system has no links.
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Err(e),
            Err(_) => {}
        }
    }
    let mut options = OpenOptions::new();
    options.read(true).append(true).create(true).mode(0o666);
    let open = libqueue::links::open(place, &mut options, libc::O_NOCTTY | libc::O_NONBLOCK)?;
    let mut to = match Flock::lock(open, FlockArg::LockExclusive) {
        Ok(locked) => locked,
        Err((_, e)) => return Err(e.into()),
    };
    let mut from = OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_NOFOLLOW)
        .open(kept)?;
    let (there, ours) = (to.metadata()?, from.metadata()?);
    if !there.is_file() {
        return Err(io::Error::other("it is no file"));
    }
    // The same file by two names: it was linked the last time.
    if (there.dev(), there.ino()) == (ours.dev(), ours.ino()) {
        return Ok(());
    }
    let done = begun(&to, &from, base, there.len(), size)?;
    from.seek(SeekFrom::Start(done))?;
    let end = there.len();
    let added = io::copy(&mut from.take(size - done), &mut *to);
    if let Err(e) = added {
        // Nothing half: it is tried again as a whole.
        if done == 0 {
            let _ = to.set_len(end);
        }
        return Err(e);
    }
    match to.sync_all() {
        Err(e) if e.raw_os_error() == Some(Errno::EINVAL as i32) => Ok(()),
        r => r,
    }
}

/// How many bytes of a file are in its place already from an earlier time that was interrupted.
fn begun(to: &File, from: &File, base: u64, length: u64, size: u64) -> io::Result<u64> {
    let there = length.saturating_sub(base).min(size);
    let (mut a, mut b) = (vec![0; CHUNK], vec![0; CHUNK]);
    let mut at = 0;
    while at < there {
        let n = (there - at).min(CHUNK as u64) as usize;
        to.read_exact_at(&mut a[..n], base + at)?;
        from.read_exact_at(&mut b[..n], at)?;
        if a[..n] != b[..n] {
            // Somebody else's bytes.
            return Ok(0);
        }
        at += n as u64;
    }
    // If others have written behind a part of it, that part cannot be completed.
    Ok(if at == size || base + at == length { at } else { 0 })
}

fn sync_dir(path: &Path) -> io::Result<()> {
    match path.parent().map(File::open) {
        // A file system that cannot do that has it at once.
        Some(Ok(dir)) => dir.sync_all().or(Ok(())),
        _ => Ok(()),
    }
}

impl Placed {
    /// Makes sure that its name is on disk.
    ///
    /// # Errors
    /// The disk fails.
    pub(super) fn sync(&self) -> io::Result<()> {
        sync_dir(&self.place)
    }

    /// It comes no more.
    pub(super) fn forget(self) {
        // It is found, and known, should this job ever come again.
        let _ = fs::remove_file(&self.kept);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Dir(PathBuf);

    impl Dir {
        fn new(name: &str) -> Self {
            let dir = std::env::temp_dir().join(format!("queue-place-{name}-{}", std::process::id()));
            fs::create_dir(&dir).unwrap();
            Self(dir)
        }

        fn names(&self) -> Vec<String> {
            let mut all: Vec<_> = fs::read_dir(&self.0)
                .unwrap()
                .map(|e| e.unwrap().file_name().into_string().unwrap())
                .collect();
            all.sort();
            all
        }

        fn arrive(&self, text: &str) -> io::Result<Placed> {
            let mut a = Arriving::begin(&self.0.join("out"), "12.3", text.len() as u64)?;
            a.write(text.as_bytes())?;
            a.finish()
        }

        fn out(&self) -> String {
            fs::read_to_string(self.0.join("out")).unwrap()
        }
    }

    impl Drop for Dir {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    #[test]
    fn a_new_file_comes_once() {
        let d = Dir::new("new");
        // Interrupted before it was complete.
        let mut a = Arriving::begin(&d.0.join("out"), "12.3", 4).unwrap();
        a.write(b"te").unwrap();
        drop(a);
        // Interrupted before the other side knew.
        drop(d.arrive("text").unwrap());
        assert_eq!(d.out(), "text");
        assert_eq!(d.names(), [".out.queue-12.3@0", "out"]);
        drop(d.arrive("text+").unwrap());
        assert_eq!(d.out(), "text+");
        let placed = d.arrive("text+").unwrap();
        placed.sync().unwrap();
        placed.forget();
        assert_eq!((d.out().as_str(), d.names()), ("text+", vec!["out".to_owned()]));
    }

    #[test]
    fn what_is_there_stays_in_front() {
        let d = Dir::new("append");
        fs::write(d.0.join("out"), "old\n").unwrap();
        drop(d.arrive("text").unwrap());
        assert_eq!(d.out(), "old\ntext");
        // Again, and again when others have written meanwhile.
        drop(d.arrive("text").unwrap());
        assert_eq!(d.out(), "old\ntext");
        fs::write(d.0.join("out"), "old\ntextmore").unwrap();
        d.arrive("text").unwrap().forget();
        assert_eq!(d.out(), "old\ntextmore");
        // Interrupted half-way.
        fs::write(d.0.join("out"), "old\nte").unwrap();
        fs::write(d.0.join(".out.queue-12.3@4"), "text").unwrap();
        d.arrive("text").unwrap().forget();
        assert_eq!(d.out(), "old\ntext");
        // Half-way, and then somebody else: it comes as a whole.
        fs::write(d.0.join("out"), "old\nteXX").unwrap();
        fs::write(d.0.join(".out.queue-12.3@4"), "text").unwrap();
        d.arrive("text").unwrap().forget();
        assert_eq!(d.out(), "old\nteXXtext");
        // Another attempt has written more since.
        fs::write(d.0.join("out"), "old\ntext").unwrap();
        fs::write(d.0.join(".out.queue-12.3@4"), "text").unwrap();
        d.arrive("text and more").unwrap().forget();
        assert_eq!(d.out(), "old\ntext and more");
        assert_eq!(d.names(), ["out"]);
    }

    #[test]
    fn errors_name_the_file() {
        let d = Dir::new("errors");
        let e = Arriving::begin(&d.0.join("no/out"), "1", 1).unwrap_err();
        assert!(
            e.kind() == io::ErrorKind::NotFound && e.to_string().contains("no"),
            "{e}"
        );
        fs::create_dir(d.0.join("out")).unwrap();
        assert!(d.arrive("x").is_err());
    }
}

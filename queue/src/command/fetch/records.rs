//! Records as `queue admin spool` gives them, out of bytes that come as they like. Pure.

use std::io;

/// Longest name or path.
const TEXT_MAX: u32 = 8192;

/// What takes the files.
pub(super) trait Take {
    /// A file comes: the room that it was in, where it belongs, and its length.
    fn begin(&mut self, room: &str, path: &[u8], size: u64) -> io::Result<()>;
    /// Bytes of it.
    fn bytes(&mut self, data: &[u8]) -> io::Result<()>;
    /// It is complete.
    fn end(&mut self) -> io::Result<()>;
}

/// Reads them.
#[derive(Debug, Default)]
pub(super) struct Reader {
    head: Vec<u8>,
    /// Bytes of the file that are still to come.
    left: Option<u64>,
    ended: bool,
}

impl Reader {
    /// Takes bytes; whether all records have come.
    ///
    /// # Errors
    /// They are no records, or a file is not taken.
    pub(super) fn take(&mut self, mut data: &[u8], files: &mut impl Take) -> io::Result<bool> {
        let bad = || {
            io::Error::new(
                io::ErrorKind::InvalidData,
                "the other host speaks another language",
            )
        };
        loop {
            if let Some(left) = &mut self.left {
                let n = data.len().min(usize::try_from(*left).unwrap_or(usize::MAX));
                if n > 0 {
                    files.bytes(&data[..n])?;
                }
                data = &data[n..];
                *left -= n as u64;
                if *left > 0 {
                    return Ok(false);
                }
                self.left = None;
                files.end()?;
            }
            if self.ended {
                return if data.is_empty() { Ok(true) } else { Err(bad()) };
            }
            let Some((first, rest)) = data.split_first() else {
                return Ok(false);
            };
            // Byte by byte: heads are short.
            self.head.push(*first);
            data = rest;
            match self.head[0] {
                b'E' => self.ended = true,
                b'F' => {
                    if let Some((room, path, size)) = head(&self.head[1..]).map_err(|()| bad())? {
                        files.begin(&room, &path, size)?;
                        self.left = Some(size);
                        self.head.clear();
                    }
                }
                _ => return Err(bad()),
            }
        }
    }
}

type Head = (String, Vec<u8>, u64);

/// A head, if it is complete.
fn head(bytes: &[u8]) -> Result<Option<Head>, ()> {
    let mut rest = bytes;
    let Some(room) = text(&mut rest)? else {
        return Ok(None);
    };
    let Some(path) = text(&mut rest)? else {
        return Ok(None);
    };
    let Some(size) = rest.first_chunk::<8>() else {
        return Ok(None);
    };
    let room = String::from_utf8(room).map_err(|_| ())?;
    // It becomes part of a file's name.
    if room.is_empty() || !room.bytes().all(|b| b.is_ascii_digit() || b == b'.') {
        return Err(());
    }
    Ok(Some((room, path, u64::from_be_bytes(*size))))
}

fn text(rest: &mut &[u8]) -> Result<Option<Vec<u8>>, ()> {
    let Some((length, behind)) = rest.split_first_chunk::<4>() else {
        return Ok(None);
    };
    let length = u32::from_be_bytes(*length);
    if length > TEXT_MAX {
        return Err(());
    }
    let Some((text, behind)) = behind.split_at_checked(length as usize) else {
        return Ok(None);
    };
    *rest = behind;
    Ok(Some(text.to_vec()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::command::spool;
    use std::path::Path;

    #[derive(Default)]
    struct Got(Vec<(String, String, String, bool)>);

    impl Take for Got {
        fn begin(&mut self, room: &str, path: &[u8], _: u64) -> io::Result<()> {
            self.0.push((
                room.into(),
                String::from_utf8(path.to_vec()).unwrap(),
                String::new(),
                false,
            ));
            Ok(())
        }

        fn bytes(&mut self, data: &[u8]) -> io::Result<()> {
            self.0.last_mut().unwrap().2 += std::str::from_utf8(data).unwrap();
            Ok(())
        }

        fn end(&mut self) -> io::Result<()> {
            self.0.last_mut().unwrap().3 = true;
            Ok(())
        }
    }

    fn room(root: &Path, name: &str, home: &str, text: &str) {
        let dir = root.join(name);
        std::fs::create_dir_all(&dir).unwrap();
        std::fs::write(dir.join("out"), text).unwrap();
        std::fs::write(dir.join(".home"), format!("out\0{home}\0out\0{home}\0")).unwrap();
    }

    #[test]
    fn what_the_other_side_gives_arrives_and_is_removed_there() {
        let root = std::env::temp_dir().join(format!("queue-spool-{}", std::process::id()));
        room(&root, "12", "/a/one", "text");
        room(&root, "12.3", "/a/two", "");
        room(&root, "13", "/a/three", "x");
        std::fs::create_dir(root.join(".run-1")).unwrap();
        // Nobody says that it has arrived: it stays.
        let mut bytes = Vec::new();
        spool::give(&root, 12, &mut bytes, &mut &b""[..]).unwrap();
        assert!(root.join("12").exists());
        let mut again = Vec::new();
        spool::give(&root, 12, &mut again, &mut &*spool::DONE).unwrap();
        assert_eq!(bytes, again);
        assert!(!root.join("12").exists() && !root.join("12.3").exists() && root.join("13").exists());
        let want = |text: &str| {
            [
                ("12".to_owned(), "/a/one".to_owned(), text.to_owned(), true),
                ("12.3".to_owned(), "/a/two".to_owned(), String::new(), true),
            ]
        };
        for size in [1, 3, bytes.len()] {
            let (mut reader, mut got) = (Reader::default(), Got::default());
            let mut end = false;
            for part in bytes.chunks(size) {
                assert!(!end);
                end = reader.take(part, &mut got).unwrap();
            }
            assert!(end);
            assert_eq!(got.0, want("text"));
        }
        // What is still written stays, and comes later.
        room(&root, "12.4", "/a/four", "begun");
        let writer = std::fs::OpenOptions::new()
            .append(true)
            .open(root.join("12.4/out"))
            .unwrap();
        writer.lock_shared().unwrap();
        let mut later = Vec::new();
        spool::give(&root, 12, &mut later, &mut &*spool::DONE).unwrap();
        assert!(later == b"E" && root.join("12.4/out").exists());
        drop(writer);
        // Written to while it is given.
        struct Adds<'a>(&'a Path, &'a [u8]);
        impl io::Read for Adds<'_> {
            fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
                std::fs::write(self.0, "begun, and more")?;
                self.1.read(buf)
            }
        }
        let path = root.join("12.4/out");
        spool::give(&root, 12, &mut Vec::new(), &mut Adds(&path, spool::DONE)).unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "begun, and more");
        spool::give(&root, 12, &mut Vec::new(), &mut &*spool::DONE).unwrap();
        assert!(!root.join("12.4").exists());
        // Nothing there is no error.
        let mut none = Vec::new();
        spool::give(&root.join("none"), 12, &mut none, &mut &*spool::DONE).unwrap();
        assert!(Reader::default().take(&none, &mut Got::default()).unwrap());
        std::fs::remove_dir_all(&root).unwrap();
    }

    #[test]
    fn what_is_no_record_is_refused() {
        for bad in [
            &b"X"[..],
            b"F\xff\xff\xff\xff",
            b"EE",
            b"F\0\0\0\x03../\0\0\0\x01/\0\0\0\0\0\0\0\0",
        ] {
            assert!(
                Reader::default().take(bad, &mut Got::default()).is_err(),
                "{bad:?}"
            );
        }
    }
}

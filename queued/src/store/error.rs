//! What SQLite and the system say, as a [`StoreError`]: which of the three kinds, and what to do.

use super::StoreError;
use nix::errno::Errno;
use rusqlite::ffi::ErrorCode;
use std::path::Path;

/// An error of SQLite while `what` was done with the database at `path`.
pub(super) fn sqlite(path: &Path, what: &str, e: &rusqlite::Error) -> StoreError {
    let at = path.display();
    let text = format!("cannot {what} {at}: {}", plain(e));
    match e.sqlite_error_code() {
        Some(ErrorCode::DiskFull) => StoreError::Full(format!(
            "{text}; make room on that file system, it goes on by itself"
        )),
        Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => StoreError::Damaged(format!(
            "{text}; nothing was changed: copy the file and those beside it, then repair it (sqlite3 .recover) or \
             restore a copy"
        )),
        Some(ErrorCode::ReadOnly | ErrorCode::PermissionDenied | ErrorCode::CannotOpen) => {
            StoreError::Io(format!(
                "{text}; its directory and files must be writable for the daemon's account, and descriptors free"
            ))
        }
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => {
            StoreError::Io(format!("{text}; another program has it open"))
        }
        _ => StoreError::Io(text),
    }
}

/// An error of the system while `what` was done with the file at `path`.
pub(super) fn system(path: &Path, what: &str, e: &std::io::Error) -> StoreError {
    let text = format!("cannot {what} {}: {e}", path.display());
    match e.raw_os_error().map(Errno::from_raw) {
        Some(Errno::ENOSPC | Errno::EDQUOT) => {
            StoreError::Full(format!("{text}; make room on that file system"))
        }
        Some(Errno::EACCES | Errno::EPERM | Errno::EROFS) => StoreError::Io(format!(
            "{text}; its directory and files must belong to the daemon's account"
        )),
        Some(Errno::EMFILE | Errno::ENFILE) => {
            StoreError::Io(format!("{text}; raise the limit of open files"))
        }
        _ => StoreError::Io(text),
    }
}

/// What SQLite says, in one line.
fn plain(e: &rusqlite::Error) -> String {
    e.to_string().replace(['\n', '\r'], " ")
}

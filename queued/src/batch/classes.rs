//! Classes of jobs: `classes/NAME.toml` beside `queued.toml`, and the two that are always there. Knows files; what may
//! stand in them is in `libqueue::config::class`, and what a default means is the leader's.

use libqueue::config::{ConfigError, class};
use libqueue::wire::job::{Class, Restart, mail_when};
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{ErrorKind, Read as _};
use std::path::{Path, PathBuf};

/// No file is larger.
const FILE_MAX: u64 = 1 << 16;
/// Most classes.
const MOST: usize = 1000;
/// Length of a lease where nothing is said: 15 minutes.
const LEASE_MS: u64 = 15 * 60 * 1000;

/// Those that are always there; a file of the same name changes them. Like interactive launches, jobs of `now` come
/// first.
fn built_in() -> [Class; 2] {
    let class = |name: &str, priority| Class {
        name: name.to_owned(),
        priority,
        retries: 0,
        restart: Restart::Ask as i32,
        lease_ms: LEASE_MS,
        time_ms: 0,
        mail: mail_when::FAIL,
        max_running: 0,
        need: None,
    };
    [class("now", 100), class("wait", 0)]
}

/// Where the files lie.
pub(crate) fn directory(config_file: &Path) -> PathBuf {
    config_file.parent().unwrap_or(Path::new("/")).join("classes")
}

/// Reads all of them: those that are good, and what is wrong with the others.
pub(crate) fn load(config_file: &Path) -> (Vec<Class>, Vec<ConfigError>) {
    let dir = directory(config_file);
    let mut classes: BTreeMap<String, Class> = built_in().into_iter().map(|c| (c.name.clone(), c)).collect();
    let mut faults = Vec::new();
    for file in files(&dir, &mut faults) {
        match one(&file, &classes) {
            Ok(class) => drop(classes.insert(class.name.clone(), class)),
            Err(e) => faults.push(e),
        }
    }
    (classes.into_values().collect(), faults)
}

/// The files of classes, by name.
pub(crate) fn files(dir: &Path, faults: &mut Vec<ConfigError>) -> Vec<PathBuf> {
    let fault = |text: String| ConfigError {
        file: dir.to_owned(),
        at: None,
        text,
    };
    let entries = match std::fs::read_dir(dir) {
        Ok(e) => e,
        Err(e) if e.kind() == ErrorKind::NotFound => return Vec::new(),
        Err(e) => {
            faults.push(fault(e.to_string()));
            return Vec::new();
        }
    };
    // What editors and package managers leave behind is no class.
    let is_class = |p: &Path| {
        p.extension().is_some_and(|e| e == "toml")
            && !p
                .file_name()
                .is_some_and(|n| n.to_string_lossy().starts_with('.'))
    };
    let mut files: Vec<PathBuf> = entries
        .filter_map(|e| e.ok().map(|e| e.path()))
        .filter(|p| is_class(p))
        .collect();
    files.sort();
    if files.len() > MOST {
        faults.push(fault(format!(
            "has {} classes: only the first {MOST} count",
            files.len()
        )));
        files.truncate(MOST);
    }
    files
}

fn one(file: &Path, classes: &BTreeMap<String, Class>) -> Result<Class, ConfigError> {
    let fault = |text: String| ConfigError {
        file: file.to_owned(),
        at: None,
        text,
    };
    let name = class::name(file)?;
    let mut text = String::new();
    File::open(file)
        .and_then(|f| f.take(FILE_MAX + 1).read_to_string(&mut text))
        .map_err(|e| fault(e.to_string()))?;
    if text.len() as u64 > FILE_MAX {
        return Err(fault("is too large for a class".into()));
    }
    let [_, wait] = built_in();
    let base = classes.get(name).cloned().unwrap_or(wait);
    class::parse(&text, file, name, &base)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A directory of its own, removed at the end.
    struct Dir(PathBuf);

    impl Dir {
        fn new(files: &[(&str, &str)]) -> Self {
            let dir = std::env::temp_dir().join(format!(
                "queue-classes-{}-{}",
                std::process::id(),
                u64::from_ne_bytes(queue_exec::state::random())
            ));
            std::fs::create_dir_all(dir.join("classes")).unwrap();
            for (name, text) in files {
                std::fs::write(dir.join("classes").join(name), text).unwrap();
            }
            Self(dir)
        }

        fn load(&self) -> (Vec<Class>, Vec<String>) {
            let (classes, faults) = load(&self.0.join("queued.toml"));
            (classes, faults.iter().map(ToString::to_string).collect())
        }
    }

    impl Drop for Dir {
        fn drop(&mut self) {
            let _ = std::fs::remove_dir_all(&self.0);
        }
    }

    #[test]
    fn two_are_always_there() {
        let (classes, faults) = load(Path::new("/nonexistent/queued.toml"));
        assert!(faults.is_empty());
        let names: Vec<&str> = classes.iter().map(|c| c.name.as_str()).collect();
        assert_eq!(names, ["now", "wait"]);
        assert!(classes[0].priority > classes[1].priority);
    }

    #[test]
    fn files_make_classes_and_change_the_two() {
        let d = Dir::new(&[
            (
                "big.toml",
                "priority = -5\nretries = 3\nrestart = 'restart'\nlease = '1h'\ntime = 90\nmail = ['begin', 'fail']\n\
                 max-running = 4\ncores = 8\nmem = '16G'\ngpus = 1\ndisk = '1T'\nrequires = 'arch==x86_64'\n",
            ),
            ("wait.toml", "mail = 'never'\n"),
            (".big.toml", "nonsense"),
            ("big.toml~", "nonsense"),
        ]);
        let (classes, faults) = d.load();
        assert!(faults.is_empty(), "{faults:?}");
        let names: Vec<&str> = classes.iter().map(|c| c.name.as_str()).collect();
        assert_eq!(names, ["big", "now", "wait"]);
        let big = &classes[0];
        assert_eq!((big.priority, big.retries, big.max_running), (-5, 3, 4));
        assert_eq!((big.lease_ms, big.time_ms), (3_600_000, 90_000));
        assert_eq!(big.mail, mail_when::BEGIN | mail_when::FAIL);
        assert_eq!(big.restart, Restart::Restart as i32);
        let need = big.need.as_ref().unwrap();
        assert_eq!(
            (need.cores, need.mem, need.gpus, need.disk),
            (8, 16 << 30, 1, 1 << 40)
        );
        assert_eq!(need.expr, "arch==x86_64");
        assert_eq!((classes[2].mail, classes[2].priority), (0, 0));
        assert_eq!(classes[1].mail, mail_when::FAIL);
    }

    #[test]
    fn faults_name_file_and_line_and_hurt_nobody_else() {
        let d = Dir::new(&[
            ("a.toml", "priority = 1\n\npriorty = 2\n"),
            ("b.toml", "lease = '1s'"),
            ("c.toml", "priority = 2000000000"),
            ("d.toml", "mail = 'sometimes'"),
            ("e f.toml", ""),
            ("g.toml", "requires = 'raid >'"),
            ("h.toml", "priority = -2147483648"),
            ("ok.toml", "retries = 1"),
        ]);
        let (classes, faults) = d.load();
        assert!(classes.iter().any(|c| c.name == "ok" && c.retries == 1));
        assert_eq!((classes.len(), faults.len()), (3, 7), "{faults:?}");
        for (fault, place, word) in [
            (&faults[0], "a.toml:3:1: ", "priorty"),
            (&faults[1], "b.toml:1:9: ", "at least 10 s"),
            (&faults[2], "c.toml:1:12: ", "1000000"),
            (&faults[3], "d.toml:1:8: ", "never"),
            (&faults[4], "e f.toml: ", "no name of a class"),
            (&faults[5], "g.toml:1:12: ", ""),
            (&faults[6], "h.toml:1:12: ", "1000000"),
        ] {
            assert!(fault.contains(place) && fault.contains(word), "{fault}");
        }
    }
}

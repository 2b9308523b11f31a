//! Plays the corpus of the fuzz targets, and thousands of damaged copies of it, so that what a fuzzer found once
//! stays found on a stable toolchain.

#[allow(unreachable_pub, reason = "a library where it belongs")]
#[path = "../../fuzz/src/lib.rs"]
mod targets;

mod seeds;

use anyhow::{Context, Result, ensure};
use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

/// Damaged copies of each valid input, and of each that a fuzzer found.
const COPIES: u64 = 4000;
const OF_FOUND: u64 = 200;

/// A small generator (xorshift), so that a failure can be played again.
struct Random(u64);

impl Random {
    fn below(&mut self, n: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % n.max(1) as u64) as usize
    }
}

/// A copy with a few bytes changed, cut out, doubled, or a length blown up.
fn damage(bytes: &[u8], seed: u64) -> Vec<u8> {
    let mut r = Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
    let mut v = bytes.to_vec();
    for _ in 0..=r.below(4) {
        let at = r.below(v.len());
        match r.below(6) {
            0 => v.truncate(at),
            1 => v.extend_from_slice(&bytes[at.min(bytes.len())..]),
            2 if !v.is_empty() => drop(v.remove(at)),
            3 if !v.is_empty() => v[at] = [0x00, 0x7f, 0x80, 0xff][r.below(4)],
            4 if v.len() > 8 => {
                let from = at.min(v.len() - 8);
                v[from..from + 8].fill([0x00, 0x7f, 0x80, 0xff][r.below(4)]);
            }
            _ if !v.is_empty() => v[at] ^= 1 << r.below(8),
            _ => {}
        }
    }
    v
}

#[test]
fn corpus_and_damaged_copies() -> Result<()> {
    let fuzz = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz");
    let manifest = fs::read_to_string(fuzz.join("Cargo.toml"))?;
    let names: BTreeSet<String> = targets::TARGETS.iter().map(|(n, _)| (*n).to_owned()).collect();
    for (dir, cut) in [("fuzz_targets", ".rs"), ("corpus", "")] {
        let there: BTreeSet<String> = fs::read_dir(fuzz.join(dir))?
            .map(|e| Ok(e?.file_name().to_string_lossy().trim_end_matches(cut).to_owned()))
            .collect::<Result<_>>()?;
        ensure!(
            there == names,
            "in fuzz/{dir} is {there:?}, the targets are {names:?}"
        );
    }
    for (name, target) in targets::TARGETS {
        let source = fs::read_to_string(fuzz.join("fuzz_targets").join(name).with_extension("rs"))?;
        ensure!(source.contains(&format!("::{name}(data)")), "{source}");
        let declared = format!("name = \"{name}\"\npath = \"fuzz_targets/{name}.rs\"");
        ensure!(
            manifest.contains(&declared),
            "fuzz/Cargo.toml does not name {name}"
        );
        let dir = fuzz.join("corpus").join(name);
        let mut files: Vec<_> = fs::read_dir(&dir)
            .with_context(|| dir.display().to_string())?
            .collect::<Result<Vec<_>, _>>()?
            .into_iter()
            .map(|e| e.path())
            .collect();
        files.sort();
        ensure!(!files.is_empty(), "{} is empty", dir.display());
        for file in files {
            let bytes = fs::read(&file)?;
            let found = file
                .file_name()
                .is_some_and(|n| n.to_string_lossy().starts_with("found-"));
            let copies = if found { OF_FOUND } else { COPIES };
            let mut played = 0;
            let play = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
                target(&bytes);
                for seed in 1..=copies {
                    played = seed;
                    target(&damage(&bytes, seed));
                }
            }));
            ensure!(
                play.is_ok(),
                "target {name}, {}, copy {played} (0: itself)",
                file.display()
            );
        }
    }
    Ok(())
}

/// Valid inputs, from which fuzzing starts. Written once with `QUEUE_WRITE_CORPUS=1`, and checked to be there.
#[test]
fn valid_inputs_are_in_the_corpus() -> Result<()> {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/corpus");
    for (target, name, bytes) in seeds::all() {
        let file = corpus.join(target).join(name);
        if std::env::var_os("QUEUE_WRITE_CORPUS").is_some() {
            fs::write(&file, &bytes)?;
        }
        // A change of an encoding shows here: an old peer would be told the same bytes.
        let known = fs::read(&file).with_context(|| file.display().to_string())?;
        ensure!(
            known == bytes,
            "{} no longer is what the code writes",
            file.display()
        );
    }
    Ok(())
}

//! What a host has for a command: the names of the `-R` language, and whether a need can be met. Knows the messages of
//! `wire`; decides nothing about who is better.

use crate::expr::{Expr, Sight, Value};
use crate::size;
use crate::wire::{Facts, Load, Need};

/// Names that every host has, beside the keys of its `[resources]`:
///
/// | name | what |
/// |---|---|
/// | `host` | its name |
/// | `arch`, `kernel`, `os` | as `uname -m`, `uname -r`, and `debian-13` |
/// | `cores` | cores that may be used |
/// | `mem`, `mem_free` | memory, and what of it is available and not reserved |
/// | `disk`, `disk_free` | the disk for temporary files |
/// | `gpus` | how many GPUs; those that are not reserved are counted for `--gpus` only |
/// | `gpu` | their models; only on a host with GPUs |
/// | `gpu_mem` | memory of the largest one, where it is known |
/// | `load`, `running` | load average of a minute, and tasks that run or want to, over 5 s |
/// | `power` | how fast a core is (1.0) |
/// | `sessions`, `jobs` | how many run |
/// | `version` | of Queue |
pub const NAMES: &[&str] = &[
    "host",
    "arch",
    "kernel",
    "os",
    "cores",
    "mem",
    "mem_free",
    "disk",
    "disk_free",
    "gpus",
    "gpu",
    "gpu_mem",
    "load",
    "running",
    "power",
    "sessions",
    "jobs",
    "version",
];

/// What a host has under a name now. What changes is not there without `load`.
pub fn lookup(name: &str, host: &str, facts: &Facts, load: Option<&Load>) -> Option<Value> {
    let number = |n: f64| Some(Value::Number(n));
    let text = |t: &str| (!t.is_empty()).then(|| Value::Text(t.to_owned()));
    match name {
        "host" => text(host),
        "arch" => text(&facts.arch),
        "kernel" => text(&facts.kernel),
        "os" => text(&facts.os),
        "version" => text(&facts.version_text),
        "cores" => number(facts.cores.into()),
        "mem" => number(facts.mem as f64),
        "disk" => number(facts.disk as f64),
        "gpus" => number(facts.gpus.len() as f64),
        "gpu" => gpus(facts),
        "gpu_mem" => {
            let most = facts.gpus.iter().map(|g| g.mem).max().filter(|m| *m > 0)?;
            number(most as f64)
        }
        "power" => number(if facts.power > 0.0 { facts.power } else { 1.0 }),
        "mem_free" => number(mem_free(facts, load?) as f64),
        "disk_free" => number(disk_free(facts, load?) as f64),
        "load" => number(load?.load1),
        "running" => number(load?.running),
        "sessions" => number(load?.sessions.into()),
        "jobs" => number(load?.jobs.into()),
        key => text(facts.resources.get(key)?),
    }
}

/// The models of the GPUs, each once.
fn gpus(facts: &Facts) -> Option<Value> {
    if facts.gpus.is_empty() {
        return None;
    }
    let mut names: Vec<&str> = facts.gpus.iter().map(|g| g.name.as_str()).collect();
    names.retain(|n| !n.is_empty());
    names.dedup();
    Some(Value::Text(match names.is_empty() {
        true => "unknown".into(),
        false => names.join(", "),
    }))
}

/// What is known of a name on a host of these facts, whatever its load may be.
fn ever(name: &str, host: &str, facts: &Facts) -> Sight {
    match name {
        "mem_free" => Sight::AtMost(facts.mem as f64),
        "disk_free" => Sight::AtMost(facts.disk as f64),
        "load" | "running" | "sessions" | "jobs" => Sight::AtMost(f64::INFINITY),
        _ => lookup(name, host, facts, None).into(),
    }
}

/// Memory for a newcomer. What was reserved but is not used yet is not free; what is used, reserved or not, is not
/// either.
fn mem_free(facts: &Facts, load: &Load) -> u64 {
    load.mem_available
        .min(facts.mem.saturating_sub(load.mem_reserved))
}

fn disk_free(facts: &Facts, load: &Load) -> u64 {
    load.disk_free.min(facts.disk.saturating_sub(load.disk_reserved))
}

/// What a host lacks for a need, for people; `None` if it has everything. Without `load`: what it could not give even
/// if it were empty. With it: what it has not got now, reservations counted.
pub fn lacking(need: &Need, host: &str, facts: &Facts, load: Option<&Load>) -> Option<String> {
    if need.expr.is_empty() {
        return lacks(need, None, host, facts, load);
    }
    match Expr::parse(&need.expr) {
        Ok(e) => lacks(need, Some(&e), host, facts, load),
        Err(e) => Some(format!("-R: {e}")),
    }
}

/// As [`lacking`], with the expression read once for many hosts.
pub fn lacks(
    need: &Need,
    expr: Option<&Expr>,
    host: &str,
    facts: &Facts,
    load: Option<&Load>,
) -> Option<String> {
    let gpus = u32::try_from(facts.gpus.len()).unwrap_or(u32::MAX);
    let counts = [
        (need.cores, facts.cores, load.map(|l| l.cores_reserved), "core"),
        (need.gpus, gpus, load.map(|l| l.gpus_reserved), "GPU"),
    ];
    for (asked, has, reserved, what) in counts {
        if asked > has {
            return Some(format!("has {} of {asked}", count(has, what)));
        }
        let free = has.saturating_sub(reserved.unwrap_or(0));
        if asked > free {
            return Some(format!("has {} free, {asked} asked", count(free, what)));
        }
    }
    let sizes = [
        (need.mem, facts.mem, load.map(|l| mem_free(facts, l)), "memory"),
        (
            need.disk,
            facts.disk,
            load.map(|l| disk_free(facts, l)),
            "disk space",
        ),
    ];
    for (asked, has, free, what) in sizes {
        if asked > has {
            return Some(format!(
                "has {} of {what}, {} asked",
                size::show(has),
                size::show(asked)
            ));
        }
        if let Some(free) = free.filter(|f| asked > *f) {
            return Some(format!(
                "has {} of {what} free, {} asked",
                size::show(free),
                size::show(asked)
            ));
        }
    }
    let expr = expr?;
    match load {
        Some(_) => expr.missing(&|name| lookup(name, host, facts, load)),
        None => expr.refused(&|name| ever(name, host, facts)),
    }
}

/// `1 core`, `2 cores`, `no core`.
fn count(n: u32, what: &str) -> String {
    match n {
        0 => format!("no {what}"),
        1 => format!("1 {what}"),
        n => format!("{n} {what}s"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::Gpu;

    const G: u64 = 1 << 30;

    fn facts() -> Facts {
        Facts {
            version: 1,
            cores: 8,
            mem: 24 * G,
            disk: 100 * G,
            gpus: ["A100", "A100"]
                .map(|n| Gpu {
                    name: n.into(),
                    mem: 40 * G,
                })
                .into(),
            arch: "x86_64".into(),
            kernel: "6.12.4".into(),
            os: "debian-13".into(),
            resources: [("raid", "100G"), ("room", "b12")]
                .map(|(k, v)| (k.to_owned(), v.to_owned()))
                .into(),
            version_text: "0.1.0".into(),
            ..Facts::default()
        }
    }

    fn load() -> Load {
        Load {
            load1: 0.5,
            cores: 8,
            mem_total: 24 * G,
            mem_available: 20 * G,
            mem_reserved: 8 * G,
            cores_reserved: 7,
            gpus_reserved: 1,
            disk_free: 10 * G,
            sessions: 3,
            ..Load::default()
        }
    }

    #[test]
    fn every_name_is_there() {
        let (f, l) = (facts(), load());
        for name in NAMES {
            assert!(lookup(name, "h1", &f, Some(&l)).is_some(), "{name}");
        }
        let is = |name: &str, v: Value| assert_eq!(lookup(name, "h1", &f, Some(&l)), Some(v), "{name}");
        is("mem_free", Value::Number((16 * G) as f64));
        is("disk_free", Value::Number((10 * G) as f64));
        is("gpu", Value::Text("A100".into()));
        is("raid", Value::Text("100G".into()));
        is("power", Value::Number(1.0));
        assert_eq!(lookup("gpu", "h1", &Facts::default(), None), None);
        assert_eq!(lookup("sessions", "h1", &f, None), None);
        assert_eq!(lookup("other", "h1", &f, Some(&l)), None);
        let unnamed = Facts {
            gpus: vec![Gpu::default()],
            ..Facts::default()
        };
        assert_eq!(
            lookup("gpu", "h1", &unnamed, None),
            Some(Value::Text("unknown".into()))
        );
        assert_eq!(lookup("gpu_mem", "h1", &unnamed, None), None);
    }

    fn need(cores: u32, mem: u64, gpus: u32, expr: &str) -> Need {
        Need {
            cores,
            mem: mem * G,
            gpus,
            expr: expr.into(),
            ..Need::default()
        }
    }

    #[test]
    fn what_an_empty_host_lacks() {
        let never = |n: Need| lacking(&n, "h1", &facts(), None);
        let some = |t: &str| Some(t.to_owned());
        assert_eq!(never(Need::default()), None);
        assert_eq!(
            never(need(8, 24, 2, "raid>=100G && room~b* && load<1 && mem_free>=24G")),
            None
        );
        assert_eq!(never(need(9, 0, 0, "")), some("has 8 cores of 9"));
        assert_eq!(never(need(1, 64, 0, "")), some("has 24G of memory, 64G asked"));
        assert_eq!(never(need(0, 0, 3, "")), some("has 2 GPUs of 3"));
        let disk = Need {
            disk: 200 * G,
            ..Need::default()
        };
        assert_eq!(never(disk), some("has 100G of disk space, 200G asked"));
        assert_eq!(
            never(need(0, 0, 0, "raid>=200G")),
            some("raid>=200G: raid is 100G")
        );
        assert_eq!(
            never(need(0, 0, 0, "mem_free>=32G")),
            some("mem_free>=32G: mem_free is 24G at most")
        );
        assert_eq!(never(need(0, 0, 0, "sessions>=99")), None);
        assert!(never(need(0, 0, 0, "a b")).is_some_and(|e| e.starts_with("-R: column 3: ")));
        let none = Facts {
            cores: 8,
            ..Facts::default()
        };
        assert_eq!(
            lacking(&need(0, 0, 1, ""), "h1", &none, None),
            some("has no GPU of 1")
        );
    }

    #[test]
    fn what_it_lacks_now() {
        let now = |n: Need| lacking(&n, "h1", &facts(), Some(&load()));
        let some = |t: &str| Some(t.to_owned());
        assert_eq!(now(need(1, 16, 1, "sessions<=3")), None);
        assert_eq!(now(need(2, 0, 0, "")), some("has 1 core free, 2 asked"));
        assert_eq!(now(need(0, 20, 0, "")), some("has 16G of memory free, 20G asked"));
        assert_eq!(now(need(0, 0, 2, "")), some("has 1 GPU free, 2 asked"));
        assert_eq!(now(need(9, 0, 0, "")), some("has 8 cores of 9"));
        let disk = Need {
            disk: 20 * G,
            ..Need::default()
        };
        assert_eq!(now(disk), some("has 10G of disk space free, 20G asked"));
        assert_eq!(now(need(0, 0, 0, "load<0.1")), some("load<0.1: load is 0.50"));
    }
}

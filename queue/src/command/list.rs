//! `queue hosts`: the hosts, their state and what is free on them.

use super::view::{self, Format, Shown};
use crate::human;
use crate::messages::{Failure, printable};
use crate::need;
use crate::place::Daemon;
use crate::table::Table;
use crate::verbs::View;
use libqueue::expr::Expr;
use libqueue::resources::lookup;
use libqueue::size;
use libqueue::wire::{Empty, Facts, HostInfo, HostState, Hosts, Load, reply, request};
use queue_exec::layout::Layout;

mod json;

/// Shows them.
///
/// # Errors
/// No daemon, or it does not know.
pub fn run(view: View, long: bool, expr: Option<&str>) -> Result<u8, Failure> {
    let expr = expr.map(|e| need::expression("-R", e)).transpose()?;
    let layout = Layout::for_client();
    view::run(view, |format| {
        let mut daemon = Daemon::dial(&layout)?;
        let reply::Kind::Hosts(mut hosts) = daemon.request(request::Kind::Hosts(Empty {}))? else {
            return Err(daemon.strange());
        };
        if let Some(expr) = &expr {
            hosts.hosts.retain(|h| holds(expr, h));
        }
        let text = match format {
            Format::Text(width) => table(&hosts, long).render(width),
            Format::Json(one_line) => json::text(&hosts, one_line)?,
        };
        Ok(Shown {
            text,
            notes: Vec::new(),
        })
    })
}

/// Whether an expression holds for a host. Of one whose facts are not known nothing does.
fn holds(expr: &Expr, h: &HostInfo) -> bool {
    let Some(facts) = &h.facts else { return false };
    expr.holds(&|name| lookup(name, &h.name, facts, load(h)))
}

/// The load of a host that is there.
fn load(h: &HostInfo) -> Option<&Load> {
    h.load
        .as_ref()
        .filter(|_| matches!(h.state(), HostState::Up | HostState::Suspect))
}

/// The state in a word.
fn state(h: &HostInfo) -> &'static str {
    match (h.state(), load(h)) {
        (HostState::Up, Some(l)) if l.draining && l.sessions + l.jobs > 0 => "draining",
        (HostState::Up, Some(l)) if l.draining => "drained",
        (HostState::Up, _) => "up",
        (HostState::Unknown, _) => "unknown",
        (HostState::Down, _) => "down",
        (HostState::Suspect, _) => "suspect",
        (HostState::Left, _) => "left",
    }
}

/// A table with one line a host; the asker's own host has a `*`.
fn table(hosts: &Hosts, long: bool) -> Table {
    let mut heads = vec![
        "HOST",
        "STATE",
        ">LOAD",
        ">BUSY/CORES",
        ">FREE/MEM",
        ">PRESSURE",
        ">SESSIONS",
        ">JOBS",
    ];
    if long {
        heads.extend([
            "RESERVED",
            ">FREE/DISK",
            ">POWER",
            "SYSTEM",
            "VERSION",
            ">AS OF",
            "ADDRESS",
        ]);
    }
    heads.push("RESOURCES");
    let mut t = Table::new(&heads);
    for h in &hosts.hosts {
        let load = load(h);
        let dash = |f: &dyn Fn(&Load) -> String| load.map_or_else(|| "-".to_owned(), f);
        let mut row = vec![
            format!("{}{}", printable(&h.name), if h.local { "*" } else { "" }),
            state(h).to_owned(),
            dash(&|l| human::number(l.load1)),
            dash(&|l| format!("{:.1}/{}", l.busy, l.cores)),
            dash(&|l| format!("{}/{}", size::show(l.mem_available), size::show(l.mem_total))),
            dash(&pressure),
            dash(&|l| l.sessions.to_string()),
            dash(&|l| l.jobs.to_string()),
        ];
        if long {
            row.extend(more(h, load));
        }
        row.push(remarks(h, load));
        t.row(row);
    }
    t
}

/// The columns of `--long`.
fn more(h: &HostInfo, load: Option<&Load>) -> [String; 7] {
    let facts = h.facts.as_ref();
    let or_dash = |s: Option<String>| s.filter(|s| !s.is_empty()).unwrap_or_else(|| "-".to_owned());
    let disk = |l: &Load| {
        let all = facts.map_or_else(|| "-".to_owned(), |f| size::show(f.disk));
        format!("{}/{all}", size::show(l.disk_free))
    };
    let mut address = printable(&h.address);
    if h.authority {
        address += " (authority)";
    }
    [
        or_dash(load.map(reserved)),
        or_dash(load.map(disk)),
        or_dash(facts.map(|f| human::number(power(f)))),
        or_dash(facts.map(|f| printable(format!("{} {}", f.os, f.arch).trim()))),
        or_dash(Some(printable(&h.version))),
        or_dash(load.map(|_| format!("{:.1}s", h.age_ms as f64 / 1000.0))),
        address,
    ]
}

/// What running sessions asked for: `4 cores, 8.0G, 1 GPU`.
fn reserved(l: &Load) -> String {
    let need = libqueue::wire::Need {
        cores: l.cores_reserved,
        mem: l.mem_reserved,
        gpus: l.gpus_reserved,
        disk: l.disk_reserved,
        ..Default::default()
    };
    need::in_words(&need)
}

/// The scarcest of the three: `12% io`.
fn pressure(l: &Load) -> String {
    let all = [(l.psi_cpu, "cpu"), (l.psi_mem, "mem"), (l.psi_io, "io")];
    let (most, of) = all
        .into_iter()
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .unwrap_or_default();
    match most {
        p if p < 0.5 => "0%".to_owned(),
        p => format!("{p:.0}% {of}"),
    }
}

fn power(f: &Facts) -> f64 {
    if f.power > 0.0 { f.power } else { 1.0 }
}

/// Why it is not used, and what it has beside cores and memory.
fn remarks(h: &HostInfo, load: Option<&Load>) -> String {
    let mut all = Vec::new();
    if !h.reason.is_empty() {
        all.push(printable(&h.reason));
    } else if load.is_some_and(|l| l.cores == 0) {
        all.push("no queue-exec: nothing can run".to_owned());
    }
    if let Some(f) = &h.facts {
        if f.unwilling {
            all.push("takes no commands of other hosts".to_owned());
        }
        if load.is_some_and(|l| f.max_sessions > 0 && l.sessions >= f.max_sessions) {
            all.push("full".to_owned());
        }
        let mut gpus: Vec<(&str, u32)> = Vec::new();
        for g in &f.gpus {
            let name = if g.name.is_empty() { "GPU" } else { &g.name };
            match gpus.iter_mut().find(|(n, _)| *n == name) {
                Some((_, n)) => *n += 1,
                None => gpus.push((name, 1)),
            }
        }
        all.extend(gpus.iter().map(|(name, n)| format!("{n}x {}", printable(name))));
        if (power(f) - 1.0).abs() > 0.005 {
            all.push(format!("power={}", human::number(power(f))));
        }
        all.extend(f.resources.iter().map(|(k, v)| printable(&format!("{k}={v}"))));
    }
    all.join(", ")
}

#[cfg(test)]
mod tests;

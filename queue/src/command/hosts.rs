//! `queue hosts` and `queue hosts remove NAME`.

use crate::messages::{Failure, printable, write_all};
use crate::place::Daemon;
use libqueue::wire::{Empty, HostInfo, HostState, Hosts, reply, request};
use queue_exec::authority;
use queue_exec::layout::Layout;
use queue_exec::state::AUTHORITY_KEY;
use serde::Serialize;
use std::fmt::Write as _;

/// Lists the hosts.
///
/// # Errors
/// No daemon, or it does not know.
pub fn list(json: bool) -> Result<(), Failure> {
    let mut daemon = Daemon::dial(&Layout::for_client())?;
    let reply::Kind::Hosts(hosts) = daemon.request(request::Kind::Hosts(Empty {}))? else {
        return Err(daemon.strange());
    };
    let text = if json { as_json(&hosts)? } else { as_table(&hosts) };
    write_all(1, text.as_bytes());
    Ok(())
}

/// Takes a host out of the cluster: its certificates are revoked by the authority, and the daemon spreads that.
///
/// # Errors
/// Not root, not the authority's host, or no such host.
pub fn remove(name: &str, json: bool) -> Result<(), Failure> {
    let root = nix::unistd::geteuid().is_root();
    let client = Layout::for_client();
    if client.root && !root {
        return Err(Failure::own(format!(
            "only root may remove a host: `sudo queue hosts remove {name}` on {}",
            authority_host(&client)
        )));
    }
    let layout = Layout::for_daemon(root);
    if !layout.exec_state().join(AUTHORITY_KEY).exists() {
        return Err(Failure::own(format!(
            "this host does not hold the cluster's authority: say `queue hosts remove {name}` on {}",
            authority_host(&client)
        )));
    }
    let list = authority::remove(&layout, name).map_err(|e| Failure::own(printable(&e.text)))?;
    let spread = Daemon::dial(&client).and_then(|mut d| match d.request(request::Kind::Revoke(list))? {
        reply::Kind::Done(_) => Ok(()),
        _ => Err(d.strange()),
    });
    if let Err(e) = spread {
        return Err(Failure::own(format!(
            "{name} is removed, but the other hosts do not know it yet: {}",
            e.text
        )));
    }
    let name = printable(name);
    let text = if json {
        serde_json::json!({ "removed": name }).to_string() + "\n"
    } else {
        format!("{name} is removed from the cluster; what it still knows admits it nowhere\n")
    };
    write_all(1, text.as_bytes());
    Ok(())
}

/// Where the authority is, in words.
fn authority_host(layout: &Layout) -> String {
    let unknown = || "the host that ran `queued init`".to_owned();
    let Ok(mut daemon) = Daemon::dial(layout) else {
        return unknown();
    };
    match daemon.request(request::Kind::Hosts(Empty {})) {
        Ok(reply::Kind::Hosts(h)) => h
            .hosts
            .iter()
            .find(|h| h.authority)
            .map_or_else(unknown, |h| printable(&h.name)),
        _ => unknown(),
    }
}

fn state(h: &HostInfo) -> &'static str {
    match h.state() {
        HostState::Unknown => "unknown",
        HostState::Up => "up",
        HostState::Down => "down",
        HostState::Suspect => "suspect",
        HostState::Left => "left",
    }
}

/// Bytes for people: `3.9G`.
fn size(bytes: u64) -> String {
    let mut value = bytes as f64;
    for unit in ["B", "K", "M", "G", "T"] {
        if value < 1000.0 || unit == "T" {
            return if value < 10.0 && unit != "B" {
                format!("{value:.1}{unit}")
            } else {
                format!("{value:.0}{unit}")
            };
        }
        value /= 1024.0;
    }
    String::new()
}

/// A table with one line a host; the asker's own host has a `*`.
fn as_table(hosts: &Hosts) -> String {
    let mut rows: Vec<[String; 8]> = vec![
        [
            "HOST", "STATE", "LOAD", "CORES", "MEMORY", "FREE", "SESSIONS", "ADDRESS",
        ]
        .map(str::to_owned),
    ];
    for h in &hosts.hosts {
        let mark = if h.local { "*" } else { "" };
        let load = h.load.as_ref().filter(|_| h.state() == HostState::Up);
        let or_dash = |s: Option<String>| s.unwrap_or_else(|| "-".to_owned());
        let mut address = printable(&h.address);
        if h.authority {
            address += "  authority";
        }
        if !h.reason.is_empty() {
            let _ = write!(address, "  {}", printable(&h.reason));
        }
        rows.push([
            format!("{}{mark}", printable(&h.name)),
            state(h).to_owned(),
            or_dash(load.map(|l| format!("{:.2}", l.load1))),
            or_dash(load.map(|l| l.cores.to_string())),
            or_dash(load.map(|l| size(l.mem_total))),
            or_dash(load.map(|l| size(l.mem_available))),
            or_dash(load.map(|l| l.sessions.to_string())),
            address,
        ]);
    }
    let mut out = String::new();
    for row in &rows {
        let mut line = String::new();
        for (i, cell) in row.iter().enumerate() {
            let width = rows
                .iter()
                .map(|r| r[i].chars().count())
                .max()
                .unwrap_or_default();
            let _ = match i {
                0 | 1 => write!(line, "{cell:width$}  "),
                7 => write!(line, "{cell}"),
                _ => write!(line, "{cell:>width$}  "),
            };
        }
        out += line.trim_end();
        out.push('\n');
    }
    out
}

#[derive(Serialize)]
struct JsonHosts<'a> {
    cluster: &'a str,
    hosts: Vec<JsonHost<'a>>,
}

#[derive(Serialize)]
struct JsonHost<'a> {
    name: &'a str,
    state: &'static str,
    address: &'a str,
    local: bool,
    authority: bool,
    version: &'a str,
    reason: Option<&'a str>,
    report_age_ms: Option<u64>,
    load: Option<[f64; 3]>,
    cores: Option<u32>,
    memory_bytes: Option<u64>,
    memory_available_bytes: Option<u64>,
    sessions: Option<u32>,
}

fn as_json(hosts: &Hosts) -> Result<String, Failure> {
    let all = JsonHosts {
        cluster: &hosts.cluster,
        hosts: hosts
            .hosts
            .iter()
            .map(|h| {
                let load = h.load.as_ref();
                JsonHost {
                    name: &h.name,
                    state: state(h),
                    address: &h.address,
                    local: h.local,
                    authority: h.authority,
                    version: &h.version,
                    reason: (!h.reason.is_empty()).then_some(&h.reason),
                    report_age_ms: load.map(|_| h.age_ms),
                    load: load.map(|l| [l.load1, l.load5, l.load15]),
                    cores: load.map(|l| l.cores),
                    memory_bytes: load.map(|l| l.mem_total),
                    memory_available_bytes: load.map(|l| l.mem_available),
                    sessions: load.map(|l| l.sessions),
                }
            })
            .collect(),
    };
    serde_json::to_string_pretty(&all)
        .map(|s| s + "\n")
        .map_err(|e| Failure::own(format!("JSON: {e}")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use libqueue::wire::Load;

    fn hosts() -> Hosts {
        let load = Load {
            load1: 0.25,
            load5: 0.5,
            load15: 1.0,
            cores: 2,
            mem_total: 24 << 30,
            mem_available: 3 << 29,
            sessions: 3,
            ..Load::default()
        };
        let up = HostInfo {
            name: "h1".into(),
            address: "10.0.0.1:7838".into(),
            state: HostState::Up as i32,
            load: Some(load),
            local: true,
            authority: true,
            ..HostInfo::default()
        };
        let down = HostInfo {
            name: "long-name".into(),
            address: "10.0.0.2:7838".into(),
            state: HostState::Down as i32,
            reason: "no\x1b answer".into(),
            ..HostInfo::default()
        };
        Hosts {
            hosts: vec![up, down],
            cluster: "lab".into(),
        }
    }

    #[test]
    fn table() {
        assert_eq!(
            as_table(&hosts()),
            "HOST       STATE  LOAD  CORES  MEMORY  FREE  SESSIONS  ADDRESS\n\
             h1*        up     0.25      2     24G  1.5G         3  10.0.0.1:7838  authority\n\
             long-name  down      -      -       -     -         -  10.0.0.2:7838  no\\x1b answer\n"
        );
    }

    #[test]
    fn json() {
        let v: serde_json::Value = serde_json::from_str(&as_json(&hosts()).unwrap()).unwrap();
        assert_eq!(v["cluster"], "lab");
        assert_eq!(v["hosts"][0]["load"][0], 0.25);
        assert_eq!(v["hosts"][1]["state"], "down");
        assert!(v["hosts"][1]["load"].is_null());
    }
}

//! `queue hosts --json`: everything that is known. Keys stay as they are once they are published.

use super::{power, state};
use crate::command::view;
use crate::messages::Failure;
use libqueue::wire::{Facts, HostInfo, Hosts, Load};
use serde::Serialize;
use std::collections::BTreeMap;

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
    cores_busy: Option<f64>,
    running: Option<f64>,
    memory_bytes: Option<u64>,
    memory_available_bytes: Option<u64>,
    disk_free_bytes: Option<u64>,
    pressure: Option<Pressure>,
    sessions: Option<u32>,
    jobs: Option<u32>,
    starts: Option<f64>,
    draining: Option<bool>,
    reserved: Option<Reserved>,
    facts: Option<JsonFacts<'a>>,
}

#[derive(Serialize)]
struct Pressure {
    cpu: f64,
    memory: f64,
    io: f64,
}

#[derive(Serialize)]
struct Reserved {
    cores: u32,
    memory_bytes: u64,
    gpus: u32,
    disk_bytes: u64,
}

#[derive(Serialize)]
struct JsonFacts<'a> {
    cores: u32,
    memory_bytes: u64,
    disk_bytes: u64,
    gpus: Vec<JsonGpu<'a>>,
    arch: &'a str,
    kernel: &'a str,
    os: &'a str,
    power: f64,
    max_sessions: Option<u32>,
    willing: bool,
    version: &'a str,
    resources: &'a BTreeMap<String, String>,
}

#[derive(Serialize)]
struct JsonGpu<'a> {
    name: &'a str,
    memory_bytes: Option<u64>,
}

/// As JSON, with its line end.
pub(super) fn text(hosts: &Hosts, one_line: bool) -> Result<String, Failure> {
    let all = JsonHosts {
        cluster: &hosts.cluster,
        hosts: hosts.hosts.iter().map(host).collect(),
    };
    view::json(&all, one_line)
}

fn host(h: &HostInfo) -> JsonHost<'_> {
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
        cores_busy: load.map(|l| l.busy),
        running: load.map(|l| l.running),
        memory_bytes: load.map(|l| l.mem_total),
        memory_available_bytes: load.map(|l| l.mem_available),
        disk_free_bytes: load.map(|l| l.disk_free),
        pressure: load.map(|l| Pressure {
            cpu: l.psi_cpu,
            memory: l.psi_mem,
            io: l.psi_io,
        }),
        sessions: load.map(|l| l.sessions),
        jobs: load.map(|l| l.jobs),
        starts: load.map(|l| l.starts),
        draining: load.map(|l| l.draining),
        reserved: load.map(reserved),
        facts: h.facts.as_ref().map(facts),
    }
}

fn reserved(l: &Load) -> Reserved {
    Reserved {
        cores: l.cores_reserved,
        memory_bytes: l.mem_reserved,
        gpus: l.gpus_reserved,
        disk_bytes: l.disk_reserved,
    }
}

fn facts(f: &Facts) -> JsonFacts<'_> {
    JsonFacts {
        cores: f.cores,
        memory_bytes: f.mem,
        disk_bytes: f.disk,
        gpus: f
            .gpus
            .iter()
            .map(|g| JsonGpu {
                name: &g.name,
                memory_bytes: (g.mem > 0).then_some(g.mem),
            })
            .collect(),
        arch: &f.arch,
        kernel: &f.kernel,
        os: &f.os,
        power: power(f),
        max_sessions: (f.max_sessions > 0).then_some(f.max_sessions),
        willing: !f.unwilling,
        version: &f.version_text,
        resources: &f.resources,
    }
}

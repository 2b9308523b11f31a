use super::*;
use libqueue::wire::Gpu;

fn hosts() -> Hosts {
    let load = Load {
        load1: 0.25,
        load5: 0.5,
        load15: 1.0,
        cores: 8,
        busy: 1.24,
        mem_total: 24 << 30,
        mem_available: 3 << 29,
        psi_io: 12.4,
        psi_cpu: 3.0,
        sessions: 3,
        cores_reserved: 2,
        mem_reserved: 4 << 30,
        disk_free: 20 << 30,
        ..Load::default()
    };
    let gpu = || Gpu {
        name: "A100".into(),
        mem: 80 << 30,
    };
    let facts = Facts {
        version: 1,
        cores: 8,
        mem: 24 << 30,
        disk: 100 << 30,
        gpus: vec![gpu(), gpu()],
        arch: "x86_64".into(),
        os: "debian-13".into(),
        resources: [("raid".to_owned(), "200G".to_owned())].into(),
        power: 1.5,
        ..Facts::default()
    };
    let up = HostInfo {
        name: "h1".into(),
        address: "10.0.0.1:7838".into(),
        state: HostState::Up as i32,
        load: Some(load),
        local: true,
        authority: true,
        version: "0.1.0".into(),
        facts: Some(facts),
        age_ms: 1_240,
        ..HostInfo::default()
    };
    let down = HostInfo {
        name: "long-name".into(),
        address: "10.0.0.2:7838".into(),
        state: HostState::Down as i32,
        load: Some(load),
        reason: "no\x1b answer".into(),
        ..HostInfo::default()
    };
    let drained = HostInfo {
        name: "h3".into(),
        state: HostState::Up as i32,
        load: Some(Load {
            draining: true,
            sessions: 0,
            ..load
        }),
        ..HostInfo::default()
    };
    Hosts {
        hosts: vec![up, down, drained],
        cluster: "lab".into(),
    }
}

#[test]
fn as_a_table() {
    assert_eq!(
        table(&hosts(), false).render(None),
        "HOST       STATE    LOAD  BUSY/CORES  FREE/MEM  PRESSURE  SESSIONS  JOBS  RESOURCES\n\
         h1*        up       0.25       1.2/8  1.5G/24G    12% io         3     0  2x A100, power=1.50, raid=200G\n\
         long-name  down        -           -         -         -         -     -  no\\x1b answer\n\
         h3         drained  0.25       1.2/8  1.5G/24G    12% io         0     0\n"
    );
}

#[test]
fn fits_a_small_terminal() {
    for line in table(&hosts(), false).render(Some(80)).lines() {
        assert!(line.chars().count() <= 80, "{line}");
    }
}

#[test]
fn long_tells_everything() {
    let text = table(&hosts(), true).render(None);
    for part in [
        "2 cores, 4.0G memory",
        "20G/100G",
        "1.50",
        "debian-13 x86_64",
        "0.1.0",
        "1.2s",
        "10.0.0.1:7838 (authority)",
    ] {
        assert!(text.contains(part), "{part}: {text}");
    }
}

#[test]
fn states_and_remarks() {
    let mut h = hosts().hosts.remove(0);
    let l = h.load.as_mut().unwrap();
    l.draining = true;
    assert_eq!(state(&h), "draining");
    h.load.as_mut().unwrap().cores = 0;
    h.facts.as_mut().unwrap().max_sessions = 3;
    h.facts.as_mut().unwrap().unwilling = true;
    let text = remarks(&h, load(&h));
    assert!(
        text.starts_with("no queue-exec: nothing can run, takes no commands of other hosts, full, 2x A100"),
        "{text}"
    );
    h.state = HostState::Suspect as i32;
    assert_eq!((state(&h), load(&h).is_some()), ("suspect", true));
    h.state = HostState::Left as i32;
    assert_eq!((state(&h), load(&h).is_some()), ("left", false));
}

#[test]
fn filter() {
    for (expr, names) in [
        ("raid>=100G", "h1"),
        ("raid>=300G", ""),
        ("gpus>0 && arch==x86_64", "h1"),
        ("host==h1", "h1"),
        ("host==h3", ""),
    ] {
        let e = Expr::parse(expr).unwrap();
        let fit: Vec<_> = hosts()
            .hosts
            .into_iter()
            .filter(|h| holds(&e, h))
            .map(|h| h.name)
            .collect();
        assert_eq!(fit.join(" "), names, "{expr}");
    }
}

#[test]
fn as_json() {
    let v: serde_json::Value = serde_json::from_str(&json::text(&hosts(), true).unwrap()).unwrap();
    assert_eq!(v["cluster"], "lab");
    assert_eq!(v["hosts"][0]["load"][0], 0.25);
    assert_eq!(v["hosts"][0]["facts"]["resources"]["raid"], "200G");
    assert_eq!(v["hosts"][0]["facts"]["gpus"][1]["name"], "A100");
    assert_eq!(v["hosts"][0]["reserved"]["cores"], 2);
    assert_eq!(v["hosts"][1]["state"], "down");
    assert_eq!(v["hosts"][2]["draining"], true);
    assert!(v["hosts"][1]["facts"].is_null());
}

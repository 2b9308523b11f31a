//! What this host grants, refuses, and says of itself.

use super::*;

#[test]
fn this_host_grants_within_what_it_has() {
    let mut a = Around::new(&[]);
    a.e.facts.max_sessions = 4;
    assert!(a.grant(cores(3), false).is_ok());
    let (code, text) = a.grant(cores(2), false).unwrap_err();
    assert!(
        code == ErrorCode::Full && text == "h2 has 1 core free, 2 asked",
        "{text}"
    );
    assert_eq!(a.grant(cores(5), false).unwrap_err().0, ErrorCode::Unfit);
    let mem = |gib| Need {
        mem: gib * GIB,
        ..Need::default()
    };
    assert!(a.grant(mem(6), false).is_ok());
    assert_eq!(a.grant(mem(6), false).unwrap_err().0, ErrorCode::Full);
    let arch = Need {
        expr: "arch==aarch64".into(),
        ..Need::default()
    };
    assert_eq!(a.grant(arch, true).unwrap_err().0, ErrorCode::Unfit);
    assert!(a.grant(cores(1), true).is_ok() && a.grant(Need::default(), true).is_ok());
    let (code, text) = a.grant(Need::default(), true).unwrap_err();
    assert!(code == ErrorCode::Full && text.contains("max_sessions"), "{text}");
    let look = Need {
        look: true,
        ..Need::default()
    };
    let by_name = Need {
        by_name: true,
        ..Need::default()
    };
    let l = a.e.current_load(a.now);
    assert!(a.grant(look, false).is_ok() && a.grant(by_name.clone(), false).is_ok());
    assert_eq!((l.sessions, l.cores_reserved, l.mem_reserved), (4, 4, 6 * GIB));
    assert_eq!(a.e.current_load(a.now).sessions, 5);
    // What neither starts nor is taken back runs out.
    a.later(21 * S);
    let l = a.e.current_load(a.now);
    assert_eq!((l.sessions, l.cores_reserved, l.mem_reserved), (0, 0, 0));
    a.e.facts.unwilling = true;
    assert!(a.grant(Need::default(), true).is_ok());
    assert_eq!(a.grant(Need::default(), false).unwrap_err().0, ErrorCode::Unfit);
    a.e.monitor = false;
    assert_eq!(a.grant(by_name, true).unwrap_err().0, ErrorCode::NotReady);
}

#[test]
fn a_drained_host_says_who_wants_it_and_how_it_ends() {
    let mut a = Around::new(&[(1, 0.0)]);
    let drain = Drain {
        by: "alice@h1".into(),
        reason: "new disk".into(),
        since: 1_741_083_060,
    };
    a.input(Input::Drain(Some(drain.clone())));
    assert!(a.e.current_load(a.now).draining);
    assert_eq!(a.drained, [Some(drain)]);
    let (code, text) = a.grant(Need::default(), true).unwrap_err();
    assert!(code == ErrorCode::Draining, "{text}");
    let says =
        "h2 is being drained since 2025-03-04 10:11 UTC by alice@h1 (new disk): 'queue undrain h2' ends that";
    assert_eq!(text, says);
    assert_eq!(a.e.hosts(a.now).hosts[1].reason, says[3..]);
    a.input(Input::Drain(None));
    assert!(a.grant(Need::default(), true).is_ok());
    assert_eq!(a.drained.last(), Some(&None));
    assert!(a.logged[1].contains("no longer"), "{:?}", a.logged);
}

#[test]
fn of_several_who_ask_for_the_last_core_one_is_told_yes() {
    let mut a = Around::new(&[(1, 0.0), (3, 0.0)]);
    let ask = |a: &mut Around, i: u8| a.e.word(a.now, host(i).number(), 1, &cores(4));
    assert_eq!(ask(&mut a, 1).no, "");
    assert!(ask(&mut a, 3).no.contains("core"), "kept for the first one");
    // The same one may ask again; and it is not kept for long.
    assert_eq!(ask(&mut a, 1).no, "");
    a.now += 60 * MS;
    assert_eq!(ask(&mut a, 3).no, "");
    // Whoever asked is expected, as a half, and knows which of them are his own.
    let w = ask(&mut a, 3);
    assert!((w.load.unwrap().starts - 1.5).abs() < 1e-9 && w.yours == 1);
    assert_eq!(a.e.current_load(a.now).starts, 0.0);
    assert!(a.grant(cores(4), false).is_ok());
    assert_eq!(ask(&mut a, 3).code(), ErrorCode::Full);
}

use super::*;
use proptest::prelude::*;

/// A host with a bit of everything.
fn look(name: &str) -> Option<Value> {
    let text = |t: &str| Some(Value::Text(t.into()));
    match name {
        "cores" => Some(Value::Number(8.0)),
        "mem" => Some(Value::Number((24_u64 << 30) as f64)),
        "load" => Some(Value::Number(0.25)),
        "gpus" | "none" => Some(Value::Number(0.0)),
        "host" => text("gpu17"),
        "arch" => text("x86_64"),
        "kernel" => text("6.18.44-fc"),
        "os" => text("debian-13"),
        "raid" => text("100G"),
        "licences" => text("3"),
        "cuda" => text("12.10"),
        "scratch" => text("no"),
        "empty" => text(""),
        "room" => text("b 12"),
        _ => None,
    }
}

fn holds(text: &str) -> bool {
    Expr::parse(text)
        .unwrap_or_else(|e| panic!("{text}: {e}"))
        .holds(&look)
}

#[test]
fn what_holds() {
    for text in [
        "cores",
        "cores>=8",
        "cores == 8",
        "cores=8",
        "cores!=9",
        "cores!=many",
        "cores~8",
        "mem>=24G",
        "mem>23.5GiB",
        "load<0.5",
        "arch==x86_64",
        "arch!=arm64",
        "arch~x86*",
        "host~gpu[0-9]*",
        "raid>=50G",
        "raid<1T",
        "raid==102400M",
        "licences>=2",
        "licences>02",
        "kernel>=6.1",
        "kernel>6.9",
        "kernel<6.19",
        "kernel<7",
        "kernel~6.18.*",
        "cuda>12.4",
        "cuda>=12.10",
        "os>=debian-12",
        "os<debian-110",
        "!gpus",
        "!nothing",
        "!(nothing==1)",
        "!nothing!=1",
        "!scratch",
        "!empty",
        "room==\"b 12\"",
        "room=='b 12'",
        "room~'b*'",
        "cores>=8 && mem>=4G, arch==x86_64",
        "gpus || cores",
        "gpus && nothing || cores",
        "cores || gpus && nothing",
        "!(gpus || nothing) && (cores)",
        " ( cores ) ",
    ] {
        assert!(holds(text), "{text}");
    }
}

#[test]
fn what_does_not_hold() {
    for text in [
        "gpus",
        "nothing",
        "nothing==1",
        "nothing!=1",
        "nothing~*",
        "none",
        "cores>8",
        "cores==many",
        "cores<many",
        "mem>24G",
        "raid>=200G",
        "raid==100",
        "licences>=10",
        "kernel>=6.20",
        "kernel>=7",
        "cuda<12.4",
        "arch==X86_64",
        "arch~x86",
        "gpus || nothing",
        "cores && gpus",
        "(cores || gpus) && nothing",
        "!cores",
    ] {
        assert!(!holds(text), "{text}");
    }
}

#[test]
fn says_what_is_missing() {
    let missing = |text: &str| Expr::parse(text).unwrap().missing(&look);
    let some = |text: &str| Some(text.to_owned());
    assert_eq!(missing("cores"), None);
    assert_eq!(missing("raid>=200G"), some("raid>=200G: raid is 100G"));
    assert_eq!(missing("gpu"), some("gpu: there is no gpu"));
    assert_eq!(missing("cores,gpus,raid>=1T"), some("gpus: gpus is 0"));
    assert_eq!(missing("mem >= 64G"), some("mem>=64G: mem is 24G"));
    assert_eq!(missing("load>1"), some("load>1: load is 0.25"));
    assert_eq!(missing("!cores"), some("!cores: cores is 8"));
    assert_eq!(
        missing("gpu || raid>=1T"),
        some("gpu || raid>=1T: there is no gpu, raid is 100G")
    );
    assert_eq!(
        missing("!(cores && mem)"),
        some("!(cores && mem): cores && mem holds")
    );
    assert_eq!(
        missing("room=='c 1' || gpu && cores"),
        some("room==\"c 1\" || (gpu && cores): room is b 12, there is no gpu")
    );
}

#[test]
fn figures_that_change() {
    let sight = |name: &str| match name {
        "mem_free" => Sight::AtMost(8.0),
        "load" => Sight::AtMost(f64::INFINITY),
        "disk_free" => Sight::AtMost(0.0),
        other => look(other).into(),
    };
    let judge = |text: &str| Expr::parse(text).unwrap().judge(&sight);
    for text in [
        "mem_free>=8",
        "mem_free==8",
        "mem_free<1",
        "mem_free",
        "!mem_free",
        "load<1",
        "load>1",
        "!(load>1)",
        "load>1 && cores",
        "load>1 || gpu",
        "mem_free~1*",
    ] {
        assert_eq!(judge(text), None, "{text}");
    }
    for text in [
        "mem_free>=9",
        "mem_free>8",
        "mem_free<0",
        "disk_free",
        "load>1 && gpu",
        "mem_free==x",
    ] {
        assert_eq!(judge(text), Some(false), "{text}");
    }
    assert_eq!(judge("load>1 || cores"), Some(true));
    assert_eq!(judge("mem_free!=x"), Some(true));
    let e = Expr::parse("mem_free>=9 && load<1").unwrap();
    assert_eq!(
        e.refused(&sight).as_deref(),
        Some("mem_free>=9: mem_free is 8 at most")
    );
    assert_eq!(Expr::parse("load<1").unwrap().refused(&sight), None);
}

#[test]
fn errors_name_the_column_and_what_is_allowed() {
    for (text, column, word) in [
        ("", 1, "a name is missing"),
        ("   ", 4, "a name is missing"),
        ("cores>=", 8, "a value is missing"),
        ("cores >= 8 &", 12, "&&"),
        ("cores mem", 7, "&&"),
        ("(cores", 7, "a ) is missing"),
        ("cores)", 6, "closes nothing"),
        ("8>cores", 1, "write a name"),
        ("cores>>8", 7, "a size as 200G"),
        ("a==\"b", 4, "never closed"),
        ("a==b &&", 8, "a name is missing"),
        ("a~!b", 3, "a text"),
        ("äh", 1, "write a name"),
        ("a\u{1b}", 2, "\\u{1b}"),
    ] {
        let e = Expr::parse(text).unwrap_err();
        assert_eq!(e.column, column, "{text}: {e}");
        assert!(e.to_string().contains(word), "{text}: {e}");
        assert!(!e.to_string().contains('\n'));
    }
}

#[test]
fn limits() {
    assert!(Expr::parse(&format!("{}a{}", "(".repeat(32), ")".repeat(32))).is_ok());
    for text in [
        format!("{}a{}", "(".repeat(33), ")".repeat(33)),
        format!("{}a", "!".repeat(33)),
    ] {
        let e = Expr::parse(&text).unwrap_err();
        assert!(e.column == 34 && e.to_string().contains("at most 32"), "{e}");
    }
    assert!(Expr::parse(&"a".repeat(LEN_MAX)).is_ok());
    assert!(Expr::parse(&"a".repeat(LEN_MAX + 1)).is_err());
    assert!(holds(&["cores"; 140].join("&&")));
    // Beside each other is not within each other.
    assert!(holds(&["(cores)"; 100].join(",")));
}

/// Any expression, in any of the ways to write it.
fn any_expr() -> impl Strategy<Value = String> {
    let name = "[a-z_][a-z0-9_-]{0,6}";
    let value = prop_oneof![
        "[0-9]{1,4}(\\.[0-9]{1,2})?[KMGT]?",
        "[a-zA-Z0-9_.*?-]{1,6}",
        Just("\"a \\\" b\\\\\"".to_owned()),
        Just("''".to_owned()),
        Just("'ä & ('".to_owned()),
    ];
    let op = prop::sample::select(vec!["==", "!=", ">=", "<=", ">", "<", "=", "~", " == "]);
    let leaf = prop_oneof![
        name.prop_map(|n| n),
        (name, op, value).prop_map(|(n, o, v)| format!("{n}{o}{v}"))
    ];
    leaf.prop_recursive(4, 24, 4, |inner| {
        let word = prop::sample::select(vec!["&&", "||", ",", " && ", " || "]);
        prop_oneof![
            inner.clone().prop_map(|e| format!("!({e})")),
            inner.clone().prop_map(|e| format!("({e})")),
            (prop::collection::vec(inner, 2..4), word).prop_map(|(parts, word)| parts.join(word)),
        ]
    })
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn nothing_panics(text in "\\PC{0,80}", some in "[a-c=!<>~&|(),\"' 0-9G.\\\\*\\[\\]^-]{0,60}") {
        for t in [text, some] {
            if let Ok(e) = Expr::parse(&t) {
                prop_assert_eq!(&e.to_string().parse::<Expr>(), &Ok(e.clone()));
                let _ = (e.holds(&look), e.missing(&look));
                prop_assert_eq!(e.holds(&look), e.missing(&look).is_none());
            }
        }
    }

    #[test]
    fn shown_and_read_again(text in any_expr()) {
        prop_assume!(text.len() <= LEN_MAX);
        let e = Expr::parse(&text).map_err(|e| TestCaseError::fail(format!("{text}: {e}")))?;
        prop_assert_eq!(&e.to_string().parse::<Expr>(), &Ok(e.clone()));
        let shown = e.node.to_string();
        if shown.len() <= LEN_MAX {
            prop_assert_eq!(&Expr::parse(&shown).map(|again| again.node), &Ok(e.node.clone()));
        }
        prop_assert_eq!(e.holds(&look), e.missing(&look).is_none());
    }

    #[test]
    fn versions_are_ordered(a in "[0-9a-c.-]{0,8}", b in "[0-9a-c.-]{0,8}", c in "[0-9a-c.-]{0,8}") {
        prop_assert_eq!(versions(&a, &b), versions(&b, &a).reverse());
        if versions(&a, &b).is_le() && versions(&b, &c).is_le() {
            prop_assert!(versions(&a, &c).is_le());
        }
    }
}

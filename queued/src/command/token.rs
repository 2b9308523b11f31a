//! `queued token`: prints a join token. The token alone goes to standard output, so that it can be piped.

use super::{Site, Token, note, say};
use crate::context::Context;
use crate::identity::{self, Identity};
use crate::{admit, discover, name};
use anyhow::bail;
use libqueue::wire::{Empty, reply, request};
use queue_exec::authority;
use queue_exec::layout::Layout;
use std::net::SocketAddr;
use std::time::Duration;

pub(super) fn run(args: &Token) -> anyhow::Result<()> {
    let site = Site::open()?;
    site.need_root("making a token")?;
    if !identity::exists(&site.layout) {
        if !site.layout.root && identity::exists(&Layout::system()) {
            bail!("this host's cluster is root's: make the token as root");
        }
        bail!("this host is in no cluster yet: 'queued init' makes one");
    }
    let id = Identity::load(&site.layout)?;
    if !id.cluster.authority {
        let holder = id
            .members
            .iter()
            .find(|m| m.authority)
            .map_or("the host that ran 'queued init'", |m| &m.host.name);
        bail!(
            "{} does not hold the authority of cluster {}: make the token on {holder}",
            id.own.name,
            id.cluster.name
        );
    }
    if let Some(h) = &args.host {
        name::check(h, true)?;
    }
    if args.lan {
        can_be_found(&site)?;
    }
    let vouch: Vec<String> = args
        .vouch
        .iter()
        .flat_map(|v| v.split([',', ' ']))
        .filter(|u| !u.is_empty())
        .map(str::to_owned)
        .collect();
    let address = match site.ask(request::Kind::Status(Empty {}))? {
        Some(reply::Kind::Status(s)) => s.address,
        _ => {
            note(&format!(
                "queued does not run here yet; before the token is used: {}",
                site.how_to_run()
            ));
            Context::new(site.layout.clone(), site.config.clone(), id, [0; 16], None)?.address()
        }
    };
    let bound = args.host.as_deref().map(str::to_ascii_lowercase);
    let made = authority::create_token(&site.layout, args.ttl, args.uses, &vouch, bound.as_deref())?;
    if !args.lan && site.layout.root && address.parse::<SocketAddr>().is_ok_and(|a| a.ip().is_loopback()) {
        note(&format!(
            "{address} is reached from this machine only: see --advertise of 'queued init'"
        ));
    }
    let token = queue_exec::token::Token {
        address: if args.lan { String::new() } else { address },
        authority: made.authority,
        id: made.id,
        secret: made.secret,
    };
    say(&token.to_string());
    let hosts = if args.uses == 1 {
        "one host".to_owned()
    } else {
        format!("{} hosts", args.uses)
    };
    note(&format!(
        "valid for {} and {hosts}; there: queued join TOKEN",
        admit::span(args.ttl.as_secs())
    ));
    Ok(())
}

/// Whether hosts that have no address of ours could find us.
fn can_be_found(site: &Site) -> anyhow::Result<()> {
    let file = site.config_file.display();
    if !site.config.mdns {
        bail!("this host does not announce itself ('mdns = false' in {file}): make a token without --lan");
    }
    if !discover::heard_outside(&site.config) {
        bail!("queued listens on loopback only ('listen' in {file}): no other host can join");
    }
    Ok(())
}

/// `90s`, `15m`, `12h`, `7d`; a bare number is seconds.
pub(super) fn span(text: &str) -> Result<Duration, String> {
    let bad = || format!("'{text}' is not a time: 90s, 15m, 12h or 7d");
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let n: u64 = digits.parse().map_err(|_| bad())?;
    let unit = match &text[digits.len()..] {
        "" | "s" => 1,
        "m" | "min" => 60,
        "h" => 3600,
        "d" => 86_400,
        _ => return Err(bad()),
    };
    match n.checked_mul(unit) {
        Some(s) if (1..=366 * 86_400).contains(&s) => Ok(Duration::from_secs(s)),
        _ => Err("a token may be valid from one second to a year".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times() {
        let s = |n| Ok(Duration::from_secs(n));
        assert_eq!(span("90s"), s(90));
        assert_eq!(span("15m"), s(900));
        assert_eq!(span("15min"), s(900));
        assert_eq!(span("12h"), s(43_200));
        assert_eq!(span("7d"), s(604_800));
        assert_eq!(span("5"), s(5));
        for bad in [
            "",
            "m",
            "0s",
            "-1s",
            "1y",
            "1.5h",
            "99999999999999999999s",
            "400d",
            "15 m",
        ] {
            assert!(span(bad).is_err(), "{bad}");
        }
    }
}

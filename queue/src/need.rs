//! What a command needs of a host, as options say it. Pure.

use crate::messages::Failure;
use crate::options::Id;
use libqueue::expr::Expr;
use libqueue::size;
use libqueue::wire;

/// What was said. Zero or empty: not said.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Need {
    /// Cores.
    pub cores: u32,
    /// Memory in bytes.
    pub mem: u64,
    /// GPUs.
    pub gpus: u32,
    /// Disk space in bytes.
    pub disk: u64,
    /// What must hold for the host.
    pub expr: String,
}

impl Need {
    /// Takes an option, if it is one of those that say what is needed.
    ///
    /// # Errors
    /// Its value is none.
    pub fn take(&mut self, id: Id, spelled: &str, value: &str) -> Result<bool, Failure> {
        let wrong = |text: String| Failure::own(format!("{spelled}: {text}"));
        let count = || {
            value
                .parse::<u32>()
                .ok()
                .filter(|n| *n > 0)
                .ok_or_else(|| wrong(format!("`{value}` is no number from 1 on")))
        };
        match id {
            Id::Cores => self.cores = count()?,
            Id::Gpus => self.gpus = count()?,
            Id::Mem => self.mem = size::parse(value).map_err(wrong)?,
            Id::Disk => self.disk = size::parse(value).map_err(wrong)?,
            Id::Expr => {
                expression(spelled, value)?;
                // Each of several has to hold.
                self.expr = match self.expr.as_str() {
                    "" => value.to_owned(),
                    before => format!("({before}) && ({value})"),
                };
                expression(spelled, &self.expr)?;
            }
            _ => return Ok(false),
        }
        Ok(true)
    }

    /// As it is asked for; `None`: nothing in particular. `by_name`: see there.
    pub fn wire(&self, by_name: bool) -> Option<wire::Need> {
        let need = wire::Need {
            cores: self.cores,
            mem: self.mem,
            gpus: self.gpus,
            disk: self.disk,
            expr: self.expr.clone(),
            by_name,
            look: false,
        };
        (need != wire::Need::default()).then_some(need)
    }
}

/// For people: `2 cores, 4.0G memory, -R 'raid>=200G'`.
pub fn in_words(need: &wire::Need) -> String {
    let mut parts = Vec::new();
    let counted = |n: u32, one: &str| format!("{n} {one}{}", if n == 1 { "" } else { "s" });
    if need.cores > 0 {
        parts.push(counted(need.cores, "core"));
    }
    if need.mem > 0 {
        parts.push(format!("{} memory", size::show(need.mem)));
    }
    if need.gpus > 0 {
        parts.push(counted(need.gpus, "GPU"));
    }
    if need.disk > 0 {
        parts.push(format!("{} disk", size::show(need.disk)));
    }
    if !need.expr.is_empty() {
        parts.push(format!("-R '{}'", crate::messages::printable(&need.expr)));
    }
    parts.join(", ")
}

/// Reads an expression of `-R`.
///
/// # Errors
/// Where it stops making sense.
pub fn expression(spelled: &str, text: &str) -> Result<Expr, Failure> {
    Expr::parse(text).map_err(|e| Failure::own(format!("{spelled}: {e}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_become_a_need() {
        let mut n = Need::default();
        assert_eq!(n.wire(false), None);
        for (id, value) in [
            (Id::Cores, "4"),
            (Id::Mem, "1.5G"),
            (Id::Gpus, "1"),
            (Id::Disk, "20G"),
            (Id::Expr, "raid>=200G"),
            (Id::Expr, "arch==x86_64 || gpus>0"),
        ] {
            assert!(n.take(id, "--x", value).unwrap());
        }
        assert!(!n.take(Id::Host, "-h", "h2").unwrap());
        let w = n.wire(true).unwrap();
        assert_eq!((w.cores, w.mem, w.gpus, w.disk), (4, 3 << 29, 1, 20 << 30));
        assert_eq!(w.expr, "(raid>=200G) && (arch==x86_64 || gpus>0)");
        assert!(w.by_name && !w.look);
        assert_eq!(
            in_words(&w),
            "4 cores, 1.5G memory, 1 GPU, 20G disk, -R '(raid>=200G) && (arch==x86_64 || gpus>0)'"
        );
        assert!(Need::default().wire(true).unwrap().by_name);
    }

    #[test]
    fn what_is_no_number_is_told() {
        for (id, value) in [
            (Id::Cores, "0"),
            (Id::Cores, "-1"),
            (Id::Gpus, "two"),
            (Id::Mem, "4X"),
            (Id::Disk, ""),
            (Id::Expr, "raid >="),
            (Id::Expr, ""),
        ] {
            let e = Need::default().take(id, "--it", value).unwrap_err();
            assert!(
                e.text.starts_with("--it: ") && !e.text.contains('\n'),
                "{}",
                e.text
            );
        }
    }
}

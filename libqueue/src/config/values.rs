//! Values of `queued.toml` that have rules of their own. They are judged while they are read, so that an error names
//! the very place.

use super::{Operators, Resource};
use crate::resources::NAMES;
use serde::de::{Deserialize, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use std::collections::BTreeMap;
use std::fmt;

/// Longest name or value of a resource.
const WORD_MAX: usize = 64;
/// All names and values together: a host tells them in one datagram.
const RESOURCES_MAX: usize = 640;
/// Longest name of a user or a group.
const USER_MAX: usize = 256;
/// Most cores.
const CORES_MAX: u32 = 8192;
/// Most GPUs.
const GPUS_MAX: u32 = 64;

impl<'de> Deserialize<'de> for Resource {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        struct Value;
        impl Visitor<'_> for Value {
            type Value = Resource;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a count, a size as \"200G\", or a word in quotes")
            }

            fn visit_u64<E: Error>(self, v: u64) -> Result<Resource, E> {
                Ok(Resource::Count(v))
            }

            fn visit_i64<E: Error>(self, v: i64) -> Result<Resource, E> {
                u64::try_from(v)
                    .map(Resource::Count)
                    .map_err(|_| E::custom(format!("{v}: a count is not below 0")))
            }

            fn visit_bool<E: Error>(self, v: bool) -> Result<Resource, E> {
                Ok(Resource::Text(if v { "yes" } else { "no" }.into()))
            }

            fn visit_str<E: Error>(self, v: &str) -> Result<Resource, E> {
                let word = |c: char| c.is_ascii_alphanumeric() || "_.-+/:@%#".contains(c);
                if v.is_empty() || v.len() > WORD_MAX || !v.chars().all(word) {
                    return Err(E::custom(format!(
                        "{v:?} is neither a size as \"200G\" nor one word: use at most {WORD_MAX} letters, digits \
                         and _.-+/:@%#"
                    )));
                }
                Ok(Resource::Text(v.to_owned()))
            }
        }
        d.deserialize_any(Value)
    }
}

/// Name of a resource.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Key(String);

impl<'de> Deserialize<'de> for Key {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        let name = String::deserialize(d)?;
        let such = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_' || c == '-';
        if !name.starts_with(|c: char| c.is_ascii_lowercase())
            || !name.chars().all(such)
            || name.len() > WORD_MAX
        {
            return Err(D::Error::custom(format!(
                "{name:?} is no name of a resource: use small letters, digits, _ and -, a letter first"
            )));
        }
        if NAMES.contains(&name.as_str()) {
            return Err(D::Error::custom(format!(
                "{name} is known of every host: give the resource another name than {}",
                NAMES.join(", ")
            )));
        }
        Ok(Self(name))
    }
}

/// The table `[resources]`.
pub(super) fn resources<'de, D: Deserializer<'de>>(d: D) -> Result<BTreeMap<String, Resource>, D::Error> {
    struct Table;
    impl<'de> Visitor<'de> for Table {
        type Value = BTreeMap<String, Resource>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a table of resources, as in: raid = \"200G\"")
        }

        fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
            let mut all = BTreeMap::new();
            let mut bytes = 0;
            while let Some((Key(name), value)) = map.next_entry::<Key, Resource>()? {
                bytes += name.len() + value.to_string().len() + 6;
                if bytes > RESOURCES_MAX {
                    return Err(A::Error::custom(format!(
                        "too many resources: all names and values together have {RESOURCES_MAX} bytes at most"
                    )));
                }
                all.insert(name, value);
            }
            Ok(all)
        }
    }
    d.deserialize_map(Table)
}

impl fmt::Display for Resource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Count(n) => write!(f, "{n}"),
            Self::Text(t) => f.write_str(t),
        }
    }
}

/// One operator.
struct Operator(String);

impl<'de> Deserialize<'de> for Operator {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        let name = String::deserialize(d)?;
        operator(&name).map_err(D::Error::custom)?;
        Ok(Self(name))
    }
}

fn operator(name: &str) -> Result<(), String> {
    let plain = name.strip_prefix('@').unwrap_or(name);
    let odd = |c: char| c.is_whitespace() || c.is_control() || ",:/@*\\".contains(c);
    if plain.is_empty() || plain.len() > USER_MAX || plain.contains(odd) {
        return Err(format!(
            "{name:?} is no name of an operator: write a user as \"alice\" or a group as \"@wheel\""
        ));
    }
    Ok(())
}

impl<'de> Deserialize<'de> for Operators {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        struct Names;
        impl<'de> Visitor<'de> for Names {
            type Value = Operators;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a name in quotes, or several of them in brackets, as in [\"alice\", \"@wheel\"]")
            }

            fn visit_str<E: Error>(self, v: &str) -> Result<Operators, E> {
                operator(v).map_err(E::custom)?;
                Ok(Operators::One(v.to_owned()))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Operators, A::Error> {
                let mut names = Vec::new();
                while let Some(Operator(name)) = seq.next_element()? {
                    names.push(name);
                }
                Ok(Operators::Many(names))
            }
        }
        d.deserialize_any(Names)
    }
}

/// A power factor.
pub(super) fn power<'de, D: Deserializer<'de>>(d: D) -> Result<f64, D::Error> {
    let power = f64::deserialize(d)?;
    if !(0.01..=100.0).contains(&power) {
        return Err(D::Error::custom(format!(
            "power {power} is none: use 0.01 to 100, where 1.0 is a core as on the other hosts"
        )));
    }
    Ok(power)
}

/// A number of cores.
pub(super) fn cores<'de, D: Deserializer<'de>>(d: D) -> Result<Option<u32>, D::Error> {
    let cores = u32::deserialize(d)?;
    if !(1..=CORES_MAX).contains(&cores) {
        return Err(D::Error::custom(format!(
            "{cores} cores are none to give: use 1 to {CORES_MAX}, or willing = false"
        )));
    }
    Ok(Some(cores))
}

/// A number of GPUs.
pub(super) fn gpus<'de, D: Deserializer<'de>>(d: D) -> Result<Option<u32>, D::Error> {
    let gpus = u32::deserialize(d)?;
    if gpus > GPUS_MAX {
        return Err(D::Error::custom(format!(
            "{gpus} GPUs are too many: use 0 to {GPUS_MAX}"
        )));
    }
    Ok(Some(gpus))
}

//! Links of the host that containers share by classes.
//!
//! ```text
//! FOLDER/uplinks/.lock          flock: whoever changes anything here holds it
//! FOLDER/uplinks/on-DEVICE.json   who has which class of a device; gone with the last of them, as are classes and rules
//! ```
//! What is on disk decides: classes and rules of a device are made anew from it each time one joins or leaves. For that
//! moment the device has no scheduler; what waits in it is lost, as on any link.

use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::classes::{self, Class, Classes, Member};
use crate::error::Place;
use crate::files::{FileError, Folder};
use crate::link;
use crate::name::{NameError, validate_name};
use crate::program;
use crate::rate::{Rate, RateError};
use crate::socket::Socket;
use crate::spec::hash;
use crate::tc;

const LOCK: &str = ".lock";
/// What a device passes where nobody says: more than the classes of most hosts have in all.
const TOTAL: Rate = Rate::gbit(10);
/// Most classes of a device.
const MOST: usize = 255;
/// Lowest priority: the kernel's htb has eight (TC_HTB_NUMPRIO).
const LAST_PRIORITY: u8 = 7;
/// Longest that nft may take.
const LIMIT: Duration = Duration::from_secs(60);

/// What a container has of a shared link. Its text is `device=eth0,rate=10mbit`, with `ceil=`, `priority=` and `total=`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Share {
    /// The device of the host.
    pub device: String,
    /// What it is sure of.
    pub rate: Rate,
    /// What it may have when others leave it; None for all of the link.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ceil: Option<Rate>,
    /// Who is served first of what is left: 0 before 7.
    #[serde(default)]
    pub priority: u8,
    /// What the device passes in all; None for what another container says, or 10 Gbit/s.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub total: Option<Rate>,
}

/// A text that is no share of a link.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ShareError {
    /// No such key, no value, or the key twice.
    #[error("{0:?}: want device=NAME, rate=RATE, ceil=RATE, priority=0..7 or total=RATE, each once")]
    Part(String),
    /// Something that has to be said.
    #[error("it needs {0}=")]
    Needs(&'static str),
    /// A name that no device has.
    #[error("device {name:?}")]
    Device {
        /// As given.
        name: String,
        /// What is wrong with it.
        #[source]
        reason: NameError,
    },
    /// No rate.
    #[error(transparent)]
    Rate(#[from] RateError),
    /// A ceiling below what it is sure of, or above what there is.
    #[error("{0} is more than {1}")]
    Order(String, String),
}

impl FromStr for Share {
    type Err = ShareError;

    fn from_str(text: &str) -> Result<Share, ShareError> {
        let (mut device, mut rate, mut ceil, mut total, mut priority) = (None, None, None, None, None);
        for part in text.split(',') {
            let wrong = || ShareError::Part(part.to_owned());
            let (key, value) = part.split_once('=').ok_or_else(wrong)?;
            let again = match key {
                "device" => device.replace(value.to_owned()).is_some(),
                "rate" => rate.replace(value.parse::<Rate>()?).is_some(),
                "ceil" => ceil.replace(value.parse::<Rate>()?).is_some(),
                "total" => total.replace(value.parse::<Rate>()?).is_some(),
                "priority" => {
                    let number = value.parse().ok().filter(|number| *number <= LAST_PRIORITY);
                    priority.replace(number.ok_or_else(wrong)?).is_some()
                }
                _ => true,
            };
            if again {
                return Err(wrong());
            }
        }
        let device = device.ok_or(ShareError::Needs("device"))?;
        validate_name(&device).map_err(|reason| ShareError::Device { name: device.clone(), reason })?;
        let rate = rate.ok_or(ShareError::Needs("rate"))?;
        for (less, what, more, than) in
            [(Some(rate), "rate", ceil, "ceil"), (ceil, "ceil", total, "total"), (Some(rate), "rate", total, "total")]
        {
            if let (Some(less), Some(more)) = (less, more)
                && less > more
            {
                return Err(ShareError::Order(format!("{what} {less}"), format!("{than} {more}")));
            }
        }
        Ok(Share { device, rate, ceil, priority: priority.unwrap_or(0), total })
    }
}

/// What can go wrong with a shared link.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum UplinkError {
    /// More than there is.
    #[error("network device {device:?} passes {total} in all: containers are sure of {wanted} of it")]
    Full {
        /// The device.
        device: String,
        /// What it passes.
        total: Rate,
        /// What they would be sure of.
        wanted: String,
    },
    /// No number is left.
    #[error("network device {0:?} has 255 classes, which is all")]
    Classes(String),
    /// Two opinions.
    #[error("network device {device:?} passes {total} in all, says container {by:?}")]
    Total {
        /// The device.
        device: String,
        /// What was said before.
        total: Rate,
        /// By whom.
        by: String,
    },
    /// Somebody else shares the link already.
    #[error("network device {0:?} has a scheduler that somebody else has given it (tc qdisc)")]
    Foreign(String),
    /// nft could not do its work.
    #[error("nft -f -: {0}")]
    Program(String),
    /// The device.
    #[error(transparent)]
    Link(#[from] crate::Error),
    /// A file.
    #[error(transparent)]
    File(#[from] FileError),
}

/// Who shares a device.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Shared {
    members: Vec<Joined>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Joined {
    container: String,
    share: Share,
    of: Vec<Member>,
}

/// Where it is kept who shares what.
#[derive(Debug)]
pub struct Uplinks(Folder);

impl Uplinks {
    /// Opens those of a data folder (mostly `/var/lib/skep`), and makes the folder where it is not there.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn open(data: &str) -> Result<Uplinks, UplinkError> {
        Ok(Uplinks(Folder::open(&format!("{data}/uplinks"))?))
    }
}

fn file_of(device: &str) -> String {
    format!("on-{device}.json")
}

/// The number by which the sockets of a container are known to v1 net_cls: made from its name, never 0.
#[must_use]
pub fn plan_class_id(container: &str) -> u32 {
    u32::try_from(hash(&[container, "net_cls"]) >> 32).unwrap_or(u32::MAX) | 1
}

/// Gives a container its class of a device. One that has a class of any device gives it up.
///
/// # Errors
/// [`UplinkError`]; the device's classes are as before then.
pub fn join(
    uplinks: &Uplinks,
    nft: Option<&str>,
    container: &str,
    share: &Share,
    of: &[Member],
) -> Result<(), UplinkError> {
    leave(uplinks, nft, container)?;
    let _lock = uplinks.0.lock(LOCK)?;
    let file = file_of(&share.device);
    let before: Option<Shared> = uplinks.0.read(&file)?;
    if before.is_none() {
        refuse_foreign(&share.device)?;
    }
    let mut shared = before.clone().unwrap_or_default();
    shared.members.push(Joined { container: container.to_owned(), share: share.clone(), of: of.to_vec() });
    let classes = plan_classes(&share.device, &shared)?;
    uplinks.0.write(&file, &shared)?;
    let Err(error) = apply(nft, &classes) else { return Ok(()) };
    match before {
        Some(before) => {
            uplinks.0.write(&file, &before)?;
            apply(nft, &plan_classes(&share.device, &before)?)?;
        }
        None => {
            undo(nft, &share.device)?;
            uplinks.0.remove(&file)?;
        }
    }
    Err(error)
}

/// Takes back what a container has of shared links. May be repeated. False where it had nothing.
///
/// # Errors
/// [`UplinkError`].
pub fn leave(uplinks: &Uplinks, nft: Option<&str>, container: &str) -> Result<bool, UplinkError> {
    let _lock = uplinks.0.lock(LOCK)?;
    let mut left = false;
    for file in uplinks.0.list()? {
        let Some(device) = file.strip_prefix("on-").and_then(|name| name.strip_suffix(".json")) else { continue };
        let mut shared: Shared = uplinks.0.read(&file)?.unwrap_or_default();
        let count = shared.members.len();
        shared.members.retain(|joined| joined.container != container);
        if shared.members.len() == count && count > 0 {
            continue;
        }
        left = true;
        if shared.members.is_empty() {
            // The file last: as long as it is there, what it stands for is taken away again.
            undo(nft, device)?;
            uplinks.0.remove(&file)?;
        } else {
            uplinks.0.write(&file, &shared)?;
            match apply(nft, &plan_classes(device, &shared)?) {
                // The device is gone, and with it its classes.
                Err(UplinkError::Link(crate::Error::Missing { .. })) => {}
                other => other?,
            }
        }
    }
    Ok(left)
}

/// Decides on the classes of a device. Pure.
fn plan_classes(device: &str, shared: &Shared) -> Result<Classes, UplinkError> {
    if shared.members.len() > MOST {
        return Err(UplinkError::Classes(device.to_owned()));
    }
    let mut said = shared.members.iter().filter_map(|joined| Some((joined.share.total?, &joined.container)));
    let first = said.next();
    if let (Some((total, by)), Some(_)) = (first, said.find(|(total, _)| Some(*total) != first.map(|(total, _)| total)))
    {
        return Err(UplinkError::Total { device: device.to_owned(), total, by: by.clone() });
    }
    let total = first.map_or(TOTAL, |(total, _)| total);
    let wanted: u64 = shared.members.iter().map(|joined| joined.share.rate.bits()).sum();
    if wanted > total.bits() {
        let wanted = format!("{wanted}bit");
        return Err(UplinkError::Full { device: device.to_owned(), total, wanted });
    }
    let class = |joined: &Joined| Class {
        of: joined.of.clone(),
        rate: joined.share.rate,
        ceil: joined.share.ceil,
        priority: joined.share.priority,
    };
    Ok(Classes { device: device.to_owned(), rate: total, classes: shared.members.iter().map(class).collect() })
}

/// A scheduler that somebody has given the device is not replaced.
fn refuse_foreign(device: &str) -> Result<(), UplinkError> {
    let mut socket = Socket::open()?;
    let found = link::read_link(&mut socket, device, Place::Host)?;
    let link = found.ok_or_else(|| crate::Error::Missing { name: device.to_owned(), place: Place::Host })?;
    if tc::has_root(&mut socket, (link.index, device))? {
        return Err(UplinkError::Foreign(device.to_owned()));
    }
    Ok(())
}

fn apply(nft: Option<&str>, classes: &Classes) -> Result<(), UplinkError> {
    classes::apply_classes(classes)?;
    change_rules(nft, &classes::render_class_rules(classes))
}

fn undo(nft: Option<&str>, device: &str) -> Result<(), UplinkError> {
    classes::undo_classes(device)?;
    change_rules(nft, &classes::render_no_class_rules(device))
}

fn change_rules(nft: Option<&str>, rules: &str) -> Result<(), UplinkError> {
    let nft = nft.ok_or_else(|| UplinkError::Program("is not installed (package nftables)".to_owned()))?;
    program::ask(nft, &["-f", "-"], rules, LIMIT).map(drop).map_err(UplinkError::Program)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_is_read() {
        let share: Share = "device=eth0,rate=10mbit,ceil=20mbit,priority=3,total=1gbit".parse().unwrap();
        assert_eq!((share.device.as_str(), share.rate.bits(), share.priority), ("eth0", 10_000_000, 3));
        for (text, expected) in [
            ("rate=1mbit", "needs device="),
            ("device=eth0", "needs rate="),
            ("device=a/b,rate=1mbit", "device \"a/b\""),
            ("device=a,rate=1mbit,rate=2mbit", "each once"),
            ("device=a,rate=1mbit,priority=8", "priority=8"),
            ("device=a,rate=fast", "no rate"),
            ("device=a,rate=2mbit,ceil=1mbit", "rate 2mbit is more than ceil 1mbit"),
            ("device=a,rate=2mbit,total=1mbit", "rate 2mbit is more than total 1mbit"),
        ] {
            let said = text.parse::<Share>().unwrap_err().to_string();
            assert!(said.contains(expected), "{text}: {said}");
        }
    }

    fn plan(shares: &[&str]) -> Result<Classes, String> {
        let joined = |(number, text): (usize, &&str)| Joined {
            container: format!("c{number}"),
            share: text.parse().unwrap(),
            of: Vec::new(),
        };
        let shared = Shared { members: shares.iter().enumerate().map(joined).collect() };
        plan_classes("eth0", &shared).map_err(|error| error.to_string())
    }

    #[test]
    fn nobody_is_promised_what_is_not_there() {
        let of = |rest: &str| format!("device=eth0,{rest}");
        let (six, eight) = (of("rate=6mbit,total=10mbit"), of("rate=8mbit"));
        let said = plan(&[&six, &eight]).unwrap_err();
        assert_eq!(said, "network device \"eth0\" passes 10mbit in all: containers are sure of 14000000bit of it");
        let said = plan(&[&six, &of("rate=1mbit,total=20mbit")]).unwrap_err();
        assert_eq!(said, "network device \"eth0\" passes 10mbit in all, says container \"c0\"");
        assert_eq!(plan(&[&six, &of("rate=1mbit,total=10mbit")]).unwrap().rate.to_string(), "10mbit");
        assert_eq!(plan(&[&eight]).unwrap().rate.to_string(), "10gbit");
    }
}

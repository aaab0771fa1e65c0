//! Which ids of the host a container gets for its user namespace. Choosing is pure.

use std::fs;
use std::io::ErrorKind;

use anyhow::{Context, Result, bail};

use crate::copied::in_user_namespace;
use crate::definition::Definition;
use crate::places::{Lock, Places, read_or_empty};

/// Ids of a container: what Debian's own users need, `nobody` (65534) among them.
pub const COUNT: u32 = 65_536;

/// The name whose lines in `/etc/subuid` and `/etc/subgid` say where containers get their ids from.
const USER: &str = "skep";

/// Where they come from without such lines: above all that useradd gives to users (`SUB_UID_MAX` of login.defs is 600100000),
/// and in the part that systemd leaves to containers (its "Users, Groups, UIDs and GIDs": 524288 to 1879048191).
const USUAL: (u32, u32) = (0x4000_0000, 0x3000_0000);

/// The lock of the choice.
const LOCK: &str = ".ids";

/// First id, and how many.
pub type Range = (u32, u32);

/// Chooses the first block of [`COUNT`] ids in `pools` that touches none of `taken`.
#[must_use]
pub fn plan_ids(pools: &[Range], taken: &[Range]) -> Option<Range> {
    let end = |(first, count): Range| (u64::from(first) + u64::from(count)).min(u64::from(u32::MAX));
    for pool in pools {
        let mut first = u64::from(pool.0);
        while first + u64::from(COUNT) <= end(*pool) {
            let last = first + u64::from(COUNT);
            match taken.iter().find(|range| u64::from(range.0) < last && end(**range) > first) {
                Some(range) => first = end(*range),
                None => return u32::try_from(first).ok().map(|first| (first, COUNT)),
            }
        }
    }
    None
}

/// Reads the lines of a user, and those of all others, from a file such as `/etc/subuid`: `NAME:FIRST:COUNT`.
#[must_use]
pub fn parse_subids(text: &str, user: &str) -> (Vec<Range>, Vec<Range>) {
    let (mut own, mut others) = (Vec::new(), Vec::new());
    for line in text.lines() {
        let mut fields = line.trim().split(':');
        let (Some(name), Some(Ok(first)), Some(Ok(count))) =
            (fields.next(), fields.next().map(str::parse), fields.next().map(str::parse))
        else {
            continue;
        };
        if name == user { own.push((first, count)) } else { others.push((first, count)) }
    }
    (own, others)
}

/// Ids that both lists have: uids and gids of a container are the same numbers.
fn common(uids: &[Range], gids: &[Range]) -> Vec<Range> {
    let mut both = Vec::new();
    for (first, count) in uids {
        for (other, other_count) in gids {
            let begin = *first.max(other);
            let end = first.saturating_add(*count).min(other.saturating_add(*other_count));
            if begin < end {
                both.push((begin, end - begin));
            }
        }
    }
    both
}

/// Chooses ids for a new container that no other one has. The lock is to be held until the definition is on disk.
///
/// # Errors
/// The kernel allows no user namespaces; no block is free; a file cannot be read.
pub fn allocate(places: &Places) -> Result<(Range, Lock)> {
    need_namespaces()?;
    if in_user_namespace()? {
        bail!(
            "in a container there are no ids to give to another one: --privileged shares those of this one, --ids names some"
        );
    }
    let lock = places.lock_own(LOCK)?;
    let mut taken = Vec::new();
    for name in Definition::names(places)? {
        // One that cannot be read cannot be started, and its files have no shifted owners.
        taken.extend(Definition::read(places, &name).ok().flatten().and_then(|definition| definition.ids));
    }
    let uids = parse_subids(&read_or_empty("/etc/subuid")?, USER);
    let gids = parse_subids(&read_or_empty("/etc/subgid")?, USER);
    taken.extend(uids.1.iter().chain(&gids.1));
    let own = common(&uids.0, &gids.0);
    let pools = if own.is_empty() { vec![USUAL] } else { own };
    match plan_ids(&pools, &taken) {
        Some(range) => Ok((range, lock)),
        None => bail!(
            "no {COUNT} ids in a row are free for a user namespace: add a line {USER}:FIRST:COUNT to /etc/subuid and to \
             /etc/subgid, name some by --ids, or share the host's by --privileged"
        ),
    }
}

/// Says early what clone would say no more of than ENOSPC.
fn need_namespaces() -> Result<()> {
    const LIMIT: &str = "/proc/sys/user/max_user_namespaces";
    match fs::read_to_string(LIMIT) {
        Ok(text) if text.trim() != "0" => Ok(()),
        Err(error) if error.kind() != ErrorKind::NotFound => Err(error).with_context(|| format!("cannot read {LIMIT}")),
        _ => bail!("this kernel allows no user namespaces ({LIMIT}): --privileged shares the host's ids instead"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_the_first_free_block() {
        let pool = [(100_000, 3 * COUNT)];
        assert_eq!(plan_ids(&pool, &[]), Some((100_000, COUNT)));
        assert_eq!(plan_ids(&pool, &[(100_000, COUNT)]), Some((165_536, COUNT)));
        // One that overlaps by a single id is in the way, wherever it begins.
        assert_eq!(plan_ids(&pool, &[(99_999, 2)]), Some((100_001, COUNT)));
        assert_eq!(plan_ids(&pool, &[(231_071, 1), (100_000, 1)]), Some((100_001, COUNT)));
        assert_eq!(plan_ids(&pool, &[(100_000, 3 * COUNT - 1)]), None);
        assert_eq!(plan_ids(&[(5, 10), USUAL], &[(USUAL.0, COUNT)]), Some((USUAL.0 + COUNT, COUNT)));
        // The last id is nobody's: it stands for none.
        assert_eq!(plan_ids(&[(u32::MAX - 10, u32::MAX)], &[]), None);
    }

    #[test]
    fn lines_of_others_are_kept_apart() {
        let text = "root:1:2\nskep:100000:65536\nbroken\nskep:x:1\n other:300000:65536\n";
        assert_eq!(parse_subids(text, "skep"), (vec![(100_000, 65_536)], vec![(1, 2), (300_000, 65_536)]));
        assert_eq!(common(&[(10, 10)], &[(0, 12), (15, 10)]), [(10, 2), (15, 5)]);
        assert_eq!(common(&[(10, 10)], &[(20, 1)]), []);
    }
}

//! The short-lived process that enters namespaces in the order that one clone cannot.
//!
//! It joins what it has the right to join, then joins or makes the user namespace, joins the rest, sets clock offsets,
//! clones the container's first process as a sibling of itself and ends.

use std::os::fd::AsFd;

use runtime_spec::model::{IdMapping, NamespaceKind, TimeClock, TimeOffset};
use sys::process::Cloned;

use super::Child;
use crate::birth::Birth;
use crate::error::{Error, Result};
use crate::step::{Launcher, Slot};

/// Runs in the launcher. Returns only in the container's first process.
pub(crate) fn launch(child: &mut Child<'_>, launcher: &Launcher, birth: &Birth<'_>) {
    match prepare_and_clone(child, launcher, birth) {
        // Its own messages would overtake the launcher's.
        Ok(Cloned::Child) => {
            if let Err(error) = child.channel.wait_for_go() {
                child.fail(&error);
            }
        }
        Ok(Cloned::Parent { pid, pidfd }) => match child.channel.hand_over(pid, pidfd.as_fd()) {
            Ok(()) => sys::process::exit_now(0),
            Err(error) => child.fail(&error),
        },
        Err(error) => child.fail(&error.in_step("launch the container's first process")),
    }
}

fn prepare_and_clone(child: &mut Child<'_>, launcher: &Launcher, birth: &Birth<'_>) -> Result<Cloned> {
    if let Some(value) = launcher.oom_score_adj {
        let process = child.proc.own_process()?;
        child.proc.write(&format!("{process}/oom_score_adj"), &value.to_string())?;
    }
    // Before anything is joined: what lives there may not trace this process or its child, which hold descriptors of the
    // host.
    if launcher.hides_first {
        sys::process::set_dumpable(false)?;
    }
    let mut postponed = Vec::new();
    for (kind, slot) in &launcher.join {
        match join(child, *kind, *slot) {
            // Owned by the user namespace that comes next.
            Err(error) if error.errno() == Some(sys::Errno::PERM) => postponed.push((*kind, *slot)),
            other => other?,
        }
    }
    if let Some(slot) = launcher.user_namespace {
        join(child, NamespaceKind::User, slot)?;
        if let Some((uids, gids)) = &launcher.expected_maps {
            check_map(child, "uid_map", uids)?;
            check_map(child, "gid_map", gids)?;
        }
    }
    if launcher.new_user_namespace.is_some() {
        sys::namespace::unshare(NamespaceKind::User.clone_flag())?;
        child.channel.ask_for_maps()?;
    }
    for (kind, slot) in postponed {
        join(child, kind, slot)?;
    }
    if launcher.new_time_namespace {
        sys::namespace::unshare(NamespaceKind::Time.clone_flag())?;
        if !launcher.time_offsets.is_empty() {
            let process = child.proc.own_process()?;
            let offsets = render_offsets(&launcher.time_offsets);
            child.proc.write(&format!("{process}/timens_offsets"), &offsets)?;
        }
    }
    birth.clone_process(sys::process::CLONE_PARENT)
}

/// The definition's mappings decide who owns what is made outside, so they must be those of the namespace that is joined.
fn check_map(child: &Child<'_>, file: &str, expected: &[IdMapping]) -> Result<()> {
    let thread = child.proc.own_thread()?;
    let text = child.proc.read(&format!("{thread}/{file}"))?;
    // The kernel sorts maps of many ranges.
    let sorted = |mut map: Vec<IdMapping>| {
        map.sort_by_key(|range| range.container_id);
        map
    };
    if parse_map(&text).map(sorted) == Some(sorted(expected.to_vec())) {
        return Ok(());
    }
    let found = text.split_ascii_whitespace().collect::<Vec<_>>().join(" ");
    Err(Error::Unsupported(format!(
        "the mappings of the definition are not those of the joined user namespace ({file}: {found})"
    )))
}

/// Lines of three numbers: first id inside, first id outside, how many (user_namespaces(7)).
fn parse_map(text: &str) -> Option<Vec<IdMapping>> {
    text.lines()
        .map(|line| {
            let mut numbers = line.split_ascii_whitespace().map(str::parse::<u32>);
            let mut next = || numbers.next()?.ok();
            Some(IdMapping { container_id: next()?, host_id: next()?, size: next()? })
        })
        .collect()
}

fn join(child: &Child<'_>, kind: NamespaceKind, slot: Slot) -> Result<()> {
    sys::namespace::join(child.slot(slot)?, kind.clone_flag())
        .map_err(|e| Error::from(e).in_step(format!("join {} namespace", kind.oci_name())))
}

/// One line per clock: name, seconds, nanoseconds (time_namespaces(7)).
fn render_offsets(offsets: &[TimeOffset]) -> String {
    offsets
        .iter()
        .map(|offset| {
            let clock = match offset.clock {
                TimeClock::Monotonic => "monotonic",
                TimeClock::Boottime => "boottime",
            };
            format!("{clock} {} {}\n", offset.secs, offset.nanosecs)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn maps_are_read_as_the_kernel_writes_them() {
        let text = "         0     100000      65536\n     65536       1000          1\n";
        let expected = [
            IdMapping { container_id: 0, host_id: 100_000, size: 65_536 },
            IdMapping { container_id: 65_536, host_id: 1000, size: 1 },
        ];
        assert_eq!(parse_map(text).as_deref(), Some(&expected[..]));
        assert_eq!(parse_map("0 x 1\n"), None);
    }

    #[test]
    fn offsets_are_lines() {
        let offsets = [
            TimeOffset { clock: TimeClock::Monotonic, secs: -5, nanosecs: 7 },
            TimeOffset { clock: TimeClock::Boottime, secs: 86400, nanosecs: 0 },
        ];
        assert_eq!(render_offsets(&offsets), "monotonic -5 7\nboottime 86400 0\n");
    }
}

//! `lxc-wait` and `lxc-monitor`.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use sys::regex::Regex;

use crate::changes::{Changes, Next};
use crate::options::Call;
use crate::output;
use crate::skep::{Skep, render_status};
use crate::tools::find;

/// The states that can be waited for.
const STATES: [&str; 8] = ["STOPPED", "STARTING", "RUNNING", "STOPPING", "ABORTING", "FREEZING", "FROZEN", "THAWED"];
/// What a shell shows of a program that a signal ended, without the signal's number.
const BY_SIGNAL: i32 = 128;

/// Waits until a container is in one of some states; 1 when it is not in time.
pub(super) fn wait(skep: &Skep, call: &Call) -> Result<u8> {
    let Some(states) = call.get("state") else {
        output::tell(&format!("{}: could not parse command line\n", call.tool));
        return Ok(1);
    };
    let wanted: Vec<&str> = states.split('|').collect();
    if let Some(unknown) = wanted.iter().find(|state| !STATES.contains(state)) {
        bail!("invalid state '{unknown}'");
    }
    // A negative number of seconds is no limit, as none is.
    let limit = match call.get("timeout").map(str::parse::<i64>) {
        None => None,
        Some(Ok(seconds)) => u64::try_from(seconds).ok().map(Duration::from_secs),
        Some(Err(_)) => bail!("the timeout is no number of seconds"),
    };
    // What has thawed runs.
    let fits = |now: &str| wanted.contains(&now) || (now == "RUNNING" && wanted.contains(&"THAWED"));
    let until = limit.map(|limit| Instant::now() + limit);
    if fits(render_status(find(skep, call)?.state.as_ref())) {
        return Ok(0);
    }
    if limit.is_some_and(|limit| limit.is_zero()) {
        return Ok(1);
    }
    let mut changes = Changes::listen(skep, Some(&call.name))?;
    loop {
        match changes.next(until.map(|until| until.saturating_duration_since(Instant::now())))? {
            // A container of another kind may have the name.
            Next::Change { state, .. } if fits(state) && fits(render_status(find(skep, call)?.state.as_ref())) => {
                return Ok(0);
            }
            Next::Change { .. } => {}
            Next::Late => return Ok(1),
            Next::Signal(signal) => return Ok(u8::try_from(BY_SIGNAL + signal).unwrap_or(1)),
        }
    }
}

/// Tells changes of states until it is stopped. The name is a regular expression.
pub(super) fn monitor(skep: &Skep, call: &Call) -> Result<u8> {
    if call.has("quit") {
        return Ok(0);
    }
    let text = call.get("name").or(call.operands.first().map(String::as_str)).unwrap_or(".*");
    let pattern = Regex::new(&format!("^({text})$")).context("the name is no regular expression")?;
    let lxcpath = std::path::absolute(&call.lxcpath).context("cannot tell the current folder")?;
    let mut changes = Changes::listen(skep, None)?;
    // A start defines a container anew: for a moment there is none.
    let mut known: BTreeMap<String, &'static str> = BTreeMap::new();
    let mut listed = Vec::new();
    loop {
        let (name, state, initial, code) = match changes.next(None)? {
            Next::Change { name, state, initial, code } => (name, state, initial, code),
            Next::Late => continue,
            Next::Signal(signal) => return Ok(u8::try_from(BY_SIGNAL + signal).unwrap_or(1)),
        };
        if !pattern.is_match(&name) {
            continue;
        }
        if !known.contains_key(&name) {
            // Those that there are at first are told one after the other: one list does for them.
            if !initial || listed.is_empty() {
                listed = skep.defined_below(&lxcpath)?;
            }
            if !listed.contains(&name) {
                continue;
            }
        }
        let before = known.insert(name.clone(), state).unwrap_or("STOPPED");
        if !initial && before != state && !output::write_open(&render(&name, (before, state), code))? {
            return Ok(0);
        }
    }
}

/// The steps that LXC tells on the way from one state to another.
fn render(name: &str, (before, state): (&str, &str), code: Option<i64>) -> String {
    let steps: &[&str] = match (before, state) {
        ("STOPPED", "RUNNING") => &["STARTING", "RUNNING"],
        (_, "FROZEN") => &["FREEZING", "FROZEN"],
        ("FROZEN", "RUNNING") => &["THAWED", "RUNNING"],
        (_, "STOPPED") => &["STOPPING", "STOPPED"],
        _ => std::slice::from_ref(&state),
    };
    let exited = code.map_or(String::new(), |code| format!("'{name}' exited with status [{code}]\n"));
    let steps: String = steps.iter().map(|step| format!("'{name}' changed state to [{step}]\n")).collect();
    exited + &steps
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_steps_are_those_of_lxc() {
        assert_eq!(
            render("a", ("RUNNING", "STOPPED"), Some(0)),
            "'a' exited with status [0]\n'a' changed state to [STOPPING]\n'a' changed state to [STOPPED]\n"
        );
        assert_eq!(
            render("a", ("STOPPED", "RUNNING"), None),
            "'a' changed state to [STARTING]\n'a' changed state to [RUNNING]\n"
        );
    }
}

//! `lxc-wait` and `lxc-monitor`: both look again and again.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use sys::regex::Regex;

use crate::options::Call;
use crate::output;
use crate::places::config_path;
use crate::skep::{Skep, render_status};
use crate::tools::find;

/// The states that can be waited for.
const STATES: [&str; 8] = ["STOPPED", "STARTING", "RUNNING", "STOPPING", "ABORTING", "FREEZING", "FROZEN", "THAWED"];
/// How often a state is looked at.
const PAUSE: Duration = Duration::from_millis(100);

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
    let begun = Instant::now();
    loop {
        let now = render_status(find(skep, call)?.state.as_ref());
        // What has thawed runs.
        if wanted.contains(&now) || (now == "RUNNING" && wanted.contains(&"THAWED")) {
            return Ok(0);
        }
        if limit.is_some_and(|limit| begun.elapsed() >= limit) {
            return Ok(1);
        }
        std::thread::sleep(PAUSE);
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
    let look = || -> Result<BTreeMap<String, &'static str>> {
        let states: BTreeMap<String, &'static str> =
            skep.states()?.iter().map(|state| (state.id.clone(), render_status(Some(state)))).collect();
        let is_ours = |(name, from): &(String, Option<std::path::PathBuf>)| {
            from.as_ref() == Some(&config_path(&lxcpath, name)) && pattern.is_match(name)
        };
        let ours = skep.defined()?.into_iter().filter(is_ours);
        Ok(ours.map(|(name, _)| (name.clone(), states.get(&name).copied().unwrap_or("STOPPED"))).collect())
    };
    let mut known = look()?;
    loop {
        std::thread::sleep(PAUSE);
        let now = look()?;
        for (name, state) in &now {
            if known.get(name).copied().unwrap_or("STOPPED") != *state {
                output::write(&format!("'{name}' changed state to [{state}]\n"))?;
            }
        }
        known = now;
    }
}

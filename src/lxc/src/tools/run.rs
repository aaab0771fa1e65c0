//! `lxc-start`, `lxc-stop`, `lxc-freeze` and `lxc-unfreeze`.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail};
use runtime_spec::state::Status;

use crate::options::Call;
use crate::places;
use crate::skep::Skep;
use crate::tools::find;

/// Seconds that a container has to end where nothing is said (lxc-stop(1)).
const TIMEOUT: u64 = 60;
/// Exit code of a stop of what does not run.
const NOT_RUNNING: u8 = 2;

/// The signal that asks a container to end, as its bundle has it.
const STOP_SIGNAL: &str = "org.opencontainers.image.stopSignal";

/// Starts a container from its configuration as it is now.
pub(super) fn start(skep: &Skep, call: &Call) -> Result<u8> {
    let target = find(skep, call)?;
    if target.is_alive() {
        call.tell("Container is already running");
        return Ok(0);
    }
    let config = match call.get("rcfile") {
        Some(file) => std::path::absolute(file).context("cannot tell the current folder")?,
        None if target.config.is_file() => target.config,
        None => bail!("No container config specified"),
    };
    create(skep, call, &config, true)?;
    if let Some(path) = call.get("pidfile") {
        let pid = skep.state(&call.name)?.and_then(|state| state.pid).context("it has ended already")?;
        fs::write(path, format!("{pid}\n")).with_context(|| format!("cannot write {path}"))?;
    }
    Ok(0)
}

/// Defines a container, in the place of what was defined by the same configuration.
pub(super) fn create(skep: &Skep, call: &Call, config: &Path, start: bool) -> Result<()> {
    let command = if start { call.operands.as_slice() } else { &[] };
    // As in LXC the first process has the console as its terminal, unless the configuration wants none.
    let has_console = places::read(config)?.get("lxc.console.path").is_none_or(|setting| setting.value != "none");
    let mut options = Vec::new();
    options.extend(has_console.then_some("--tty"));
    options.extend(start.then_some("--start"));
    define(skep, call, config, &options, command)
}

/// Defines a container with these options and this command, in the place of what was defined by the same configuration.
pub(super) fn define(skep: &Skep, call: &Call, config: &Path, options: &[&str], command: &[String]) -> Result<()> {
    let config = config.to_str().context("the path of the configuration is no text")?;
    let mut args = vec!["create", &call.name, "--lxc-config", config, "--replace"];
    args.extend(options);
    for setting in call.all("define") {
        args.extend(["--lxc-set", setting]);
    }
    if !command.is_empty() {
        args.push("--");
        args.extend(command.iter().map(String::as_str));
    }
    skep.ok(&args).map(drop)
}

/// Stops a container, or starts it again.
pub(super) fn stop(skep: &Skep, call: &Call) -> Result<u8> {
    let others = [("reboot", "-r"), ("nokill", "--nokill"), ("nowait", "-W")];
    if let Some((_, other)) = others.iter().find(|(option, _)| call.has("kill") && call.has(option)) {
        call.tell(&format!("-k can't be used with {other}"));
        return Ok(1);
    }
    let seconds: u64 = match call.get("timeout").map(str::parse) {
        None => TIMEOUT,
        Some(Ok(seconds)) => seconds,
        Some(Err(_)) => bail!("the timeout is no number of seconds"),
    };
    let target = find(skep, call)?;
    let Some(state) = target.state.filter(|state| state.status.is_alive()) else {
        call.tell(&format!("{} is not running", call.name));
        return Ok(NOT_RUNNING);
    };
    if call.has("nowait") || call.has("nokill") {
        let signal = state.annotations.get(STOP_SIGNAL).map_or("TERM", String::as_str);
        skep.ok(&["kill", &call.name, signal])?;
        if call.has("nowait") {
            return Ok(0);
        }
        if !ends_within(skep, &call.name, seconds)? {
            return Ok(1);
        }
    }
    let seconds = if call.has("kill") { 0 } else { seconds };
    skep.ok(&["stop", "--time", &seconds.to_string(), &call.name])?;
    if call.has("reboot") {
        skep.ok(&["start", &call.name])?;
    }
    Ok(0)
}

fn ends_within(skep: &Skep, name: &str, seconds: u64) -> Result<bool> {
    if skep.ok(&["wait", "--time", &seconds.to_string(), name]).is_ok() {
        return Ok(true);
    }
    // The time is up, or nobody could wait.
    Ok(!skep.state(name)?.as_ref().is_some_and(|state| state.status.is_alive()))
}

/// Freezes a container. One that is frozen is as it should be.
pub(super) fn freeze(skep: &Skep, call: &Call) -> Result<u8> {
    turn(skep, call, ("pause", Status::Paused, "freeze"))
}

/// Lets a frozen container go on. One that runs is as it should be.
pub(super) fn unfreeze(skep: &Skep, call: &Call) -> Result<u8> {
    turn(skep, call, ("resume", Status::Running, "unfreeze"))
}

fn turn(skep: &Skep, call: &Call, (verb, wanted, word): (&str, Status, &str)) -> Result<u8> {
    let target = find(skep, call)?;
    match target.state.as_ref().map(|state| state.status) {
        Some(status) if status == wanted => Ok(0),
        // What is stopped is not frozen.
        None | Some(Status::Stopped) if wanted == Status::Running && target.exists() => Ok(0),
        Some(Status::Running | Status::Paused) => skep.ok(&[verb, &call.name]).map(|_| 0),
        _ => bail!("Failed to {word} {}:{}", call.lxcpath.display(), call.name),
    }
}

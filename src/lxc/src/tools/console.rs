//! `lxc-console`, `lxc-device` and `lxc-execute`.

use std::io::IsTerminal;
use std::path::PathBuf;

use anyhow::{Context, Result, bail};

use crate::options::Call;
use crate::places;
use crate::skep::Skep;
use crate::tools::{find, run};

/// What LXC's tool returns where no container could be started.
const NOT_STARTED: u8 = 255;

/// Joins the console of a container.
pub(super) fn console(skep: &Skep, call: &Call) -> Result<u8> {
    let target = find(skep, call)?;
    let tty: i32 = match call.get("tty").map(str::parse) {
        None => 0,
        Some(Ok(tty)) => tty,
        Some(Err(_)) => bail!("the tty is no number"),
    };
    let escape = call.get("escape").unwrap_or("a");
    if !target.is_alive() {
        call.tell(&format!("{} is not running", call.name));
        return Ok(1);
    }
    if tty > 0 {
        bail!("console denied by {}: it has its console alone, which is --tty 0", call.name);
    }
    let escape = escape.trim_start_matches('^').to_ascii_lowercase();
    let status = skep.attached(&["console", "--escape", &escape, &call.name])?;
    Ok(u8::from(!status.success()))
}

/// Gives a running container a device or a link of the host, or takes it away.
pub(super) fn device(skep: &Skep, call: &Call) -> Result<u8> {
    if !find(skep, call)?.is_alive() {
        call.tell(&format!("Container {} is not running", call.name));
        return Ok(1);
    }
    let (verb, device) = match &call.operands[..] {
        [] | [_] => {
            call.tell("Error: no command given (Please see --help output)");
            return Ok(1);
        }
        [verb, device, ..] => (verb.as_str(), device.as_str()),
    };
    let inside = call.operands.get(2).map_or(device, String::as_str);
    let args = match verb {
        "add" => vec!["device", "add", &call.name, device, inside],
        // A link is known by the name that it has inside, a device by its path there.
        "del" if device.contains('/') => vec!["device", "del", &call.name, inside],
        "del" => vec!["device", "del", &call.name, device],
        _ => {
            call.tell("Error: Please use add or del (Please see --help output)");
            return Ok(1);
        }
    };
    let word = if verb == "add" { "to" } else { "from" };
    skep.ok(&args).with_context(|| format!("Failed to {verb} {device} {word} {}", call.name))?;
    Ok(0)
}

/// Runs one command in a container that is made for it, under a small first process.
pub(super) fn execute(skep: &Skep, call: &Call) -> Result<u8> {
    let target = find(skep, call)?;
    if target.is_alive() {
        call.tell("Container is already running");
        return Ok(1);
    }
    let config: PathBuf = match call.get("rcfile") {
        Some(file) => std::path::absolute(file).context("cannot tell the current folder")?,
        None if target.config.is_file() => target.config.clone(),
        None => {
            call.tell("Executing a container with no configuration file may crash the host");
            return Ok(1);
        }
    };
    let command = match &call.operands[..] {
        [] => places::read(&config)?.get("lxc.execute.cmd").map(|setting| vec![setting.value.clone()]),
        words => Some(words.to_vec()),
    };
    // LXC's own tool falls over its feet here.
    let Some(command) = command else { bail!("no command is given, and lxc.execute.cmd is not set") };
    let number = |option: &str| call.get(option).map(str::parse::<u32>).transpose();
    let (Ok(uid), Ok(gid)) = (number("uid"), number("gid")) else { bail!("--uid and --gid are numbers") };
    let user = format!("{}:{}", uid.unwrap_or(0), gid.unwrap_or(0));
    let mut more = vec!["--with-init"];
    if uid.is_some() || gid.is_some() {
        more.extend(["--user", &user]);
    }
    let defined = run::define(skep, call, &config, &more, &command);
    if let Err(error) = defined {
        call.tell(&format!("{error:#}"));
        return Ok(NOT_STARTED);
    }
    if call.has("daemon") {
        return match skep.ok(&["start", &call.name]) {
            Ok(_) => Ok(0),
            Err(error) => {
                call.tell(&format!("{error:#}"));
                forget(skep, call, &target.config)?;
                Ok(NOT_STARTED)
            }
        };
    }
    // A terminal stays with whoever called.
    let reads = if std::io::stdin().is_terminal() { &[][..] } else { &["--interactive"] };
    let args = [&["start", "--foreground"], reads, &[call.name.as_str()]].concat();
    let status = if reads.is_empty() { skep.attached(&args) } else { skep.attached_alone(&args) }?;
    // The end is put down by somebody else, who is waited for.
    skep.ok(&["wait", &call.name])?;
    let never_began = !status.success() && skep.last(&call.name)?.is_none();
    forget(skep, call, &target.config)?;
    let code = status.code().and_then(|code| u8::try_from(code).ok()).unwrap_or(NOT_STARTED);
    Ok(if never_began { NOT_STARTED } else { code })
}

/// A container that has no folder of its own is gone with its command.
fn forget(skep: &Skep, call: &Call, config: &std::path::Path) -> Result<()> {
    if !config.is_file() {
        skep.ok(&["destroy", "--force", &call.name])?;
    }
    Ok(())
}

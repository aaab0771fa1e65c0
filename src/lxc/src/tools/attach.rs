//! `lxc-attach`.

use std::io::IsTerminal;

use anyhow::{Result, bail};

use crate::options::Call;
use crate::skep::Skep;
use crate::tools::find;

/// What runs where no command is given.
const SHELL: &str = "/bin/sh";

/// Runs a command inside; its exit code is the result.
pub(super) fn attach(skep: &Skep, call: &Call) -> Result<u8> {
    if !find(skep, call)?.is_alive() {
        bail!("Failed to get init pid");
    }
    let mut args = vec!["exec".to_owned(), "--cwd".to_owned(), "/".to_owned()];
    if std::io::stdin().is_terminal() && std::io::stdout().is_terminal() {
        args.push("--tty".to_owned());
    }
    let number = |option: &str| call.get(option).map(str::parse::<u32>).transpose();
    match (number("uid"), number("gid")) {
        (Ok(None), Ok(None)) => {}
        (Ok(uid), Ok(gid)) => {
            args.extend(["--user".to_owned(), format!("{}:{}", uid.unwrap_or(0), gid.unwrap_or(0))]);
        }
        _ => bail!("--uid and --gid are numbers"),
    }
    for variable in variables(call) {
        args.extend(["--env".to_owned(), variable]);
    }
    args.push(call.name.clone());
    if call.operands.is_empty() {
        args.push(SHELL.to_owned());
    }
    args.extend(call.operands.iter().cloned());
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let status = skep.attached(&args)?;
    Ok(status.code().and_then(|code| u8::try_from(code).ok()).unwrap_or(1))
}

/// Variables besides those that the container's first process began with: the caller's, or those of them that are named,
/// then what is set.
fn variables(call: &Call) -> Vec<String> {
    let keep: Vec<&str> = call.all("keep-var").collect();
    let clear = call.has("clear-env");
    let kept = std::env::vars().filter(|(key, _)| !clear || keep.contains(&key.as_str()));
    // These are the container's own, whoever calls; those of skep are nobody's.
    let is_inside = |key: &str| matches!(key, "HOME" | "container") || key.starts_with("SKEP_");
    let mut all: Vec<String> =
        kept.filter(|(key, _)| !is_inside(key)).map(|(key, value)| format!("{key}={value}")).collect();
    all.extend(call.all("set-var").map(str::to_owned));
    all
}

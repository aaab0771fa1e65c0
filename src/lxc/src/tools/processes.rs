//! `lxc-ps`: the host's processes with the containers that they are in.

use std::collections::BTreeMap;
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::options::Call;
use crate::output;
use crate::places;
use crate::skep::Skep;

/// The column that says where a process is.
const CONTAINER: &str = "CONTAINER";

/// Prints what ps(1) prints, with a column in front.
pub(super) fn ps(skep: &Skep, call: &Call) -> Result<u8> {
    let lxcpath = std::path::absolute(&call.lxcpath).context("cannot tell the current folder")?;
    let known = places::names(&lxcpath)?;
    let wanted: Option<Vec<&str>> = call.get("name").map(|names| names.split(',').collect());
    if let Some(missing) = wanted.iter().flatten().find(|name| !known.iter().any(|known| known == *name)) {
        bail!("there is no container {missing}");
    }
    let ours = skep.defined_below(&lxcpath)?;
    let mut containers: BTreeMap<u32, String> = BTreeMap::new();
    for state in skep.states()?.into_iter().filter(|state| state.status.is_alive() && ours.contains(&state.id)) {
        // It may have ended in between.
        let Ok(answer) = skep.ok(&["ps", "--format", "json", &state.id]) else { continue };
        let pids: Option<Vec<u32>> = serde_json::from_str(&answer).context("cannot read the answer of ps")?;
        containers.extend(pids.unwrap_or_default().into_iter().map(|pid| (pid, state.id.clone())));
    }
    let listed = Command::new("ps").args(&call.operands).output().context("cannot run ps")?;
    if !listed.status.success() {
        output::tell(&String::from_utf8_lossy(&listed.stderr));
        return Ok(1);
    }
    let is_wanted = |container: Option<&str>| match (&wanted, container) {
        (Some(wanted), Some(container)) => wanted.contains(&container),
        (Some(_), None) => false,
        (None, container) => container.is_some() || !call.has("lxc"),
    };
    output::write(&plan_table(&String::from_utf8_lossy(&listed.stdout), &containers, &is_wanted)?)?;
    Ok(0)
}

/// The table of ps(1) with the containers in front, and without the lines that nobody wants.
fn plan_table(
    text: &str,
    containers: &BTreeMap<u32, String>,
    is_wanted: &dyn Fn(Option<&str>) -> bool,
) -> Result<String> {
    let mut lines = text.lines();
    let header = lines.next().unwrap_or_default();
    let Some(column) = header.split_whitespace().position(|word| word == "PID") else {
        bail!("ps prints no column PID: give it one among its options");
    };
    let width = containers.values().map(String::len).fold(CONTAINER.len(), usize::max);
    let mut table = format!("{CONTAINER:<width$}  {header}\n");
    for line in lines {
        let pid = line.split_whitespace().nth(column).and_then(|word| word.parse().ok());
        let container = pid.and_then(|pid: u32| containers.get(&pid)).map(String::as_str);
        if is_wanted(container) {
            table.push_str(&format!("{:<width$}  {line}\n", container.unwrap_or_default()));
        }
    }
    Ok(table)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_have_their_containers() {
        let containers = BTreeMap::from([(7, "web".to_owned())]);
        let text = "  PID TTY CMD\n    1 ?   init\n    7 ?   httpd\n";
        let table = |inside: bool| plan_table(text, &containers, &|container| !inside || container.is_some()).unwrap();
        assert_eq!(table(true), "CONTAINER    PID TTY CMD\nweb            7 ?   httpd\n");
        assert_eq!(table(false).lines().count(), 3);
        plan_table("CMD\nx\n", &containers, &|_| true).unwrap_err();
    }
}

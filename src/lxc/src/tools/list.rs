//! `lxc-ls`.

use std::collections::BTreeMap;

use anyhow::{Context, Result};
use runtime_spec::state::{State, Status};
use runtime_spec::stats::Usage;
use sys::regex::Regex;

use crate::options::Call;
use crate::output;
use crate::places::{self, Autostart, config_path};
use crate::skep::{Skep, render_status};
use crate::usage;

/// The columns of a table without `-F`.
const USUAL: [&str; 7] = ["NAME", "STATE", "AUTOSTART", "GROUPS", "IPV4", "IPV6", "UNPRIVILEGED"];
/// All columns.
const COLUMNS: [&str; 11] =
    ["NAME", "STATE", "PID", "RAM", "SWAP", "AUTOSTART", "GROUPS", "INTERFACE", "IPV4", "IPV6", "UNPRIVILEGED"];

/// A container of the list.
struct Entry {
    name: String,
    state: Option<State>,
    start: Autostart,
    unprivileged: bool,
}

/// Prints the list.
pub(super) fn list(skep: &Skep, call: &Call) -> Result<u8> {
    let columns: Vec<String> = match call.get("fancy-format") {
        Some(text) => text.split(',').map(|name| name.trim().to_ascii_uppercase()).collect(),
        None => USUAL.map(str::to_owned).to_vec(),
    };
    if let Some(unknown) = columns.iter().find(|name| !COLUMNS.contains(&name.as_str())) {
        output::tell(&format!("Invalid key: {unknown}\n"));
        return Ok(0);
    }
    let Some(filter) = call
        .get("filter")
        .or(call.operands.first().map(String::as_str))
        .map_or(Some(None), |text| Regex::new(text).ok().map(Some))
    else {
        call.tell("the filter is no regular expression");
        return Ok(1);
    };
    let mut entries = read(skep, call)?;
    let wanted: Vec<&str> = call.get("groups").map_or_else(Vec::new, |groups| groups.split(',').collect());
    entries.retain(|entry| {
        filter.as_ref().is_none_or(|filter| filter.is_match(&entry.name))
            && wanted.iter().all(|group| entry.start.groups.iter().any(|has| has == group))
            && is_of_state(call, entry.state.as_ref())
    });
    if entries.is_empty() {
        return Ok(0);
    }
    if call.has("fancy") || call.has("fancy-format") {
        let rows: Result<Vec<Vec<String>>> = entries.iter().map(|entry| row(skep, entry, &columns)).collect();
        output::write(&render_table(&[vec![columns], rows?].concat()))?;
    } else if call.has("line") {
        output::write(&entries.iter().map(|entry| format!("{}\n", entry.name)).collect::<String>())?;
    } else {
        output::write(&render_names(&entries))?;
    }
    Ok(0)
}

fn read(skep: &Skep, call: &Call) -> Result<Vec<Entry>> {
    let lxcpath = std::path::absolute(&call.lxcpath).context("cannot tell the current folder")?;
    let names = places::names(&lxcpath)?;
    if names.is_empty() {
        return Ok(Vec::new());
    }
    let defined = skep.defined_below(&lxcpath)?;
    let mut states: BTreeMap<String, State> =
        skep.states()?.into_iter().map(|state| (state.id.clone(), state)).collect();
    let mut entries = Vec::new();
    for name in names {
        let path = config_path(&lxcpath, &name);
        // It may have been destroyed in between.
        let Ok(config) = places::read(&path) else { continue };
        let state =
            if defined.contains(&name) { states.remove(&name).filter(|state| state.status.is_alive()) } else { None };
        let (start, unprivileged) = (places::autostart(&config), places::is_unprivileged(&config));
        entries.push(Entry { name, state, start, unprivileged });
    }
    Ok(entries)
}

/// Whether a state is one of those that are asked for; without any, all are.
fn is_of_state(call: &Call, state: Option<&State>) -> bool {
    let status = state.map(|state| state.status);
    let asked = [
        ("active", status.is_some()),
        ("running", status == Some(Status::Running)),
        ("frozen", status == Some(Status::Paused)),
        ("stopped", status.is_none()),
    ];
    let mut named = asked.iter().filter(|(option, _)| call.has(option)).peekable();
    named.peek().is_none() || named.any(|(_, fits)| *fits)
}

fn row(skep: &Skep, entry: &Entry, columns: &[String]) -> Result<Vec<String>> {
    let has = |names: &[&str]| columns.iter().any(|column| names.contains(&column.as_str()));
    let pid = entry.state.as_ref().and_then(|state| state.pid);
    // It may end meanwhile; then it has neither.
    let links = match pid.filter(|_| has(&["INTERFACE", "IPV4", "IPV6"])) {
        Some(pid) => usage::interfaces(pid).unwrap_or_default(),
        None => Vec::new(),
    };
    let used = match pid.filter(|_| has(&["RAM", "SWAP"])) {
        Some(_) => usage::read(skep, &entry.name).unwrap_or_default(),
        None => Usage::default(),
    };
    let addresses = |v4: bool| {
        let all = links.iter().flat_map(|link| &link.addresses).filter(|address| address.is_ipv4() == v4);
        all.map(ToString::to_string).collect::<Vec<_>>().join(", ")
    };
    let megabytes = |bytes: Option<u64>| {
        bytes.filter(|_| pid.is_some()).map_or(String::new(), |bytes| format!("{:.2}MB", bytes as f64 / 1_048_576.0))
    };
    let cell = |column: &String| match column.as_str() {
        "NAME" => entry.name.clone(),
        "STATE" => render_status(entry.state.as_ref()).to_owned(),
        "PID" => pid.map_or(String::new(), |pid| pid.to_string()),
        "RAM" => megabytes(used.memory),
        "SWAP" => megabytes(used.swap),
        "AUTOSTART" => u8::from(entry.start.auto).to_string(),
        "GROUPS" => entry.start.groups.join(", "),
        "INTERFACE" => links.iter().map(|link| link.name.clone()).collect::<Vec<_>>().join(", "),
        "IPV4" => addresses(true),
        "IPV6" => addresses(false),
        _ => entry.unprivileged.to_string(),
    };
    let dashed = |text: String| if text.is_empty() { "-".to_owned() } else { text };
    Ok(columns.iter().map(|column| dashed(cell(column))).collect())
}

/// Columns that are as wide as their widest cell, each with a blank behind it.
fn render_table(rows: &[Vec<String>]) -> String {
    let width = |column: usize| {
        let widest = rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
        // As if one used nothing: LXC keeps the room for `0.00MB`.
        let is_size = rows.first().is_some_and(|row| matches!(row[column].as_str(), "RAM" | "SWAP"));
        if is_size { widest.max(6) } else { widest }
    };
    let widths: Vec<usize> = (0..rows.first().map_or(0, Vec::len)).map(width).collect();
    let line = |row: &Vec<String>| {
        let cells = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$} "));
        cells.collect::<String>() + "\n"
    };
    rows.iter().map(line).collect()
}

/// Names, each a line: nobody has told how wide a terminal is. They are as wide as the widest one, or as `NAME`.
fn render_names(entries: &[Entry]) -> String {
    let width = entries.iter().map(|entry| entry.name.len()).fold("NAME".len(), usize::max);
    entries.iter().map(|entry| format!("{:<width$}\n", entry.name)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_has_a_blank_behind_each_cell() {
        let rows = [vec!["NAME".to_owned(), "STATE".to_owned()], vec!["a".to_owned(), "STOPPED".to_owned()]];
        assert_eq!(render_table(&rows), "NAME STATE   \na    STOPPED \n");
    }
}

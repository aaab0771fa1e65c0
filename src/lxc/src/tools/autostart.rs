//! `lxc-autostart`.

use std::time::Duration;

use anyhow::{Context, Result};

use crate::options::Call;
use crate::output;
use crate::places::{self, Autostart, config_path};
use crate::skep::Skep;
use crate::tools::{find, run};

/// Starts containers in their order, or does something else with them; 1 when one of them failed.
pub(super) fn autostart(skep: &Skep, call: &Call) -> Result<u8> {
    let lxcpath = std::path::absolute(&call.lxcpath).context("cannot tell the current folder")?;
    let mut all = Vec::new();
    for name in places::names(&lxcpath)? {
        if let Ok(config) = places::read(&config_path(&lxcpath, &name)) {
            all.push((name, places::autostart(&config)));
        }
    }
    let mut code = 0;
    for (name, start) in plan(all, call) {
        if call.has("list") {
            output::write(&format!("{name} {}\n", start.delay))?;
            continue;
        }
        match act(skep, call, &name) {
            Ok(Acted::Started) if start.delay > 0 => std::thread::sleep(Duration::from_secs(start.delay)),
            Ok(_) => {}
            Err(error) => {
                call.tell(&format!("{name}: {error:#}"));
                code = 1;
            }
        }
    }
    Ok(code)
}

/// Which containers, in which order: group by group, in each by their order.
fn plan(mut all: Vec<(String, Autostart)>, call: &Call) -> Vec<(String, Autostart)> {
    all.retain(|(_, start)| start.auto || call.has("ignore-auto"));
    all.sort_by_key(|(_, start)| start.order);
    if call.has("all") {
        return all;
    }
    let mut planned: Vec<(String, Autostart)> = Vec::new();
    // An empty name stands for containers without a group, and so does no name at all.
    for group in call.get("groups").unwrap_or_default().split(',') {
        for (name, start) in &all {
            let is_in =
                if group.is_empty() { start.groups.is_empty() } else { start.groups.iter().any(|g| g == group) };
            if is_in && !planned.iter().any(|(known, _)| known == name) {
                planned.push((name.clone(), start.clone()));
            }
        }
    }
    planned
}

/// What was done.
#[derive(Debug, PartialEq, Eq)]
enum Acted {
    Started,
    Else,
}

fn act(skep: &Skep, call: &Call, name: &str) -> Result<Acted> {
    let kept = ["timeout", "kill", "reboot", "quiet"];
    let options = call.options.iter().filter(|(option, _)| kept.contains(option)).cloned().collect();
    let one = Call {
        tool: call.tool.clone(),
        name: name.to_owned(),
        options,
        operands: Vec::new(),
        lxcpath: call.lxcpath.clone(),
    };
    let alive = find(skep, &one)?.is_alive();
    if call.has("kill") || call.has("shutdown") || call.has("reboot") {
        if alive {
            run::stop(skep, &one)?;
        }
        return Ok(Acted::Else);
    }
    if alive {
        return Ok(Acted::Else);
    }
    run::start(skep, &one)?;
    Ok(Acted::Started)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_and_orders_decide() {
        let entry = |name: &str, auto, order, groups: &[&str]| {
            let groups = groups.iter().map(|group| (*group).to_owned()).collect();
            (name.to_owned(), Autostart { auto, delay: 0, order, groups })
        };
        let all = || {
            vec![
                entry("a", true, 5, &["g"]),
                entry("b", true, 1, &[]),
                entry("c", false, 0, &[]),
                entry("d", true, 0, &["g", "h"]),
            ]
        };
        let names = |options: &[(&'static str, &str)]| {
            let call = Call {
                tool: String::new(),
                name: String::new(),
                options: options.iter().map(|(name, value)| (*name, (*value).to_owned())).collect(),
                operands: Vec::new(),
                lxcpath: "/".into(),
            };
            plan(all(), &call).into_iter().map(|(name, _)| name).collect::<String>()
        };
        assert_eq!(names(&[]), "b");
        assert_eq!(names(&[("all", "")]), "dba");
        assert_eq!(names(&[("ignore-auto", "")]), "cb");
        assert_eq!(names(&[("groups", "g")]), "da");
        assert_eq!(names(&[("groups", "h,g")]), "da");
        assert_eq!(names(&[("groups", ",g")]), "bda");
    }
}

//! `cgroup get` and `set`: files of a container's group, by the names that the kernel gives them.

use std::fs::{self, OpenOptions};
use std::io::Write;

use anyhow::{Context, Error, Result, bail};
use runtime_spec::fragment;
use runtime_spec::lxc::{Layout, plan_resource};
use serde_json::json;

use crate::added::Running;
use crate::args_live::CgroupVerb;
use crate::bundle::CPU_PERIOD_US;
use crate::cgroup_file::{self, validate_key};
use crate::definition::Definition;
use crate::lxc::probe_layout;
use crate::ops::checkconfig;
use crate::output::{self, Format};
use crate::pending;
use crate::run::Manager;
use crate::validate::validate_memory;

/// `cgroup get | set`.
///
/// # Errors
/// It does not run, there is no such file, or the kernel refuses the value.
pub fn cgroup(manager: &Manager, verb: &CgroupVerb) -> Result<()> {
    match verb {
        CgroupVerb::Get { name, key, printed } => get(manager, name, key, printed.format()),
        CgroupVerb::Set { name, key, value, save } => set(manager, name, key, value, *save),
    }
}

fn get(manager: &Manager, name: &str, key: &str, format: Format) -> Result<()> {
    validate_key(key)?;
    Definition::need(&manager.places, name)?;
    let Some(running) = Running::find(manager, name)? else { bail!("container {name:?} does not run") };
    let file = cgroup_file::find(&manager.places, name, running.pid, key)?;
    let text = fs::read_to_string(&file.path).with_context(|| format!("cannot read {key} of container {name:?}"))?;
    match format {
        Format::Table => output::write(&text),
        _ => output::print(format, &json!({ "key": key, "value": text.trim_end() }), Vec::new),
    }
}

fn set(manager: &Manager, name: &str, key: &str, value: &str, save: bool) -> Result<()> {
    validate_key(key)?;
    let _lock = pending::lock(manager, name)?;
    let before = Definition::need(&manager.places, name)?;
    let running = Running::find(manager, name)?;
    if running.is_none() && !save {
        bail!("container {name:?} does not run: --save keeps a limit for its next start");
    }
    let mut after = before.clone();
    if save {
        keep(&mut after, key, value)
            .and_then(|()| checkconfig::refuse_new(manager, Some(&before), &after))
            .with_context(|| format!("cannot keep {key} of container {name:?}"))?;
    }
    if let Some(running) = &running {
        let file = cgroup_file::find(&manager.places, name, running.pid, key)?;
        // One write, as the kernel wants it; nothing is made where the file is not.
        let written = OpenOptions::new().write(true).open(&file.path).and_then(|mut f| f.write_all(value.as_bytes()));
        written.with_context(|| format!("cannot set {key} of container {name:?} to {value:?}"))?;
    }
    if before != after {
        after.write(&manager.places.container(name))?;
    }
    Ok(())
}

/// Puts a limit into a definition: into the field that it has, or else into its piece of config.json.
fn keep(definition: &mut Definition, key: &str, value: &str) -> Result<()> {
    let planned = |file: &str, layout| plan_resource(file, value, layout).map_err(Error::msg);
    let limits = &mut definition.limits;
    let field = match key {
        "memory.max" | "memory.limit_in_bytes" => {
            let bytes = planned("memory.limit_in_bytes", Layout::Legacy)?["memory"]["limit"].as_u64();
            limits.memory = bytes.map(validate_memory).transpose().map_err(Error::msg)?;
            "memory/limit"
        }
        "pids.max" => {
            limits.pids = planned(key, Layout::Legacy)?["pids"]["limit"].as_i64().filter(|number| *number >= 0);
            "pids/limit"
        }
        "cpu.max" | "cpu.cfs_quota_us" => {
            limits.millicpus = parse_cpu(value).with_context(|| format!("{value:?} is no value of {key}"))?;
            "cpu/quota"
        }
        _ => {
            let resources = planned(key, probe_layout())?;
            fragment::merge(&mut definition.oci, &json!({ "linux": { "resources": resources } }));
            return Ok(());
        }
    };
    // What it says is laid over the limit.
    if let Some((group, field)) = field.split_once('/')
        && let Some(group) = definition.oci.pointer_mut(&format!("/linux/resources/{group}"))
        && let Some(group) = group.as_object_mut()
    {
        group.remove(field);
    }
    Ok(())
}

/// A quota in microseconds and its period, which is the kernel's own where it is not said, as thousandths of a processor;
/// no limit for `max` and `-1`.
fn parse_cpu(value: &str) -> Option<Option<u64>> {
    let mut parts = value.split_whitespace();
    let quota = match parts.next()? {
        "max" | "-1" => return Some(None),
        number => number.parse::<u64>().ok()?,
    };
    let period = parts.next().map_or(Some(CPU_PERIOD_US), |period| period.parse().ok()).filter(|period| *period > 0)?;
    Some(Some(quota.checked_mul(1000)?.div_ceil(period)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quota_is_a_part_of_a_processor() {
        assert_eq!(parse_cpu("50000 100000"), Some(Some(500)));
        assert_eq!(parse_cpu("150000"), Some(Some(1500)));
        assert_eq!((parse_cpu("max"), parse_cpu("-1")), (Some(None), Some(None)));
        for value in ["", "x", "5 0", "5 x"] {
            assert_eq!(parse_cpu(value), None, "{value}");
        }
    }

    #[test]
    fn what_is_kept_replaces_what_was() {
        let mut base = json!({ "linux": { "resources": { "unified": { "cpu.weight": "5" }, "list": [1] } } });
        fragment::merge(
            &mut base,
            &json!({ "linux": { "resources": { "unified": { "cpu.weight": "7" }, "list": [2] } } }),
        );
        assert_eq!(base, json!({ "linux": { "resources": { "unified": { "cpu.weight": "7" }, "list": [2] } } }));
    }
}

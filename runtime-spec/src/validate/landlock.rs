//! Landlock rules in an annotation (docs/landlock.md). What the kernel would refuse (security/landlock/syscalls.c) is an
//! error here, with its place.

use std::collections::BTreeMap;

use super::{check_absolute, items, lookup};
use crate::finding::{Log, Path};
use crate::landlock::{ANNOTATION, Kind, Landlock, PathRule, PortRule, Rights};
use crate::oci;

const SECTION: &str = "docs/landlock.md, rules";

/// Reads, judges and lowers the rules, where there are some. Pointers go on inside the annotation's text.
pub(super) fn lower(annotations: &BTreeMap<String, String>, at: &Path<'_>, log: &mut Log) -> Option<Landlock> {
    let text = annotations.get(ANNOTATION)?;
    let at = &at.key(ANNOTATION);
    let written: oci::Landlock = oci::read_embedded(text, at, log)?;
    let silent = oci::LandlockRuleset::default();
    let ruleset = written.ruleset.as_ref().unwrap_or(&silent);
    let ruleset_at = &at.key("ruleset");
    let mut handled = |list, name, kind| rights(items(list), kind, &ruleset_at.key(name), log);
    let file_system = handled(&ruleset.handled_access_fs, "handledAccessFS", Kind::FileSystem);
    let network = handled(&ruleset.handled_access_net, "handledAccessNet", Kind::Network);
    let scoped = handled(&ruleset.scoped, "scoped", Kind::Scope);
    if file_system.is_empty() && network.is_empty() && scoped.is_empty() {
        log.error(ruleset_at, SECTION, "must name at least one access right or scope");
    }
    let silent = oci::LandlockRules::default();
    let rules = written.rules.as_ref().unwrap_or(&silent);
    let rules_at = &at.key("rules");
    Some(Landlock {
        file_system,
        network,
        scoped,
        paths: path_rules(items(&rules.path_beneath), file_system, &rules_at.key("pathBeneath"), log),
        ports: port_rules(items(&rules.net_port), network, &rules_at.key("netPort"), log),
        best_effort: written.best_effort.unwrap_or(false),
    })
}

fn path_rules(list: &[oci::LandlockPaths], handled: Rights, at: &Path<'_>, log: &mut Log) -> Vec<PathRule> {
    let mut rules = Vec::with_capacity(list.len());
    for (index, rule) in list.iter().enumerate() {
        let at = &at.item(index);
        let allowed = allowed(items(&rule.allowed_access), handled, "handledAccessFS", &at.key("allowedAccess"), log);
        let paths = items(&rule.paths);
        if paths.is_empty() {
            log.error(&at.key("paths"), SECTION, "must have at least one entry");
        }
        for (index, path) in paths.iter().enumerate() {
            check_absolute(path, &at.key("paths").item(index), SECTION, log);
        }
        rules.push(PathRule { allowed, paths: paths.to_vec() });
    }
    rules
}

fn port_rules(list: &[oci::LandlockPorts], handled: Rights, at: &Path<'_>, log: &mut Log) -> Vec<PortRule> {
    let mut rules = Vec::with_capacity(list.len());
    for (index, rule) in list.iter().enumerate() {
        let at = &at.item(index);
        let allowed = allowed(items(&rule.allowed_access), handled, "handledAccessNet", &at.key("allowedAccess"), log);
        let ports = items(&rule.ports);
        if ports.is_empty() {
            log.error(&at.key("ports"), SECTION, "must have at least one entry");
        }
        rules.push(PortRule { allowed, ports: ports.to_vec() });
    }
    rules
}

/// Rights of a rule: at least one, and none that would be free without the rule.
fn allowed(names: &[String], handled: Rights, field: &str, at: &Path<'_>, log: &mut Log) -> Rights {
    let allowed = rights(names, handled.kind, at, log);
    if names.is_empty() {
        log.error(at, SECTION, "must have at least one entry");
    }
    let free: Vec<&str> = allowed.without(handled).names().collect();
    if !free.is_empty() {
        let free = free.join(", ");
        log.error(
            at,
            SECTION,
            format_args!("grants {free}, which ruleset.{field} does not list, so nothing denies it"),
        );
    }
    allowed
}

fn rights(names: &[String], kind: Kind, at: &Path<'_>, log: &mut Log) -> Rights {
    let mut rights = Rights::none(kind);
    for (index, name) in names.iter().enumerate() {
        let right = lookup(kind.table(), name, &at.item(index), SECTION, log);
        rights.mask |= right.map_or(0, |(bit, _)| bit);
    }
    rights
}

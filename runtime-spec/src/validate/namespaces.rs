//! Namespaces, id mappings and clock offsets.

use super::{check_absolute, items, quote, required, text};
use crate::finding::{Log, Path};
use crate::model::{ContainerSpec, IdMapping, Namespace, NamespaceKind, TimeClock, TimeOffset};
use crate::oci;

const SECTION: &str = "config-linux.md, namespaces";
const MAPPINGS: &str = "config-linux.md, user namespace mappings";
const OFFSETS: &str = "config-linux.md, offset for time namespace";

/// Most ranges that the kernel takes in one map (UID_GID_MAP_MAX_EXTENTS, include/linux/user_namespace.h).
const MAX_RANGES: usize = 340;

/// The least that a new user namespace can be used with, where the definition says nothing: the specification has no
/// default, and more ids would be a right that nobody asked for.
const ROOT_ALONE: IdMapping = IdMapping { container_id: 0, host_id: 0, size: 1 };

/// Judges and lowers namespaces, mappings and offsets into `spec`.
pub(super) fn lower(linux: &oci::Linux, at: &Path<'_>, spec: &mut ContainerSpec, log: &mut Log) {
    spec.namespaces = namespaces(items(&linux.namespaces), &at.key("namespaces"), log);
    spec.uid_mappings = mappings(items(&linux.uid_mappings), &at.key("uidMappings"), MAPPINGS, log);
    spec.gid_mappings = mappings(items(&linux.gid_mappings), &at.key("gidMappings"), MAPPINGS, log);
    let absent = items(&linux.uid_mappings).is_empty() && items(&linux.gid_mappings).is_empty();
    if absent && spec.makes(NamespaceKind::User) {
        log.warn(
            &at.key("uidMappings"),
            MAPPINGS,
            "is absent, and so is linux.gidMappings: id 0 alone is mapped, to id 0 outside",
        );
        spec.uid_mappings.push(ROOT_ALONE);
        spec.gid_mappings.push(ROOT_ALONE);
    }
    check_user(spec, at, log);
    spec.time_offsets = time_offsets(linux, spec, &at.key("timeOffsets"), log);
}

fn namespaces(list: &[oci::Namespace], at: &Path<'_>, log: &mut Log) -> Vec<Namespace> {
    let mut result: Vec<Namespace> = Vec::with_capacity(list.len());
    for (index, entry) in list.iter().enumerate() {
        let at = at.item(index);
        let path = text(&entry.path);
        if let Some(path) = path {
            check_absolute(path, &at.key("path"), SECTION, log);
        }
        let at = at.key("type");
        let Some(name) = text(&entry.kind) else {
            log.error(&at, SECTION, "is required");
            continue;
        };
        let Some(kind) = NamespaceKind::ALL.into_iter().find(|kind| kind.oci_name() == name) else {
            log.error(&at, SECTION, format_args!("{} is not a type of namespace", quote(name)));
            continue;
        };
        if result.iter().any(|earlier| earlier.kind == kind) {
            log.error(&at, SECTION, format_args!("{} stands in the list twice", quote(name)));
        }
        result.push(Namespace { kind, path: path.map(str::to_owned) });
    }
    result
}

/// Judges and lowers one map: no empty range, none beyond the last id, none that overlaps another.
///
/// The last id, 2^32-1, means "no id" to the kernel and cannot be in a range (kernel/user_namespace.c, `map_write`).
pub(super) fn mappings(list: &[oci::IdMapping], at: &Path<'_>, section: &'static str, log: &mut Log) -> Vec<IdMapping> {
    if list.len() > MAX_RANGES {
        log.error(at, section, format_args!("has {} ranges; the kernel takes {MAX_RANGES}", list.len()));
        return Vec::new();
    }
    let mut result: Vec<IdMapping> = Vec::with_capacity(list.len());
    for (index, entry) in list.iter().enumerate() {
        let at = at.item(index);
        let range = IdMapping {
            container_id: required(entry.container_id, &at.key("containerID"), section, log),
            host_id: required(entry.host_id, &at.key("hostID"), section, log),
            size: required(entry.size, &at.key("size"), section, log),
        };
        if entry.size == Some(0) {
            log.error(&at.key("size"), section, "must be at least 1, not 0");
        }
        for (name, first) in [("containerID", range.container_id), ("hostID", range.host_id)] {
            if first.checked_add(range.size).is_none() {
                let size = range.size;
                log.error(&at.key(name), section, format_args!("{first} with size {size} goes beyond 4294967294"));
            }
        }
        if let Some(other) = result.iter().position(|other| overlaps(*other, range)) {
            log.error(&at, section, format_args!("overlaps the range with index {other}"));
        }
        result.push(range);
    }
    result
}

fn overlaps(a: IdMapping, b: IdMapping) -> bool {
    let meet = |a_first: u32, b_first: u32| {
        let (a_first, b_first) = (u64::from(a_first), u64::from(b_first));
        a_first < b_first + u64::from(b.size) && b_first < a_first + u64::from(a.size)
    };
    meet(a.container_id, b.container_id) || meet(a.host_id, b.host_id)
}

/// Mappings and user namespace must fit each other.
fn check_user(spec: &ContainerSpec, at: &Path<'_>, log: &mut Log) {
    let maps = [("uidMappings", &spec.uid_mappings), ("gidMappings", &spec.gid_mappings)];
    let user = spec.namespace(NamespaceKind::User);
    for (name, map) in maps {
        let at = at.key(name);
        match user {
            None if !map.is_empty() => {
                log.error(&at, MAPPINGS, "needs a namespace of type \"user\"");
            }
            // Mappings beside a path must be those of the namespace: that takes a look at the host, so the engine does it.
            Some(Namespace { path: None, .. }) if map.is_empty() => {
                log.error(&at, MAPPINGS, "is required for a new user namespace that has the other map");
            }
            Some(Namespace { path: None, .. }) if IdMapping::host_id_of(0, map).is_none() => {
                log.warn(&at, MAPPINGS, "does not map id 0: what the runtime makes belongs to the process's user");
            }
            _ => {}
        }
    }
}

/// The ids of the process must be mapped in a new user namespace: the kernel says EINVAL for others.
pub(super) fn check_ids(spec: &ContainerSpec, log: &mut Log) {
    const SECTION: &str = "config.md, POSIX-platform user";
    let Some(process) = spec.process.as_ref().filter(|_| spec.makes(NamespaceKind::User)) else { return };
    let at = Path::Root.key("process");
    let at = at.key("user");
    let mut check = |at: &Path<'_>, map: &[IdMapping], id: u32| {
        if !map.is_empty() && IdMapping::host_id_of(id, map).is_none() {
            log.error(at, SECTION, format_args!("{id} is not mapped into the user namespace"));
        }
    };
    check(&at.key("uid"), &spec.uid_mappings, process.user.uid);
    check(&at.key("gid"), &spec.gid_mappings, process.user.gid);
    let groups = at.key("additionalGids");
    for (index, gid) in process.user.additional_gids.iter().enumerate() {
        check(&groups.item(index), &spec.gid_mappings, *gid);
    }
}

fn time_offsets(linux: &oci::Linux, spec: &ContainerSpec, at: &Path<'_>, log: &mut Log) -> Vec<TimeOffset> {
    let Some(offsets) = linux.time_offsets.as_ref().filter(|offsets| !offsets.is_empty()) else { return Vec::new() };
    match spec.namespace(NamespaceKind::Time) {
        None => log.error(at, OFFSETS, "needs a namespace of type \"time\""),
        Some(Namespace { path: Some(_), .. }) => {
            log.error(at, OFFSETS, "cannot be set for a time namespace that is joined by its path");
        }
        Some(Namespace { path: None, .. }) => {}
    }
    let mut result = Vec::with_capacity(offsets.len());
    for (name, offset) in offsets {
        let at = at.key(name);
        let nanosecs = offset.nanosecs.unwrap_or(0);
        if nanosecs > 999_999_999 {
            log.error(&at.key("nanosecs"), OFFSETS, format_args!("must be at most 999999999, not {nanosecs}"));
        }
        let clock = match name.as_str() {
            "monotonic" => TimeClock::Monotonic,
            "boottime" => TimeClock::Boottime,
            _ => {
                log.error(&at, OFFSETS, "is not a clock that has an offset; these are monotonic and boottime");
                continue;
            }
        };
        result.push(TimeOffset { clock, secs: offset.secs.unwrap_or(0), nanosecs });
    }
    result
}

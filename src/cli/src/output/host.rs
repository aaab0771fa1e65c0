//! `features --host`: what this host offers.

use engine::offer::{Offer, Systemd};

use super::render_json_indented;
use super::table::render_table;

/// Renders tables for people.
#[must_use]
pub fn render_text(offer: &Offer) -> String {
    let mut rows = vec![
        row("kernel", &offer.kernel),
        row("user", &render_user(offer)),
        row("capabilities", &render_capabilities(offer)),
        row("cgroups", &format!("{}: {}", render_mode(offer), join(&offer.cgroup.controllers))),
        row("systemd", yes(offer.systemd.booted)),
        row("systemd cgroups", &render_systemd(&offer.systemd)),
        row("namespaces", &join(&offer.namespaces)),
    ];
    let lsm = &offer.lsm;
    rows.push(row(
        "modules",
        &lsm.active.as_ref().map_or_else(|| "unknown: no securityfs".to_owned(), |list| join(list)),
    ));
    rows.push(row("apparmor", yes(lsm.apparmor)));
    rows.push(row("selinux", yes(lsm.selinux)));
    let landlock = if lsm.landlock_abi == 0 { "no".to_owned() } else { format!("ABI {}", lsm.landlock_abi) };
    rows.push(row("landlock", &landlock));
    rows.push(row("actions", &join(&offer.seccomp.actions)));
    rows.push(row("flags", &join(&offer.seccomp.flags)));
    rows.push(row("filesystems", &join(&offer.file_systems)));
    for program in &offer.programs {
        let path = program.path.clone().unwrap_or_else(|| format!("not found ({})", program.purpose));
        rows.push(row(program.name, &path));
    }
    let mut features = vec![["FEATURE", "SINCE", "HERE"].map(str::to_owned).to_vec()];
    features.extend(offer.features.iter().map(|feature| {
        let here = feature.reason.as_ref().map_or_else(|| "yes".to_owned(), |reason| format!("no: {reason}"));
        vec![feature.name.to_owned(), feature.since.to_owned(), here]
    }));
    format!("{}\n{}", render_table(&rows), render_table(&features))
}

/// Renders one JSON object.
///
/// # Errors
/// None that can happen: all keys are text.
pub fn render_document(offer: &Offer) -> serde_json::Result<String> {
    render_json_indented(offer, "    ").map(|text| text + "\n")
}

fn row(name: &str, value: &str) -> Vec<String> {
    vec![name.to_owned(), value.to_owned()]
}

fn join<S: AsRef<str>>(list: &[S]) -> String {
    if list.is_empty() { "none".to_owned() } else { list.iter().map(AsRef::as_ref).collect::<Vec<_>>().join(" ") }
}

fn yes(value: bool) -> &'static str {
    if value { "yes" } else { "no" }
}

fn render_user(offer: &Offer) -> String {
    let inside = if offer.in_user_namespace { " in a user namespace" } else { "" };
    format!("{}{inside}", offer.euid)
}

fn render_capabilities(offer: &Offer) -> String {
    match offer.missing_capabilities.as_slice() {
        [] => "all".to_owned(),
        missing => format!("all but {}", join(missing)),
    }
}

fn render_systemd(systemd: &Systemd) -> String {
    let whose = if systemd.user { "the user's" } else { "the machine's" };
    match (&systemd.reason, systemd.version) {
        (None, Some(version)) => format!("yes, by {whose} systemd {version}"),
        (reason, _) => format!("no: {}", reason.as_deref().unwrap_or("its version is not known")),
    }
}

fn render_mode(offer: &Offer) -> &'static str {
    match offer.cgroup.mode {
        cgroup::Mode::Legacy => "v1",
        cgroup::Mode::Hybrid => "v1 with v2 beside it",
        cgroup::Mode::Unified => "v2",
    }
}

//! Rules about which crate may depend on which, read from the Cargo.toml files.

use anyhow::{Context, Result};
use toml::Table;

use super::Finding;

/// The crates and their layers. A dependency goes to a lower layer.
///
/// 0 knows no other crate; 1 does one job each; 2 joins the jobs into a container; 3 is what people and programs start;
/// 4 builds and tests the rest, and nothing depends on it.
const LAYERS: [(&str, u8); 19] = [
    ("runtime-spec", 0),
    ("sys", 0),
    ("security", 1),
    ("cgroup", 1),
    ("network", 1),
    ("systemd", 1),
    ("rootfs-tools", 1),
    ("engine", 2),
    ("skep-init", 3),
    ("skep-monitor", 3),
    ("supervisor", 3),
    ("skep", 3),
    ("skep-manager", 3),
    ("skep-lxc", 3),
    ("xtask", 4),
    ("cgroup-cross-check", 4),
    ("integration", 4),
    ("benches", 4),
    ("floor", 4),
];

/// Crates that may know some lower crates only. The supervisor, the manager and the monitor drive `skep` as a program; what is pure makes no calls.
const KNOWS_ONLY: [(&str, &[&str]); 5] = [
    ("supervisor", &["runtime-spec", "sys"]),
    ("security", &["runtime-spec"]),
    ("skep-manager", &["runtime-spec", "sys", "security", "rootfs-tools", "network"]),
    ("skep-monitor", &["runtime-spec", "sys"]),
    ("skep-lxc", &["runtime-spec", "sys", "network", "rootfs-tools"]),
];

/// Libraries that bring an executor; only the supervisor has one.
const ASYNC: [&str; 6] = ["tokio", "async-std", "smol", "futures", "futures-util", "async-trait"];

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// Linked into what is built.
    Linked,
    /// Linked into tests only: a neighbour of the same layer may serve as a cross-check.
    Tests,
}

/// A workspace member, as far as the rules look at it.
struct Member {
    path: String,
    name: String,
    dependencies: Vec<(String, Kind)>,
}

/// Checks the members' Cargo.toml files, given as path and text.
pub(super) fn check(manifests: &[(&str, &str)]) -> Result<Vec<Finding>> {
    let members = parse_members(manifests)?;
    let mut findings = Vec::new();
    for member in &members {
        findings.extend(check_known(member));
        findings.extend(check_edges(member));
        findings.extend(check_async(member));
    }
    Ok(findings)
}

/// Every member's folder stands in the code map of the architecture, so that the map does not drift.
pub(super) fn check_code_map(manifests: &[(&str, &str)], map: &str) -> Result<Vec<Finding>> {
    let members = parse_members(manifests)?;
    let folders = members.iter().filter_map(|member| member.path.strip_suffix("Cargo.toml"));
    let missing = folders.filter(|folder| !map.contains(&format!("`{folder}`")));
    Ok(missing
        .map(|folder| Finding::new("ARCHITECTURE.md", 0, format!("the code map does not name `{folder}`")))
        .collect())
}

fn parse_members(manifests: &[(&str, &str)]) -> Result<Vec<Member>> {
    let parsed = manifests.iter().map(|(path, text)| parse_member(path, text));
    parsed.filter_map(Result::transpose).collect()
}

/// Reads one Cargo.toml; none when it declares no package, as the workspace's own.
fn parse_member(path: &str, text: &str) -> Result<Option<Member>> {
    let table: Table = text.parse().with_context(|| format!("cannot parse {path}"))?;
    let Some(name) = table.get("package").and_then(|package| package.get("name")).and_then(toml::Value::as_str) else {
        return Ok(None);
    };
    let mut dependencies = dependencies_of(&table);
    if let Some(targets) = table.get("target").and_then(toml::Value::as_table) {
        dependencies.extend(targets.values().filter_map(toml::Value::as_table).flat_map(dependencies_of));
    }
    Ok(Some(Member { path: path.to_owned(), name: name.to_owned(), dependencies }))
}

fn dependencies_of(table: &Table) -> Vec<(String, Kind)> {
    let sections =
        [("dependencies", Kind::Linked), ("build-dependencies", Kind::Linked), ("dev-dependencies", Kind::Tests)];
    let mut found = Vec::new();
    for (section, kind) in sections {
        let Some(entries) = table.get(section).and_then(toml::Value::as_table) else { continue };
        for (key, value) in entries {
            // `alias = { package = "name" }`: the package is what counts.
            let name = value.get("package").and_then(toml::Value::as_str).unwrap_or(key);
            found.push((name.to_owned(), kind));
        }
    }
    found
}

fn layer(name: &str) -> Option<u8> {
    LAYERS.iter().find(|(known, _)| *known == name).map(|(_, layer)| *layer)
}

fn check_known(member: &Member) -> Vec<Finding> {
    match layer(&member.name) {
        Some(_) => Vec::new(),
        None => vec![Finding::new(&member.path, 0, format!("crate `{}` has no layer", member.name))],
    }
}

fn check_edges(member: &Member) -> Vec<Finding> {
    let Some(from) = layer(&member.name) else { return Vec::new() };
    let only = KNOWS_ONLY.iter().find(|(name, _)| *name == member.name).map(|(_, only)| *only);
    let mut findings = Vec::new();
    for (name, kind) in &member.dependencies {
        let Some(to) = layer(name) else { continue };
        let down = to < from || (*kind == Kind::Tests && to == from);
        if !down {
            let text = format!("`{}` (layer {from}) depends on `{name}` (layer {to}): edges go down", member.name);
            findings.push(Finding::new(&member.path, 0, text));
        } else if *kind == Kind::Linked && only.is_some_and(|only| !only.contains(&name.as_str())) {
            findings.push(Finding::new(&member.path, 0, format!("`{}` may not know `{name}`", member.name)));
        }
    }
    findings
}

fn check_async(member: &Member) -> Vec<Finding> {
    if member.name == "supervisor" {
        return Vec::new();
    }
    let libraries = member.dependencies.iter().filter(|(name, _)| ASYNC.contains(&name.as_str()));
    libraries
        .map(|(name, _)| Finding::new(&member.path, 0, format!("`{name}`: async belongs to src/supervisor")))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(name: &str, rest: &str) -> Vec<String> {
        let text = format!("[package]\nname = \"{name}\"\n{rest}");
        check(&[("x/Cargo.toml", &text)]).unwrap().into_iter().map(|finding| finding.text).collect()
    }

    fn good(name: &str, rest: &str) {
        assert_eq!(texts(name, rest), Vec::<String>::new());
    }

    fn bad(name: &str, rest: &str, expected: &str) {
        assert_eq!(texts(name, rest), [expected]);
    }

    #[test]
    fn an_edge_goes_down() {
        good("engine", "[dependencies]\nsys.workspace = true\ncgroup.workspace = true\nserde = \"1\"");
        bad(
            "cgroup",
            "[dependencies]\nengine.workspace = true",
            "`cgroup` (layer 1) depends on `engine` (layer 2): edges go down",
        );
        bad(
            "cgroup",
            "[build-dependencies]\nnetwork = { path = \"../network\" }",
            "`cgroup` (layer 1) depends on `network` (layer 1): edges go down",
        );
    }

    #[test]
    fn tests_may_use_a_neighbour_but_nothing_above() {
        good("cgroup", "[dev-dependencies]\nsecurity.workspace = true");
        bad(
            "sys",
            "[dev-dependencies]\nengine.workspace = true",
            "`sys` (layer 0) depends on `engine` (layer 2): edges go down",
        );
    }

    #[test]
    fn neither_an_alias_nor_a_target_table_hides_an_edge() {
        bad(
            "sys",
            "[dependencies]\nother = { package = \"engine\", path = \"../engine\" }",
            "`sys` (layer 0) depends on `engine` (layer 2): edges go down",
        );
        bad(
            "sys",
            "[target.'cfg(unix)'.dependencies]\nengine.workspace = true",
            "`sys` (layer 0) depends on `engine` (layer 2): edges go down",
        );
    }

    #[test]
    fn the_supervisor_knows_no_engine() {
        good("supervisor", "[dependencies]\nruntime-spec.workspace = true\ntokio = \"1\"");
        bad("supervisor", "[dependencies]\nengine.workspace = true", "`supervisor` may not know `engine`");
        bad("security", "[dependencies]\nsys.workspace = true", "`security` may not know `sys`");
    }

    #[test]
    fn an_executor_outside_the_supervisor_is_found() {
        bad("skep", "[dependencies]\ntokio = \"1\"", "`tokio`: async belongs to src/supervisor");
        bad("network", "[dev-dependencies]\nfutures = \"1\"", "`futures`: async belongs to src/supervisor");
    }

    #[test]
    fn a_crate_without_a_layer_is_found() {
        bad("newcomer", "", "crate `newcomer` has no layer");
        assert_eq!(check(&[("Cargo.toml", "[workspace]\nmembers = []")]).unwrap(), []);
    }

    #[test]
    fn a_folder_that_the_code_map_leaves_out_is_found() {
        let manifests = [("src/sys/Cargo.toml", "[package]\nname = \"sys\"")];
        assert_eq!(check_code_map(&manifests, "| `src/sys/` | calls |").unwrap(), []);
        let findings = check_code_map(&manifests, "| src/security | |").unwrap();
        assert_eq!(findings[0].text, "the code map does not name `src/sys/`");
    }
}

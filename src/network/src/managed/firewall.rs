//! The rules in the kernel: our own table by nft, and what docker's chains need by iptables.
//!
//! A packet that one table accepts still passes the others, and a drop anywhere is final. dockerd sets the policy of
//! `filter FORWARD` to drop; so containers of ours reach nothing beside it unless that table accepts their packets too.
//! Our rules there carry a comment that begins with the name of our table, `skep:`, by which they are found again, and no
//! other rule is touched.

use std::time::Duration;

use super::definition::Network;
use super::error::Error;
use super::lease::Leases;
use super::rules::{DOCKER_PREFIX, Docker, render_rules};
use super::store::{USUAL, plan_table};
use crate::link;
use crate::program;
use crate::socket::Socket;

/// Longest that a program may take: the lock of all networks is held meanwhile.
const LIMIT: Duration = Duration::from_secs(60);

/// Has iptables wait for the lock that all who change its rules share, for so many seconds.
const WAIT: [&str; 2] = ["-w", "10"];

/// Absolute paths of programs; `None` where they are not installed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tools {
    /// nft(8). Without it networks with NAT or port forwards cannot be had.
    pub nft: Option<String>,
    /// iptables(8). Without it there is no dockerd either, which needs it itself.
    pub iptables: Option<String>,
    /// ip6tables(8).
    pub ip6tables: Option<String>,
}

/// Puts all rules in place, or takes them away where there is no network.
pub(super) fn apply(tools: &Tools, table: &str, all: &[(Network, Leases)]) -> Result<(), Error> {
    let nft = tools.nft.as_deref().ok_or_else(|| Error::Program {
        program: "nft".to_owned(),
        arguments: "-f -".to_owned(),
        reason: "is not installed (package nftables)".to_owned(),
    })?;
    let bridges: Vec<&str> = all.iter().map(|(network, _)| network.bridge.as_str()).collect();
    let programs: Vec<&String> = plan_programs(tools, has_v6()?).collect();
    let mut present = Vec::new();
    for program in programs {
        present.push((program, run(program, &[&WAIT[..], &["-S"]].concat(), "")?));
    }
    let docker = match parse_docker(present.iter().map(|(_, text)| text.as_str())) {
        Some(docker) if !all.is_empty() => Some(Docker { spared: read_spared(&docker, &bridges)?, ..docker }),
        _ => None,
    };
    let mut rules = render_rules(table, all, docker.as_ref());
    if table != plan_table(USUAL) && is_old_table(nft, &bridges)? {
        rules.insert_str(0, &format!("delete table inet {}\n", plan_table(USUAL)));
    }
    run(nft, &["-f", "-"], &rules)?;
    for (program, present) in present {
        for change in plan_legacy_rules(&present, table, &bridges) {
            let arguments: Vec<&str> = WAIT.into_iter().chain(change.iter().map(String::as_str)).collect();
            run(program, &arguments, "")?;
        }
    }
    Ok(())
}

/// Whether the table of the usual data folder was made for our networks, by a version that had one name for all: it is to go,
/// since nobody will ever change it again. That of another folder's networks names other bridges.
fn is_old_table(nft: &str, bridges: &[&str]) -> Result<bool, Error> {
    if bridges.is_empty() {
        return Ok(false);
    }
    let tables = run(nft, &["list", "tables", "inet"], "")?;
    let old = format!("table inet {}", plan_table(USUAL));
    if !tables.lines().any(|line| line.trim() == old) {
        return Ok(false);
    }
    let listed = run(nft, &["list", "set", "inet", &plan_table(USUAL), "bridges"], "")?;
    let named = parse_elements(&listed);
    Ok(!named.is_empty() && named.iter().all(|name| bridges.contains(name)))
}

/// The names of a set as nft lists it: all texts in quotes.
fn parse_elements(listed: &str) -> Vec<&str> {
    listed.split('"').skip(1).step_by(2).collect()
}

/// Docker's bridges by its rules; None where there is no docker.
fn parse_docker<'a>(present: impl Iterator<Item = &'a str>) -> Option<Docker> {
    let mut docker: Option<Docker> = None;
    for line in present.flat_map(str::lines) {
        if line == "-N DOCKER-USER" {
            docker.get_or_insert_default();
        }
        let words: Vec<&str> = line.split(' ').collect();
        if let ["-A", _, "-o", bridge, "-j", "DOCKER"] = words[..]
            && let Some(docker) = &mut docker
            && !docker.bridges.iter().any(|known| known == bridge)
        {
            docker.bridges.push(bridge.to_owned());
        }
    }
    docker
}

/// Bridges of the host whose names begin as docker's do, and that are neither docker's nor ours: the way to the world may
/// lead through one.
fn read_spared(docker: &Docker, ours: &[&str]) -> Result<Vec<String>, Error> {
    let links = link::read_links(&mut Socket::open()?)?;
    let is_other = |name: &String| !docker.bridges.contains(name) && !ours.contains(&name.as_str());
    let names = links.into_iter().map(|link| link.name).filter(|name| name.starts_with(DOCKER_PREFIX));
    Ok(names.filter(is_other).collect())
}

/// Whether the kernel has IPv6.
fn has_v6() -> Result<bool, Error> {
    match sys::fs::stat_at(sys::fs::CWD, "/proc/sys/net/ipv6") {
        Err(error) if error.is(sys::Errno::NOENT) => Ok(false),
        other => Ok(other.map(|_| true)?),
    }
}

/// The programs that have rules to look at. Without IPv6 in the kernel (`ipv6.disable=1`) ip6tables fails.
fn plan_programs(tools: &Tools, v6: bool) -> impl Iterator<Item = &String> {
    tools.iptables.iter().chain(tools.ip6tables.iter().filter(move |_| v6))
}

/// Decides what to change in the filter table of iptables. Pure.
///
/// `present` is what `iptables -S` prints, `bridges` are those of all networks. Ours are told by a comment that begins with
/// the name of the table. Each change is the arguments of one call.
/// The rules go to the top of `DOCKER-USER`, which docker keeps for others; without docker, of a `FORWARD` that drops.
#[must_use]
pub fn plan_legacy_rules(present: &str, table: &str, bridges: &[&str]) -> Vec<Vec<String>> {
    let chain = if present.lines().any(|line| line == "-N DOCKER-USER") {
        Some("DOCKER-USER")
    } else {
        present.lines().any(|line| line == "-P FORWARD DROP").then_some("FORWARD")
    };
    let wanted: Vec<String> = chain.map_or_else(Vec::new, |chain| {
        let both = bridges.iter().flat_map(|bridge| ["-i", "-o"].map(|way| (way, bridge)));
        both.map(|(way, bridge)| format!("{chain} {way} {bridge} -m comment --comment {table}:{bridge} -j ACCEPT"))
            .collect()
    });
    let ours: Vec<String> = present
        .lines()
        .filter_map(|line| line.strip_prefix("-A "))
        // Some versions put the comment into quotes.
        .map(|rule| rule.replace('"', ""))
        .filter(|rule| rule.contains(&format!("--comment {table}:")))
        .collect();
    let words = |verb: &str, rule: &str| {
        std::iter::once(verb).chain(rule.split(' ')).map(str::to_owned).collect::<Vec<String>>()
    };
    let mut kept: Vec<&String> = Vec::new();
    let mut changes = Vec::new();
    for rule in &ours {
        if wanted.contains(rule) && !kept.contains(&rule) {
            kept.push(rule);
        } else {
            changes.push(words("-D", rule));
        }
    }
    changes.extend(wanted.iter().filter(|rule| !kept.contains(rule)).map(|rule| words("-I", rule)));
    changes
}

/// Runs a program with a text as its input and returns what it prints.
fn run(path: &str, arguments: &[&str], input: &str) -> Result<String, Error> {
    let fail = |reason| Error::Program { program: path.to_owned(), arguments: arguments.join(" "), reason };
    program::ask(path, arguments, input, LIMIT).map_err(fail)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(present: &str, bridges: &[&str], expected: &[&str]) {
        let changes: Vec<String> =
            plan_legacy_rules(present, "skep", bridges).iter().map(|change| change.join(" ")).collect();
        assert_eq!(changes, expected);
    }

    #[test]
    fn a_kernel_without_ipv6_has_no_rules_for_it() {
        let tools = Tools { nft: None, iptables: Some("4".into()), ip6tables: Some("6".into()) };
        assert_eq!(plan_programs(&tools, true).collect::<Vec<_>>(), ["4", "6"]);
        assert_eq!(plan_programs(&tools, false).collect::<Vec<_>>(), ["4"]);
    }

    const DOCKER: &str = "-P INPUT ACCEPT\n-P FORWARD DROP\n-P OUTPUT ACCEPT\n-N DOCKER\n-N DOCKER-USER\n\
                          -A FORWARD -j DOCKER-USER\n-A DOCKER-USER -j RETURN\n";
    const IN: &str = "DOCKER-USER -i skep-a -m comment --comment skep:skep-a -j ACCEPT";
    const OUT: &str = "DOCKER-USER -o skep-a -m comment --comment skep:skep-a -j ACCEPT";

    #[test]
    fn docker_gets_rules_once() {
        check(DOCKER, &["skep-a"], &[&format!("-I {IN}"), &format!("-I {OUT}")]);
        check(&format!("{DOCKER}-A {IN}\n-A {OUT}\n"), &["skep-a"], &[]);
        let quoted = OUT.replace("skep:skep-a", "\"skep:skep-a\"");
        check(&format!("{DOCKER}-A {IN}\n-A {quoted}\n"), &["skep-a"], &[]);
    }

    #[test]
    fn what_is_missing_or_too_much_is_changed() {
        check(&format!("{DOCKER}-A {IN}\n"), &["skep-a"], &[&format!("-I {OUT}")]);
        check(&format!("{DOCKER}-A {IN}\n-A {IN}\n-A {OUT}\n"), &["skep-a"], &[&format!("-D {IN}")]);
        check(&format!("{DOCKER}-A {IN}\n-A {OUT}\n"), &[], &[&format!("-D {IN}"), &format!("-D {OUT}")]);
    }

    #[test]
    fn without_docker_a_forward_that_drops_gets_them() {
        let forward = |rule: &str| rule.replace("DOCKER-USER", "FORWARD");
        check("-P FORWARD DROP\n", &["skep-a"], &[&format!("-I {}", forward(IN)), &format!("-I {}", forward(OUT))]);
        check("-P FORWARD ACCEPT\n", &["skep-a"], &[]);
        let before = format!("-P FORWARD ACCEPT\n-A {}\n", forward(IN));
        check(&before, &["skep-a"], &[&format!("-D {}", forward(IN))]);
        check("", &["skep-a"], &[]);
    }

    #[test]
    fn rules_of_another_data_folder_stay() {
        let theirs = format!("{DOCKER}-A {IN}\n-A {OUT}\n");
        let changes = plan_legacy_rules(&theirs, "skep-00000001", &[]);
        assert!(changes.is_empty(), "{changes:?}");
        let ours = theirs.replace("skep:", "skep-00000001:");
        assert!(plan_legacy_rules(&ours, "skep", &[]).is_empty());
        assert_eq!(plan_legacy_rules(&ours, "skep-00000001", &[]).len(), 2);
    }

    #[test]
    fn bridges_of_docker_are_those_of_its_rules() {
        let rules = format!("{DOCKER}-A FORWARD -o docker0 -j DOCKER\n-A FORWARD -o br-0123456789ab -j DOCKER\n");
        let found = parse_docker([rules.as_str(), &rules].into_iter()).unwrap();
        assert_eq!(found.bridges, ["docker0", "br-0123456789ab"]);
        assert_eq!(parse_docker(["-P FORWARD DROP\n"].into_iter()), None);
    }

    #[test]
    fn the_bridges_of_a_table_are_read() {
        let listed = "table inet skep {\n\tset bridges {\n\t\ttype ifname\n\t\telements = { \"skep-a\",\n\t\t\t     \"skep-b\" }\n\t}\n}\n";
        assert_eq!(parse_elements(listed), ["skep-a", "skep-b"]);
    }

    #[test]
    fn other_rules_stay() {
        check("-P FORWARD DROP\n-N DOCKER-USER\n-A DOCKER-USER -s 10.0.0.1/32 -j DROP\n", &[], &[]);
    }
}

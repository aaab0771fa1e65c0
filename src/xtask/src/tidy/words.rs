//! Rules about words in any text file of the tree.
//!
//! The tree must build and read the same on every machine: no path of a build machine, no registry or mirror by name, and
//! nothing that stands for work not done.

use super::Finding;

/// Words, and why they may not stand in the tree. Written in two halves, so that this file keeps its own rule.
const WORDS: [(&str, &str); 9] = [
    (concat!("TO", "DO"), "work that is not done: do it, or write it down as an open point of a design"),
    (concat!("FIX", "ME"), "work that is not done: do it, or write it down as an open point of a design"),
    (concat!("XX", "X:"), "work that is not done: do it, or write it down as an open point of a design"),
    (concat!("/wo", "rk/"), "a path of a build machine"),
    (concat!("/tmp/", "lab"), "a path of a build machine"),
    (concat!("/tmp/", "wt/"), "a path of a build machine"),
    (concat!("/root/", "."), "a path of a build machine"),
    (concat!("/home/", "runner"), "a path of a build machine"),
    (concat!("docker", ".io/"), "an image registry's host"),
];

/// Hosts that an address in the tree may name: specifications, documentation, and names reserved for examples.
///
/// An address of a registry or a mirror would tie the tree to one network; package managers know theirs.
const HOSTS: [&str; 18] = [
    "github.com",
    "docs.kernel.org",
    "www.kernel.org",
    "git.kernel.org",
    "lwn.net",
    "man7.org",
    "www.apache.org",
    "keepachangelog.com",
    "semver.org",
    "opencontainers.org",
    "systemd.io",
    "www.freedesktop.org",
    "nvd.nist.gov",
    "rustsec.org",
    // The name space of SVG, which is an address.
    "www.w3.org",
    "localhost",
    "127.0.0.1",
    "example.com",
];

/// Cargo writes this file.
const UNREAD: [&str; 1] = ["Cargo.lock"];

pub(super) fn check(path: &str, text: &str) -> Vec<Finding> {
    if UNREAD.contains(&path) {
        return Vec::new();
    }
    let lines = || text.lines().enumerate().map(|(index, line)| (index + 1, line));
    let words = lines().flat_map(|(number, line)| check_words(path, number, line));
    let hosts = lines().flat_map(|(number, line)| check_hosts(path, number, line));
    words.chain(hosts).collect()
}

fn check_words(path: &str, number: usize, line: &str) -> Vec<Finding> {
    let hits = WORDS.iter().filter(|(word, _)| line.match_indices(word).any(|(at, _)| stands_alone(line, at, word)));
    hits.map(|(word, why)| Finding::new(path, number, format!("`{word}`: {why}"))).collect()
}

/// Whether a hit is what the table means, and not a part of something else.
fn stands_alone(line: &str, at: usize, word: &str) -> bool {
    let (before, after) = (&line[..at], &line[at + word.len()..]);
    if word.starts_with('/') {
        // `$dir/work/x` is no absolute path.
        return !before.ends_with(|c: char| c.is_alphanumeric() || "_}).-*".contains(c));
    }
    // Images that were loaded from a file have this name in engines, wherever the machine is.
    !(word.ends_with(".io/") && after.starts_with("library/"))
}

fn check_hosts(path: &str, number: usize, line: &str) -> Vec<Finding> {
    hosts(line)
        .filter(|host| !is_allowed(host))
        .map(|host| Finding::new(path, number, format!("`{host}`: this host may not be named in the tree")))
        .collect()
}

/// The hosts of the addresses in a line: what stands between `//` of a scheme and the next mark.
fn hosts(line: &str) -> impl Iterator<Item = &str> {
    let schemes = ["http://", "https://", "git://", "ssh://"];
    schemes.into_iter().flat_map(move |scheme| {
        line.match_indices(scheme).filter_map(move |(at, _)| {
            let rest = &line[at + scheme.len()..];
            let end = rest.find(|c: char| !c.is_ascii_alphanumeric() && !"-.".contains(c)).unwrap_or(rest.len());
            let host = rest[..end].trim_end_matches('.');
            // `https://{}` and `http://$HOST` name no host.
            (!host.is_empty()).then_some(host)
        })
    })
}

/// Names under `.example`, `.test` and `.invalid` are reserved and belong to nobody.
fn is_allowed(host: &str) -> bool {
    let reserved = [".example", ".test", ".invalid", ".localhost"];
    HOSTS.contains(&host) || reserved.iter().any(|suffix| host.ends_with(suffix))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn count(line: &str) -> usize {
        check("a.md", line).len()
    }

    #[test]
    fn each_word_of_the_table_is_found() {
        for (word, _) in WORDS {
            assert_eq!(count(&format!("some {word} here")), 1, "{word}");
        }
    }

    #[test]
    fn words_that_look_alike_are_not_found() {
        assert_eq!(count("apt-get install docker.io containerd"), 0);
        assert_eq!(count("workdir=/overlay/work,upperdir=/u"), 0);
        assert_eq!(count("/root is the home of root"), 0);
        assert_eq!(count("mkdir $dir/work/$top ${dir}/work/a"), 0);
        assert_eq!(count(concat!("docker", ".io/library/busybox:latest")), 0);
    }

    #[test]
    fn an_address_outside_the_table_is_found() {
        assert_eq!(count(concat!("see https:/", "/mirror.corp/simple/")), 1);
        assert_eq!(count(concat!("http:/", "/a.b and http:/", "/c.d")), 2);
        assert_eq!(count("https://github.com/opencontainers/runtime-spec"), 0);
        assert_eq!(count("https://db.example:5432/ and http://127.0.0.1:80 and https://{host}/"), 0);
    }

    #[test]
    fn the_line_is_named() {
        assert_eq!(check("a.md", concat!("fine\nTO", "DO\n"))[0].line, 2);
    }

    #[test]
    fn what_cargo_writes_is_not_read() {
        assert_eq!(check("Cargo.lock", concat!("https:/", "/some.registry")), []);
    }
}

//! What is known of the oracle: where runc 1.1 and crun 1.8 fail a case that skep must pass, and why.
//!
//! The cases hold no branch on the runtime. [`case`] looks the test up in the lists of the folder `oracle/` and turns
//! the expectation around: a deviation that does not show any more fails the test, so the lists stay true.
//!
//! ```text
//! oracle/runc-1.1.txt, oracle/crun-1.8.txt: a line is `file::test  fail|either  why`; `#` starts a comment
//! `file::test@LANE,LANE  pass|fail|either  why` holds in these lanes, where it counts more than one without lanes
//! ```

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::requires::{Entry, Need, lane, skip_without};
use crate::runtime::{Kind, Runtime};
use crate::sandbox::Sandbox;

/// What a runtime makes of a case.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Expect {
    /// It passes.
    Pass,
    /// It fails.
    Fail,
    /// Now this and now that: a race, or a matter of timing.
    Either,
}

/// A case that an oracle does not simply pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Deviation {
    /// `file::test`, the name that the test runner prints, and the lanes that this is said of.
    pub test: Entry,
    /// What the oracle makes of it; [`Expect::Pass`] in lanes that differ from the others.
    pub expect: Expect,
    /// What the oracle does instead, or lacks.
    pub why: &'static str,
}

/// The known deviations of runc 1.1.
pub fn runc() -> Vec<Deviation> {
    parse(include_str!("../oracle/runc-1.1.txt"))
}

/// The known deviations of crun 1.8.
pub fn crun() -> Vec<Deviation> {
    parse(include_str!("../oracle/crun-1.8.txt"))
}

/// Parses a list of deviations.
///
/// # Panics
/// On a line without its three parts.
pub fn parse(text: &'static str) -> Vec<Deviation> {
    let lines = text.lines().filter(|line| !line.trim().is_empty() && !line.starts_with('#'));
    lines.map(|line| parse_line(line).unwrap_or_else(|| panic!("not a deviation: {line:?}"))).collect()
}

fn parse_line(line: &'static str) -> Option<Deviation> {
    let (test, rest) = line.split_once(char::is_whitespace)?;
    let (word, why) = rest.trim_start().split_once(char::is_whitespace)?;
    let expect = match word {
        "fail" => Expect::Fail,
        "either" => Expect::Either,
        "pass" => Expect::Pass,
        _ => return None,
    };
    let (test, why) = (Entry::parse(test), why.trim());
    let sensible = expect != Expect::Pass || test.lanes.is_some();
    (!why.is_empty() && test.key.contains("::") && sensible).then_some(Deviation { test, expect, why })
}

/// The entry for a test in a lane: one that names the lane, else one that names none.
fn find(list: &[Deviation], test: &str, lane: &str) -> Option<Deviation> {
    let mut found: Vec<&Deviation> = list.iter().filter(|d| d.test.key == test && d.test.allows(lane)).collect();
    found.sort_by_key(|d| d.test.lanes.is_none());
    found.first().copied().copied()
}

/// What this kind of runtime is expected to make of a test in a lane, and why if that is not a pass.
fn expected(kind: Kind, test: &str, lane: &str) -> (Expect, &'static str) {
    let find = |list: Vec<Deviation>| find(&list, test, lane);
    let found = match kind {
        Kind::Skep => None,
        Kind::Runc => find(runc()),
        Kind::Crun => find(crun()),
        Kind::Other => find(runc()).or_else(|| find(crun())).map(|d| Deviation { expect: Expect::Either, ..d }),
    };
    found.map_or((Expect::Pass, ""), |d| (d.expect, d.why))
}

thread_local! {
    static SKIPPED: Cell<bool> = const { Cell::new(false) };
}

/// Notes that the running case was skipped, so that its early return is not taken for a pass.
pub(crate) fn note_skip() {
    SKIPPED.set(true);
}

/// Runs one case in a sandbox of its own, and holds its result against what is expected of the runtime under test.
///
/// # Panics
/// When the case fails where it must pass, or passes where a deviation is listed.
#[track_caller]
pub fn case<F: FnOnce(&Sandbox)>(body: F) {
    if skip_without(&[Need::Root]) {
        return;
    }
    let name = test_name();
    let (expect, why) = expected(Runtime::under_test().kind, &name, &lane());
    // The sandbox goes with the case: what the runtime left behind is a failure of the case too.
    let run = || body(&Sandbox::new());
    if expect == Expect::Pass {
        run();
        return;
    }
    SKIPPED.set(false);
    let passed = catch_unwind(AssertUnwindSafe(run)).is_ok();
    let fine = expect == Expect::Either || !passed || SKIPPED.get();
    assert!(fine, "{name} passes, but it is listed as a deviation: {why}");
}

/// [`case`] on a machine that has all of these; elsewhere the test is skipped, saying which is missing.
///
/// # Panics
/// As [`case`], and when the skip is not listed in `allowed-skips.txt`.
#[track_caller]
pub fn case_with<F: FnOnce(&Sandbox)>(needs: &[Need], body: F) {
    if !skip_without(needs) {
        case(body);
    }
}

/// `file::test` of the running test: the test binary's name and the name that libtest gives to the thread.
fn test_name() -> String {
    let path = std::env::current_exe().expect("the own path");
    let file = path.file_name().and_then(|name| name.to_str()).expect("a UTF-8 name");
    // cargo appends a dash and a hash.
    let file = file.rsplit_once('-').map_or(file, |(name, _)| name);
    let thread = std::thread::current();
    let name = match thread.name() {
        // With one test thread libtest runs the tests on the main thread; nextest runs one test, named in argv.
        Some("main") | None => std::env::args().find(|arg| !arg.starts_with('-')).unwrap_or_default(),
        Some(name) => name.to_owned(),
    };
    format!("{file}::{name}")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The sources of the tests, to look names up in.
    fn sources() -> Vec<(String, String)> {
        let dir = concat!(env!("CARGO_MANIFEST_DIR"), "/tests");
        let files = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
        files
            .filter(|path| path.extension().is_some_and(|x| x == "rs"))
            .map(|path| {
                (path.file_stem().unwrap().to_str().unwrap().to_owned(), std::fs::read_to_string(&path).unwrap())
            })
            .collect()
    }

    fn check_names(list: Vec<Deviation>) {
        let sources = sources();
        for deviation in &list {
            let name = deviation.test.key;
            let (file, test) = name.split_once("::").unwrap();
            let named = [format!("fn {test}()"), format!("{test}: ")];
            let found = sources.iter().any(|(name, text)| name == file && named.iter().any(|n| text.contains(n)));
            assert!(found, "no such test: {name}");
            let lanes = deviation.test.lanes;
            assert!(lanes.is_none_or(|lanes| lanes.split(',').all(|lane| LANES.contains(&lane))), "{name}: {lanes:?}");
            let same = |d: &&Deviation| match (d.test.lanes, lanes) {
                (None, None) => true,
                (Some(_), Some(lanes)) => lanes.split(',').any(|lane| d.test.allows(lane)),
                _ => false,
            };
            assert_eq!(list.iter().filter(|d| d.test.key == name).filter(same).count(), 1, "twice: {name}");
        }
    }

    /// Where tests run; `cargo xtask test` has them.
    const LANES: [&str; 5] = ["native", "vm-v2", "vm-v1", "vm-hybrid", "vm-selinux"];

    #[test]
    fn runc_deviations_name_tests() {
        check_names(runc());
    }

    #[test]
    fn crun_deviations_name_tests() {
        check_names(crun());
    }

    #[test]
    fn a_line_has_three_parts() {
        let list = parse("# comment\n\na::b fail it lacks c\na::d  either  a race\n");
        let expected = [
            Deviation { test: Entry::parse("a::b"), expect: Expect::Fail, why: "it lacks c" },
            Deviation { test: Entry::parse("a::d"), expect: Expect::Either, why: "a race" },
        ];
        assert_eq!(list, expected);
    }

    #[test]
    fn a_lane_of_its_own_counts_more() {
        let list = parse("a::b fail of v1\na::b@vm-v2 pass has it\na::c@vm-v2,vm-v1 fail why\n");
        let check = |test: &str, lane: &str, expected: Option<Expect>| {
            assert_eq!(find(&list, test, lane).map(|d| d.expect), expected, "{test} in {lane}");
        };
        check("a::b", "native", Some(Expect::Fail));
        check("a::b", "vm-v2", Some(Expect::Pass));
        check("a::c", "vm-v1", Some(Expect::Fail));
        check("a::c", "native", None);
        assert!(parse_line("a::b pass everywhere").is_none());
    }

    #[test]
    fn skep_has_no_deviations() {
        for deviation in runc().iter().chain(&crun()) {
            let lane = deviation.test.lanes.and_then(|lanes| lanes.split(',').next()).unwrap_or("native");
            assert_eq!(expected(Kind::Skep, deviation.test.key, lane).0, Expect::Pass);
            assert_eq!(expected(Kind::Other, deviation.test.key, lane).0, Expect::Either);
        }
    }

    #[test]
    fn allowed_skips_are_keys_of_needs() {
        for crate::requires::Entry { key, .. } in crate::requires::listed() {
            let known = [
                Need::Skep,
                Need::SysResource,
                Need::Selinux,
                Need::Apparmor,
                Need::BlkioWeight,
                Need::Resctrl,
                Need::BlockDevice,
                Need::SwapAccounting,
                Need::Landlock(4),
                Need::Landlock(6),
                Need::Loop,
                Need::IdmappedTmpfs,
                Need::Systemd,
                Need::TestUser,
                Need::OwnMachine,
                Need::Criu,
                Need::DirtyTracking,
                Need::LazyPages,
                Need::MemoryPolicy,
                Need::ProjectQuotas,
                Need::DebianMirror,
                Need::Systems,
                Need::Services,
                Need::NewestSystemd,
            ];
            let family = key.starts_with("program-") || key.starts_with("cgroup-");
            // The lane as a whole, see `cargo xtask test`.
            assert!(
                family || key == "virtual-machine" || known.iter().any(|need| need.key() == key),
                "{key} is no key"
            );
        }
    }
}

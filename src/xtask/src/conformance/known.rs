//! The list in the tree of what is known: `integration/conformance/known.toml`.
//!
//! A failure that it lists is told with its reason and is no failure of the run; one that passes all the same is told too,
//! so that the entry can go. What is not run, since it would hang or take too long, is left out by name, with a reason as well.

use std::path::Path;

use anyhow::{Context, Result, ensure};
use toml::{Table, Value};

/// The whole list.
#[derive(Debug, Default)]
pub(super) struct Known {
    failures: Vec<Entry>,
    left_out: Vec<Entry>,
}

/// One line of it.
#[derive(Debug)]
pub(super) struct Entry {
    /// The suite; `runc` stands for `runc-systemd` as well.
    suite: String,
    /// The file or program of the suite.
    program: String,
    /// The test's name; a `*` at its end stands for any rest.
    test: String,
    /// Where it holds; everywhere when there is none.
    lanes: Vec<String>,
    pub(super) reason: String,
}

/// What a list says of running a program in a lane.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Leave<'a> {
    /// It is not run, for this reason.
    All(&'a str),
    /// It is run without these tests; each with its reason.
    Tests(Vec<(&'a str, &'a str)>),
}

impl Entry {
    fn holds(&self, lane: &str, suite: &str, program: &str) -> bool {
        let of_suite = suite == self.suite || suite.strip_suffix("-systemd") == Some(&self.suite);
        let of_lane = self.lanes.is_empty() || self.lanes.iter().any(|name| name == lane);
        of_suite && of_lane && self.program == program
    }

    fn names(&self, test: &str) -> bool {
        match self.test.strip_suffix('*') {
            Some(front) => test.starts_with(front),
            None => self.test == test,
        }
    }
}

impl Known {
    pub(super) fn read(path: &Path) -> Result<Known> {
        let text = std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
        Known::parse(&text).with_context(|| format!("bad list {}", path.display()))
    }

    fn parse(text: &str) -> Result<Known> {
        let table: Table = text.parse().context("no TOML")?;
        let odd = table.keys().find(|key| !["failure", "left-out"].contains(&key.as_str()));
        ensure!(odd.is_none(), "a table {odd:?} has no meaning");
        let list = |name: &str| -> Result<Vec<Entry>> {
            let entries = table.get(name).and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
            let lists: Vec<Vec<Entry>> = entries.iter().map(parse_entries).collect::<Result<_>>()?;
            Ok(lists.into_iter().flatten().collect())
        };
        Ok(Known { failures: list("failure")?, left_out: list("left-out")? })
    }

    /// The entry for a test that fails, if there is one.
    pub(super) fn find_failure(&self, lane: &str, suite: &str, program: &str, test: &str) -> Option<&Entry> {
        self.failures.iter().find(|entry| entry.holds(lane, suite, program) && entry.names(test))
    }

    /// What is not run of a program.
    pub(super) fn find_left_out(&self, lane: &str, suite: &str, program: &str) -> Leave<'_> {
        let found = || self.left_out.iter().filter(|entry| entry.holds(lane, suite, program));
        match found().find(|entry| entry.test == "*") {
            Some(entry) => Leave::All(&entry.reason),
            None => Leave::Tests(found().map(|entry| (entry.test.as_str(), entry.reason.as_str())).collect()),
        }
    }
}

/// The keys of a table. All but `lanes` are needed.
const KEYS: [&str; 4] = ["suite", "tests", "reason", "lanes"];

/// One table: an entry for each of its tests, which are written `PROGRAM: TEST`.
fn parse_entries(value: &Value) -> Result<Vec<Entry>> {
    let table = value.as_table().context("an entry is no table")?;
    let odd = table.keys().find(|key| !KEYS.contains(&key.as_str()));
    ensure!(odd.is_none(), "{odd:?} has no meaning in {table:?}");
    let text = |key: &str| {
        let found = table.get(key).and_then(Value::as_str).filter(|text| !text.is_empty());
        found.map(str::to_owned).with_context(|| format!("no {key} in {table:?}"))
    };
    let texts = |key: &str| -> Result<Vec<String>> {
        let list = table.get(key).and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
        let list: Option<Vec<String>> = list.iter().map(|text| text.as_str().map(str::to_owned)).collect();
        list.with_context(|| format!("{key} is no list of texts in {table:?}"))
    };
    let (suite, reason, lanes, tests) = (text("suite")?, text("reason")?, texts("lanes")?, texts("tests")?);
    ensure!(!tests.is_empty(), "no tests in {table:?}");
    let entry = |line: &String| {
        let (program, test) = line.split_once(": ").with_context(|| format!("{line:?} is not PROGRAM: TEST"))?;
        let (program, test) = (program.to_owned(), test.to_owned());
        Ok(Entry { suite: suite.clone(), program, test, lanes: lanes.clone(), reason: reason.clone() })
    };
    tests.iter().map(entry).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = r#"
[[failure]]
suite = "runc"
tests = ["mounts: runc run [*", "exec: a: b"]
lanes = ["vm-v2"]
reason = "why"

[[left-out]]
suite = "crun"
tests = ["test_x: *"]
reason = "slow"

[[left-out]]
suite = "crun"
tests = ["test_y: one"]
reason = "hangs"
"#;

    #[test]
    fn an_entry_holds_for_its_suite_lane_and_tests() {
        let known = Known::parse(TEXT).unwrap();
        let finds = |lane, suite, program, test| known.find_failure(lane, suite, program, test).is_some();
        assert!(finds("vm-v2", "runc", "mounts", "runc run [bind]"));
        assert!(finds("vm-v2", "runc-systemd", "mounts", "runc run [bind]"));
        assert!(finds("vm-v2", "runc", "exec", "a: b"));
        assert!(!finds("native", "runc", "mounts", "runc run [bind]"));
        assert!(!finds("vm-v2", "crun", "mounts", "runc run [bind]"));
        assert!(!finds("vm-v2", "runc", "mount", "runc run [bind]"));
        assert!(!finds("vm-v2", "runc", "mounts", "runc exec"));
        assert_eq!(known.find_left_out("native", "crun", "test_x"), Leave::All("slow"));
        assert_eq!(known.find_left_out("native", "crun", "test_y"), Leave::Tests(vec![("one", "hangs")]));
        assert_eq!(known.find_left_out("native", "crun", "test_z"), Leave::Tests(Vec::new()));
    }

    #[test]
    fn an_entry_without_a_reason_is_refused() {
        let refused = |text: &str| Known::parse(text).is_err();
        assert!(refused(&TEXT.replace("reason = \"why\"", "")));
        assert!(refused(&TEXT.replace("why", "")));
        assert!(refused(&TEXT.replace("lanes", "lane")));
        assert!(refused(&TEXT.replace("test_x: *", "test_x")));
        assert!(refused(&TEXT.replace("[[failure]]", "[[failures]]")));
    }

    #[test]
    fn the_list_of_the_tree_is_one() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../integration/conformance/known.toml");
        Known::read(&path).unwrap();
    }
}

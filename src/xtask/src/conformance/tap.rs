//! The Test Anything Protocol, as the three suites write it.
//!
//! ```text
//! 1..3                                 the plan, first or last
//! ok 1 - a name # 0.123s               crun's tests say how long it took
//! ok 2 a name # skip the reason        bats; crun writes #SKIP
//! not ok 3 - a name                    what follows until the next result tells why
//! ```

/// What became of one test.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Status {
    Passed,
    Failed,
    /// With its reason.
    Skipped(String),
}

/// One test and its result.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Test {
    pub(super) name: String,
    pub(super) status: Status,
}

impl Test {
    fn failed(name: impl Into<String>) -> Test {
        Test { name: name.into(), status: Status::Failed }
    }
}

/// Exit codes of timeout(1) for a program that it ended.
const ENDED: [i32; 2] = [124, 137];

/// Reads what a program printed, and adds a failed test for whatever it says nothing of.
///
/// `code` is its exit code, `None` where the machine died before. A name in round brackets is ours: the program did not end,
/// ran fewer tests than it announced, or failed without a failed test. Some of runtime-tools have no results: they tell an
/// error as the diagnostic of nothing, or their exit code is all.
pub(super) fn parse(text: &str, code: Option<i32>) -> Vec<Test> {
    let mut tests: Vec<Test> = text.lines().filter_map(parse_line).collect();
    let plan = text.lines().find_map(parse_plan);
    let planned = plan.unwrap_or(0);
    if tests.len() < planned {
        tests.push(Test::failed(format!("({} of {planned} tests did not run)", planned - tests.len())));
    }
    let failed = tests.iter().any(|test| test.status == Status::Failed);
    match code {
        None => tests.push(Test::failed("(it has no result)")),
        Some(code) if ENDED.contains(&code) => tests.push(Test::failed("(it did not end in its time)")),
        Some(0) if tests.is_empty() => tests.push(judge_silent(text, plan)),
        Some(code) if code != 0 && !failed => tests.push(Test::failed("(the program failed)")),
        Some(_) => {}
    }
    tests
}

/// A program that succeeded without a result.
fn judge_silent(text: &str, plan: Option<usize>) -> Test {
    if text.lines().any(|line| line.trim_start().starts_with("\"error\":")) {
        return Test::failed("(it tells an error)");
    }
    let status = match plan {
        Some(_) => Status::Skipped("it ran no test".to_owned()),
        None => Status::Passed,
    };
    Test { name: "(the program)".to_owned(), status }
}

/// A line with a result. Lines that are indented belong to what a test prints.
fn parse_line(line: &str) -> Option<Test> {
    let (passed, rest) = match line.strip_prefix("not ok ") {
        Some(rest) => (false, rest),
        None => (true, line.strip_prefix("ok ")?),
    };
    let (number, rest) = rest.split_once(' ').unwrap_or((rest, ""));
    number.parse::<usize>().ok()?;
    let text = rest.strip_prefix("- ").unwrap_or(rest);
    let (name, reason) = split_directive(text);
    let status = match reason {
        Some(reason) => Status::Skipped(reason),
        None if passed => Status::Passed,
        None => Status::Failed,
    };
    Some(Test { name, status })
}

/// The name without a time, and the reason of a skip.
fn split_directive(text: &str) -> (String, Option<String>) {
    let text = match text.rsplit_once('#') {
        Some((front, time)) if is_time(time.trim()) => front.trim_end(),
        _ => text,
    };
    let found = text.rmatch_indices('#').find(|(at, _)| {
        let word: String = text[at + 1..].trim_start().chars().take(4).collect();
        word.eq_ignore_ascii_case("skip")
    });
    match found {
        Some((at, _)) => {
            let reason: String = text[at + 1..].trim_start().chars().skip(4).collect();
            (text[..at].trim().to_owned(), Some(reason.trim().to_owned()))
        }
        None => (text.trim().to_owned(), None),
    }
}

/// Seconds as crun's tests write them.
fn is_time(text: &str) -> bool {
    text.strip_suffix('s').is_some_and(|number| number.parse::<f64>().is_ok())
}

fn parse_plan(line: &str) -> Option<usize> {
    line.strip_prefix("1..")?.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(line: &str, name: &str, status: Status) {
        assert_eq!(parse_line(line), Some(Test { name: name.to_owned(), status }), "{line}");
    }

    #[test]
    fn results_of_all_three_suites_are_read() {
        let skipped = |reason: &str| Status::Skipped(reason.to_owned());
        check("ok 1 - has expected hostname", "has expected hostname", Status::Passed);
        check("ok 287 # SKIP linux.gidMappings not set", "", skipped("linux.gidMappings not set"));
        check("not ok 4 - mounts[3] # 5 is there", "mounts[3] # 5 is there", Status::Failed);
        check("ok 2 runc run [tty owner] # skip needs root", "runc run [tty owner]", skipped("needs root"));
        check("ok 2 runc run # skip", "runc run", skipped(""));
        check("not ok 12 - deny-devices # 0.031s", "deny-devices", Status::Failed);
        check("ok 3 - a #SKIP requires root privileges # 0.000s", "a", skipped("requires root privileges"));
        assert!(
            parse_line("okay").is_none() && parse_line("  ok 1 inside").is_none() && parse_line("ok then").is_none()
        );
    }

    #[test]
    fn what_a_program_does_not_say_is_a_failure() {
        let names = |text: &str, code| {
            let failed = parse(text, code).into_iter().filter(|test| test.status == Status::Failed);
            failed.map(|test| test.name).collect::<Vec<_>>()
        };
        assert!(names("1..1\nok 1 a\n", Some(0)).is_empty());
        assert_eq!(names("TAP version 13\n  ---\n  {\n    \"error\": \"why\"\n", Some(0)), ["(it tells an error)"]);
        assert_eq!(names("1..3\nok 1 a\n", Some(1)), ["(2 of 3 tests did not run)"]);
        assert_eq!(names("1..2\nok 1 a\nnot ok 2 b\n", Some(1)), ["b"]);
        assert_eq!(names("ok 1 a\n", Some(124)), ["(it did not end in its time)"]);
        assert_eq!(names("ok 1 a\n", Some(2)), ["(the program failed)"]);
        assert_eq!(names("", Some(1)), ["(the program failed)"]);
        assert_eq!(names("ok 1 a\n", None), ["(it has no result)"]);
    }

    #[test]
    fn a_program_without_results_is_judged_by_its_exit() {
        let status = |text: &str| parse(text, Some(0)).remove(0).status;
        assert_eq!(status(""), Status::Passed);
        assert_eq!(status("1..0\n"), Status::Skipped("it ran no test".to_owned()));
    }
}

//! Rules about what may stand in which crate's code.

use super::Finding;
use super::scan::Source;

/// Crates that neither print nor read the command line or the environment: everything below the command line tool.
const QUIET: [&str; 8] = [
    "runtime-spec/",
    "rootfs-tools/",
    "src/sys/",
    "src/security/",
    "src/cgroup/",
    "src/network/",
    "src/systemd/",
    "src/engine/",
];

pub(super) fn check(source: &Source) -> Vec<Finding> {
    let rules = [
        check_unsafe,
        check_async,
        check_printing,
        check_environment,
        check_programs,
        check_ignored_tests,
        check_unwritten,
    ];
    rules.iter().flat_map(|rule| rule(source)).collect()
}

/// `unsafe` stands in `src/sys` alone, where each use names the promise that it keeps.
fn check_unsafe(source: &Source) -> Vec<Finding> {
    if source.path.starts_with("src/sys/") {
        return Vec::new();
    }
    find_words(source, &["unsafe", "unsafe_code"], "unsafe code belongs to src/sys")
}

/// Async lives in the supervisor: the start path has one thread and waits with poll.
fn check_async(source: &Source) -> Vec<Finding> {
    if source.path.starts_with("src/supervisor/") {
        return Vec::new();
    }
    find_words(source, &["async", "await", "tokio"], "async belongs to src/supervisor")
}

/// Nothing below the command line prints.
fn check_printing(source: &Source) -> Vec<Finding> {
    const MACROS: [&str; 5] = ["print", "println", "eprint", "eprintln", "dbg"];
    const STREAMS: [&str; 2] = ["stdout", "stderr"];
    find_quiet(source, "printing belongs to src/cli", |at, word| {
        // `command.stdout(…)` sets up a child, `stdout().as_fd()` lends a container's own stream: neither prints.
        let lends = source.matches(at + 1, &["(", ")", ".", "as_fd", "("]);
        MACROS.contains(&word) && source.matches(at + 1, &["!"])
            || STREAMS.contains(&word) && source.matches(at + 1, &["("]) && source.before(at) != "." && !lends
    })
}

/// Nothing below the command line reads argv or the environment.
fn check_environment(source: &Source) -> Vec<Finding> {
    const READERS: [&str; 9] =
        ["args", "args_os", "var", "var_os", "vars", "vars_os", "set_var", "remove_var", "temp_dir"];
    find_quiet(source, "argv and the environment are read in src/cli", |at, word| {
        if word != "env" || !source.matches(at + 1, &[":", ":"]) {
            return false;
        }
        let end = if source.matches(at + 3, &["{"]) { brace_end(source, at + 3) } else { at + 4 };
        source.tokens[at + 3..end.min(source.tokens.len())].iter().any(|token| READERS.contains(&token.text.as_str()))
    })
}

/// A program that is started by a name that is written down is looked for along `PATH`, which is a part of the environment.
fn check_programs(source: &Source) -> Vec<Finding> {
    find_quiet(source, "PATH is read in src/cli: take the path of the program", |at, word| {
        // A literal carries no token.
        let argument = source.tokens.get(at + 5).map_or("", |token| token.text.as_str());
        let is_constant = !argument.contains(char::is_lowercase) && argument.contains(char::is_uppercase);
        word == "Command" && source.matches(at + 1, &[":", ":", "new", "("]) && (argument == ")" || is_constant)
    })
}

/// A test that never runs tells nothing: assert today's result instead.
fn check_ignored_tests(source: &Source) -> Vec<Finding> {
    find(source, "an ignored test: assert today's result and say so", |at, word| {
        word == "ignore" && matches!(source.before(at), "[" | ",") && at >= 2 && source.matches(at - 2, &["#", "["])
            || word == "ignore" && source.before(at) == "," && in_attribute(source, at)
    })
}

/// Code that stands for code which is not there.
fn check_unwritten(source: &Source) -> Vec<Finding> {
    find(source, "code that is not written", |at, word| {
        matches!(word, "todo" | "unimplemented") && source.matches(at + 1, &["!"])
    })
}

/// Whether the token at `at` stands within `#[…]`, as in `#[cfg_attr(x, ignore)]`.
fn in_attribute(source: &Source, at: usize) -> bool {
    let before = &source.tokens[..at];
    let open = before.iter().rposition(|token| matches!(token.text.as_str(), "[" | "]" | "{" | "}" | ";"));
    open.is_some_and(|open| open > 0 && source.matches(open - 1, &["#", "["]))
}

fn brace_end(source: &Source, from: usize) -> usize {
    source.tokens[from..].iter().position(|token| token.text == "}").map_or(source.tokens.len(), |offset| from + offset)
}

fn find_words(source: &Source, words: &[&str], text: &str) -> Vec<Finding> {
    find(source, text, |_, word| words.contains(&word))
}

/// Like [`find`], in the crates below the command line, outside their tests.
fn find_quiet(source: &Source, text: &str, wanted: impl Fn(usize, &str) -> bool) -> Vec<Finding> {
    if !QUIET.iter().any(|folder| source.path.starts_with(folder)) || is_test_file(&source.path) {
        return Vec::new();
    }
    find(source, text, |at, word| !source.tokens[at].in_test && wanted(at, word))
}

fn is_test_file(path: &str) -> bool {
    let exempt_folder = ["/tests/", "/benches/", "/examples/"].iter().any(|folder| path.contains(folder));
    let name = path.rsplit('/').next().unwrap_or(path);
    exempt_folder || name == "build.rs" || name == "tests.rs" || name.ends_with("_tests.rs")
}

fn find(source: &Source, text: &str, wanted: impl Fn(usize, &str) -> bool) -> Vec<Finding> {
    let hits = source.tokens.iter().enumerate().filter(|(at, token)| wanted(*at, &token.text));
    hits.map(|(_, token)| Finding::new(&source.path, token.line, format!("`{}`: {text}", token.text))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    type Rule = fn(&Source) -> Vec<Finding>;

    fn lines(rule: Rule, path: &str, text: &str) -> Vec<usize> {
        rule(&Source::scan(path, text)).iter().map(|finding| finding.line).collect()
    }

    fn bad(rule: Rule, path: &str, text: &str) {
        assert_eq!(lines(rule, path, text).len(), 1, "{path}: {text}");
    }

    fn good(rule: Rule, path: &str, text: &str) {
        assert_eq!(lines(rule, path, text), [0_usize; 0], "{path}: {text}");
    }

    #[test]
    fn unsafe_outside_sys_is_found() {
        bad(check_unsafe, "src/engine/src/a.rs", "fn f() { unsafe { g() } }");
        bad(check_unsafe, "src/engine/src/a.rs", "#![allow(unsafe_code)]");
        bad(check_unsafe, "src/engine/src/a.rs", "#[cfg(test)] mod t { unsafe fn f() {} }");
        good(check_unsafe, "src/sys/src/a.rs", "unsafe { g() }");
        good(check_unsafe, "src/engine/src/a.rs", "// unsafe\nlet x = \"unsafe\"; let unsafe_name = 1;");
    }

    #[test]
    fn async_outside_the_supervisor_is_found() {
        bad(check_async, "src/cli/src/a.rs", "async fn f() {}");
        bad(check_async, "src/cli/src/a.rs", "x.await");
        bad(check_async, "src/cli/src/a.rs", "use tokio::net;");
        good(check_async, "src/supervisor/src/a.rs", "async fn f() { g().await }");
        good(check_async, "src/cli/src/a.rs", "/// async\nfn async_name() {}");
    }

    #[test]
    fn printing_below_the_command_line_is_found() {
        for text in ["println!()", "eprint!()", "dbg!(x)", "io::stdout().lock()", "stderr().write_all(b)"] {
            bad(check_printing, "src/engine/src/a.rs", text);
        }
        good(check_printing, "src/cli/src/a.rs", "println!()");
        good(check_printing, "src/engine/src/a.rs", "command.stdout(Stdio::piped()); child.stderr; log(\"println!\")");
        good(check_printing, "src/engine/src/a.rs", "#[cfg(test)] mod tests { fn f() { println!() } }");
        good(check_printing, "src/engine/src/a.rs", "own_file(std::io::stdout().as_fd(), uid)");
        good(check_printing, "src/engine/tests/a.rs", "println!()");
    }

    #[test]
    fn reading_the_environment_below_the_command_line_is_found() {
        for text in
            ["std::env::args()", "env::var(\"X\")", "use std::env::{current_dir, var_os};", "env::set_var(a, b)"]
        {
            bad(check_environment, "src/network/src/a.rs", text);
        }
        good(check_environment, "src/cli/src/a.rs", "std::env::args()");
        good(check_environment, "src/network/src/a.rs", "std::env::current_dir(); env!(\"X\"); spec.env.var()");
        good(check_environment, "src/network/build.rs", "std::env::var(\"OUT_DIR\")");
    }

    #[test]
    fn a_program_that_is_looked_for_below_the_command_line_is_found() {
        bad(check_programs, "src/engine/src/a.rs", "Command::new(\"criu\").spawn()");
        bad(check_programs, "src/engine/src/a.rs", "std::process::Command::new(PROGRAM)");
        good(check_programs, "src/engine/src/a.rs", "Command::new(program); Command::new(&hook.path)");
        good(check_programs, "src/engine/src/a.rs", "#[cfg(test)] mod tests { fn f() { Command::new(\"true\"); } }");
        good(check_programs, "src/cli/src/a.rs", "Command::new(\"ps\")");
    }

    #[test]
    fn an_ignored_test_is_found_anywhere() {
        bad(check_ignored_tests, "integration/tests/a.rs", "#[test]\n#[ignore]\nfn f() {}");
        bad(check_ignored_tests, "integration/tests/a.rs", "#[ignore = \"slow\"] fn f() {}");
        bad(check_ignored_tests, "integration/tests/a.rs", "#[cfg_attr(miri, ignore)] fn f() {}");
        good(check_ignored_tests, "integration/tests/a.rs", "let ignore = [a, ignore, b]; // #[ignore]");
    }

    #[test]
    fn unwritten_code_is_found() {
        bad(check_unwritten, "src/cli/src/a.rs", concat!("fn f() { to", "do!() }"));
        bad(check_unwritten, "src/cli/src/a.rs", "fn f() { unimplemented!() }");
        good(check_unwritten, "src/cli/src/a.rs", "let todo = 1;");
    }

    #[test]
    fn the_line_is_that_of_the_word() {
        assert_eq!(lines(check_unsafe, "src/cli/src/a.rs", "// one\n/* two\n*/ unsafe {}"), [3]);
    }
}

//! The cases that end differently with one runtime on this kind of host, with the reason.
//!
//! One line for each: `client/case | text of the failure | reason`. A listed case must fail, and its failure must contain
//! the text: a case that passes meanwhile, or fails in another way, is reported.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, ensure};

/// One listed case.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Expectation {
    /// `client/case`.
    pub case: String,
    /// What the failure's text contains.
    pub failure: String,
    /// Why it fails.
    pub reason: String,
}

/// Parses the text of one file. Empty lines and lines that start with `#` are skipped.
///
/// # Errors
/// A line has not three parts, or an empty one.
pub fn parse(text: &str) -> Result<Vec<Expectation>> {
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
    let mut found = Vec::new();
    for line in lines {
        let parts: Vec<&str> = line.split(" | ").map(str::trim).collect();
        let [case, failure, reason] = parts[..] else {
            anyhow::bail!("an expectation has the form `client/case | failure | reason`, not: {line}");
        };
        ensure!(!case.is_empty() && !failure.is_empty() && !reason.is_empty(), "an empty part in: {line}");
        found.push(Expectation { case: case.into(), failure: failure.into(), reason: reason.into() });
    }
    Ok(found)
}

/// Reads the file of one runtime; a runtime without a file has no such cases.
///
/// # Errors
/// The file cannot be read or parsed.
pub fn read(runtime: &str) -> Result<Vec<Expectation>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("expectations");
    let path = folder.join(format!("clients-{runtime}.txt"));
    if !path.exists() {
        return Ok(Vec::new());
    }
    parse(&fs::read_to_string(&path)?).with_context(|| path.display().to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn three_parts_make_an_expectation() {
        let found = parse("# why\n\ndocker/exec | no such file | the kernel lacks it\n").unwrap();
        let want = Expectation {
            case: "docker/exec".into(),
            failure: "no such file".into(),
            reason: "the kernel lacks it".into(),
        };
        assert_eq!(found, [want]);
    }

    #[test]
    fn a_line_without_a_reason_is_refused() {
        assert!(parse("docker/exec | no such file\n").is_err());
        assert!(parse("docker/exec |  | reason\n").is_err());
    }
}

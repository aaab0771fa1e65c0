//! The rules of the tree, checked by machine.
//!
//! Each rule is one function from text to findings, so that a test can show it failing on a bad sample. A rule that has an
//! exception names it in a table next to the rule, with the reason.

mod code;
mod files;
mod layers;
mod scan;
mod words;

use std::fmt;
use std::path::Path;
use std::process::{Command, ExitCode};

use anyhow::{Context, Result, ensure};

use scan::Source;

/// A rule that is broken at one place.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Finding {
    /// Path from the root of the tree.
    file: String,
    /// Counted from 1; 0 means the file as a whole.
    line: usize,
    text: String,
}

impl Finding {
    fn new(file: &str, line: usize, text: impl Into<String>) -> Finding {
        Finding { file: file.to_owned(), line, text: text.into() }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            0 => write!(f, "{}: {}", self.file, self.text),
            line => write!(f, "{}:{line}: {}", self.file, self.text),
        }
    }
}

/// Checks every file of the tree and prints what was found.
pub(super) fn run(root: &Path) -> Result<ExitCode> {
    let files = read_tree(root)?;
    let (findings, notes) = check(&files)?;
    for note in &notes {
        println!("note: {note}");
    }
    for finding in &findings {
        println!("error: {finding}");
    }
    println!("tidy: {} files, {} findings", files.len(), findings.len());
    Ok(if findings.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// A file of the tree: its path from the root, and its text.
struct File {
    path: String,
    text: String,
}

fn check(files: &[File]) -> Result<(Vec<Finding>, Vec<Finding>)> {
    let mut findings = Vec::new();
    let mut notes = Vec::new();
    for file in files {
        findings.extend(files::check_name(&file.path));
        findings.extend(words::check(&file.path, &file.text));
        if file.path.ends_with(".rs") {
            let source = Source::scan(&file.path, &file.text);
            findings.extend(code::check(&source));
            let (too_long, long) = files::check_length(&file.path, &file.text);
            findings.extend(too_long);
            notes.extend(long);
        }
    }
    let manifests: Vec<(&str, &str)> = files
        .iter()
        .filter(|file| file.path.ends_with("Cargo.toml"))
        .map(|file| (file.path.as_str(), file.text.as_str()))
        .collect();
    findings.extend(layers::check(&manifests)?);
    if let Some(map) = files.iter().find(|file| file.path == "ARCHITECTURE.md") {
        findings.extend(layers::check_code_map(&manifests, &map.text)?);
    }
    Ok((findings, notes))
}

/// Reads what git tracks or would track. Files that are not UTF-8 are data, and no rule speaks of them.
fn read_tree(root: &Path) -> Result<Vec<File>> {
    let mut files = Vec::new();
    for path in list_tree(root)? {
        let full = root.join(&path);
        // A deleted file stays in git's list until the deletion is recorded; a link has no text of its own.
        let Ok(kind) = full.symlink_metadata() else { continue };
        if !kind.is_file() {
            continue;
        }
        let bytes = std::fs::read(&full).with_context(|| format!("cannot read {path}"))?;
        if let Ok(text) = String::from_utf8(bytes) {
            files.push(File { path, text });
        }
    }
    Ok(files)
}

fn list_tree(root: &Path) -> Result<Vec<String>> {
    let git = Command::new("git")
        .args(["ls-files", "-z", "--cached", "--others", "--exclude-standard"])
        .current_dir(root)
        .output();
    let mut paths: Vec<String> = match git {
        Ok(output) if output.status.success() => {
            let text = String::from_utf8(output.stdout).context("a file name is not UTF-8")?;
            text.split('\0').filter(|path| !path.is_empty()).map(str::to_owned).collect()
        }
        // An unpacked release has no history.
        _ => {
            let mut found = Vec::new();
            walk(root, "", &mut found)?;
            found
        }
    };
    paths.sort();
    paths.dedup();
    ensure!(paths.iter().any(|path| path == "Cargo.toml"), "no Cargo.toml in {}", root.display());
    Ok(paths)
}

fn walk(root: &Path, below: &str, found: &mut Vec<String>) -> Result<()> {
    let folder = root.join(below);
    for entry in std::fs::read_dir(&folder).with_context(|| format!("cannot list {}", folder.display()))? {
        let entry = entry?;
        let name = entry.file_name().into_string().ok().context("a file name is not UTF-8")?;
        let path = if below.is_empty() { name.clone() } else { format!("{below}/{name}") };
        match entry.file_type()? {
            kind if kind.is_dir() && ["target", "dist", ".git"].contains(&name.as_str()) => {}
            kind if kind.is_dir() => walk(root, &path, found)?,
            kind if kind.is_file() => found.push(path),
            _ => {}
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_finding_prints_like_a_compiler() {
        assert_eq!(Finding::new("a/b.rs", 3, "no").to_string(), "a/b.rs:3: no");
        assert_eq!(Finding::new("a/b.rs", 0, "no").to_string(), "a/b.rs: no");
    }

    #[test]
    fn this_tree_keeps_its_rules() {
        let root = crate::tree_root().unwrap();
        let (findings, _) = check(&read_tree(&root).unwrap()).unwrap();
        let lines: Vec<String> = findings.iter().map(ToString::to_string).collect();
        assert!(lines.is_empty(), "{}", lines.join("\n"));
    }

    #[test]
    fn the_walk_finds_what_git_lists() {
        let root = crate::tree_root().unwrap();
        let mut walked = Vec::new();
        walk(&root, "", &mut walked).unwrap();
        for path in ["Cargo.toml", ".ci/run", "src/xtask/src/tidy/mod.rs"] {
            assert!(walked.iter().any(|found| found == path), "{path} is missing");
        }
        assert!(!walked.iter().any(|path| path.starts_with(".git/")));
    }
}

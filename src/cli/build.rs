//! Finds out which commit is being built, for `--version`.

use std::path::{Path, PathBuf};
use std::process::Command;

fn main() {
    println!("cargo:rerun-if-env-changed=SKEP_COMMIT");
    println!("cargo:rerun-if-changed=build.rs");
    // Packagers build from an archive and know the commit; elsewhere git does; failing both, the version has to do.
    let commit = std::env::var("SKEP_COMMIT").ok().filter(|commit| !commit.is_empty()).or_else(commit_from_git);
    println!("cargo:rustc-env=SKEP_COMMIT={}", commit.unwrap_or_else(|| env!("CARGO_PKG_VERSION").to_owned()));
}

fn commit_from_git() -> Option<String> {
    // A source archive that was unpacked inside somebody else's repository must not take that one's commit.
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().ok()?;
    let top = PathBuf::from(git(&["rev-parse", "--show-toplevel"])?).canonicalize().ok()?;
    if top != workspace {
        return None;
    }
    // The log of HEAD changes with each commit and checkout, HEAD itself only with the branch.
    for file in ["HEAD", "logs/HEAD"] {
        println!("cargo:rerun-if-changed={}", git(&["rev-parse", "--path-format=absolute", "--git-path", file])?);
    }
    git(&["rev-parse", "--verify", "HEAD"])
}

fn git(args: &[&str]) -> Option<String> {
    let output = Command::new("git").args(args).current_dir(env!("CARGO_MANIFEST_DIR")).output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    output.status.success().then(|| text.trim().to_owned())
}

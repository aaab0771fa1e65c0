//! Finds out which commit is being built, for `--version`, and keeps the release binary small.

use std::path::{Path, PathBuf};
use std::process::Command;

fn main() {
    println!("cargo:rerun-if-env-changed=SKEP_COMMIT");
    println!("cargo:rerun-if-changed=build.rs");
    // Packagers build from an archive and know the commit; elsewhere git does; failing both, the version has to do.
    let commit = std::env::var("SKEP_COMMIT").ok().filter(|commit| !commit.is_empty()).or_else(commit_from_git);
    println!("cargo:rustc-env=SKEP_COMMIT={}", commit.unwrap_or_else(|| env!("CARGO_PKG_VERSION").to_owned()));
    link_small();
}

/// What the linker can leave out of a static binary: tables for unwinding, which `panic = "abort"` has no use for (140
/// KB), and the long form of relocations (62 KB).
fn link_small() {
    println!("cargo:rerun-if-changed=no-unwind.ld");
    let is = |name: &str, value: &str| std::env::var(name).is_ok_and(|found| found == value);
    if !is("CARGO_CFG_TARGET_ENV", "musl") || !is("CARGO_CFG_TARGET_ARCH", "x86_64") || !is("PROFILE", "release") {
        return;
    }
    let folder = env!("CARGO_MANIFEST_DIR");
    println!("cargo:rustc-link-arg-bins=-Wl,-T,{folder}/no-unwind.ld");
    println!("cargo:rustc-link-arg-bins=-Wl,--no-eh-frame-hdr");
    // The start files of musl 1.2.3 and older, which came with the toolchain before 1.93, do not know the short form.
    if toolchain_minor().is_some_and(|minor| minor >= 93) {
        println!("cargo:rustc-link-arg-bins=-Wl,-z,pack-relative-relocs");
    }
}

/// 95 for `rustc 1.95.0 (...)`.
fn toolchain_minor() -> Option<u32> {
    let output = Command::new(std::env::var_os("RUSTC")?).arg("--version").output().ok()?;
    String::from_utf8(output.stdout).ok()?.split('.').nth(1)?.parse().ok()
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

//! A small image made from Debian's static busybox, as the archive that every client can load.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use serde_json::json;

use super::cell::find_program;

/// The short name of the image whose command is a shell.
pub const SHELL: &str = "bb";
/// The full name of the image whose command sleeps, for sandboxes of pods.
pub const PAUSE: &str = "docker.io/library/pause:latest";

const PASSWD: &str = "root:x:0:0:root:/root:/bin/sh\napp:x:1000:1000:app:/home/app:/bin/sh\n";
const GROUP: &str = "root:x:0:\napp:x:1000:\nextra:x:1001:app\n";

/// Makes the archive below `dir` and returns its path.
///
/// Format: docker's image save, `manifest.json` with one configuration and the layers for each image.
///
/// # Errors
/// busybox or tar is missing or a file cannot be written.
pub fn make_archive(dir: &Path) -> Result<PathBuf> {
    let work = dir.join("image");
    let root = work.join("root");
    make_root(&root)?;
    tar(&root, &work.join("layer.tar"), &["."])?;
    let digest = sha256(&work.join("layer.tar"))?;
    let shell = json!({ "Cmd": ["sh"], "Env": [format!("PATH={}", "/bin:/usr/bin"), "FROM=image"], "WorkingDir": "/" });
    let pause = json!({ "Cmd": ["sleep", "1000000"], "Env": ["PATH=/bin"], "WorkingDir": "/" });
    let mut manifest = Vec::new();
    for (file, name, config) in
        [("shell.json", format!("docker.io/library/{SHELL}:latest"), shell), ("pause.json", PAUSE.to_owned(), pause)]
    {
        let image = json!({
            "architecture": architecture(), "os": "linux", "config": config,
            "rootfs": { "type": "layers", "diff_ids": [format!("sha256:{digest}")] },
            "history": [{ "created_by": "busybox" }],
        });
        fs::write(work.join(file), image.to_string())?;
        manifest.push(json!({ "Config": file, "RepoTags": [name], "Layers": ["layer.tar"] }));
    }
    fs::write(work.join("manifest.json"), serde_json::Value::from(manifest).to_string())?;
    let archive = dir.join("image.tar");
    tar(&work, &archive, &["manifest.json", "shell.json", "pause.json", "layer.tar"])?;
    Ok(archive)
}

/// Fills a root file system: busybox with all its names, two users, a folder for everyone, an empty one.
fn make_root(root: &Path) -> Result<()> {
    for folder in ["bin", "etc", "tmp", "data", "home/app", "root", "proc", "sys", "dev", "var"] {
        fs::create_dir_all(root.join(folder))?;
    }
    fs::set_permissions(root.join("tmp"), fs::Permissions::from_mode(0o1777))?;
    let busybox = find_program("busybox").context("busybox is missing")?;
    fs::copy(&busybox, root.join("bin/busybox"))?;
    let output = Command::new(&busybox).arg("--list").output().context("busybox --list")?;
    for name in String::from_utf8_lossy(&output.stdout).lines().filter(|name| *name != "busybox") {
        symlink("busybox", root.join("bin").join(name))?;
    }
    fs::write(root.join("etc/passwd"), PASSWD)?;
    fs::write(root.join("etc/group"), GROUP)?;
    fs::write(root.join("data/from-image"), "image\n")?;
    fs::write(root.join("bin/not-executable"), "#!/bin/sh\n")?;
    Ok(())
}

fn tar(from: &Path, to: &Path, names: &[&str]) -> Result<()> {
    let mut command = Command::new("tar");
    command.args(["--numeric-owner", "--owner=0", "--group=0", "-C"]).arg(from).arg("-cf").arg(to).args(names);
    let status = command.status().context("tar")?;
    ensure!(status.success(), "tar of {}: {status}", from.display());
    Ok(())
}

fn sha256(file: &Path) -> Result<String> {
    let output = Command::new("sha256sum").arg(file).output().context("sha256sum")?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let digest = text.split(' ').next().filter(|digest| digest.len() == 64);
    Ok(digest.context("sha256sum printed no digest")?.to_owned())
}

/// The name of this machine's architecture in images.
fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

//! What docker and podman save is imported, and each layer is what they unpacked themselves.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, PoisonError};

use anyhow::{Context, Result, ensure};
use integration::client::daemon::Daemon;
use integration::client::{Cell, Cli, Need, in_cell};
use rootfs_tools::store::{Image, check};

use crate::place::{Place, make_changes, make_everything};
use crate::tree::{assert_same, list};

const DOCKER: [Need; 3] = [
    Need { program: "dockerd", package: "docker.io" },
    Need { program: "docker", package: "docker.io" },
    Need { program: "containerd", package: "containerd" },
];

const PODMAN: [Need; 1] = [Need { program: "podman", package: "podman" }];

/// A cell is named after its process: where tests are threads of one, they take turns.
static TURN: Mutex<()> = Mutex::new(());

/// An archive as `docker save` writes it, with two layers of everything.
fn make_saved(place: &Place) -> PathBuf {
    for (folder, make) in [("tree", make_everything as fn(&Path)), ("changes", make_changes)] {
        fs::create_dir(place.dir.join(folder)).unwrap();
        make(&place.dir.join(folder));
    }
    fs::create_dir(place.dir.join("saved")).unwrap();
    // Without a map of holes: podman 4.3 fails to save a layer that has one ("write too long").
    place.tar_with(&[], "tree", "saved/0.tar");
    place.tar_with(&[], "changes", "saved/1.tar");
    let sum = |file: &str| place.run("sha256sum", &[file]).split(' ').next().unwrap().to_owned();
    let config = format!(
        r#"{{"architecture":"amd64","os":"linux","created":"2026-01-02T03:04:05Z","config":{{"Cmd":["/bin/sh"],
        "Env":["A=b"],"Labels":{{"l":"m"}}}},"rootfs":{{"type":"layers","diff_ids":["sha256:{}","sha256:{}"]}},
        "history":[{{"created_by":"one"}},{{"created_by":"two"}}]}}"#,
        sum("saved/0.tar"),
        sum("saved/1.tar")
    );
    fs::write(place.dir.join("saved/config.json"), config).unwrap();
    let manifest = r#"[{"Config":"config.json","RepoTags":["nasty:1"],"Layers":["0.tar","1.tar"]}]"#;
    fs::write(place.dir.join("saved/manifest.json"), manifest).unwrap();
    place.run("tar", &["-C", "saved", "-cf", "made.tar", "0.tar", "1.tar", "config.json", "manifest.json"]);
    place.dir.join("made.tar")
}

/// Compares layers with the folders that an engine keeps them in. A whiteout has the time at which it was made.
fn compare(place: &Place, image: &Image, folders: &[PathBuf], engine: &str) {
    let store = place.store();
    assert_eq!(image.layers.len(), folders.len());
    let lines = |root: &Path| -> Vec<String> {
        // docker unpacks through a mount, and overlay notes where a folder came from.
        let noted =
            |word: &&str| word.starts_with("trusted.overlay.origin=") || word.starts_with("trusted.overlay.impure=");
        let without_notes = |line: &String| {
            let words: Vec<&str> = line.split(' ').filter(|word| !noted(word)).collect();
            if line.contains(" device 0:0") { [&words[..1], &words[4..]].concat().join(" ") } else { words.join(" ") }
        };
        // Engines make the root itself in their own way: docker leaves its time, podman its mode too.
        list(root).iter().filter(|line| !line.starts_with(". ")).map(without_notes).collect()
    };
    for (diff_id, folder) in image.layers.iter().zip(folders) {
        assert_same(&lines(&store.layer_root(*diff_id)), &lines(folder), engine);
    }
    assert_eq!(check(&store).unwrap(), []);
}

/// The folders of an image with two layers, lowest first, from what an engine prints.
fn parse_folders(inspected: &str) -> Result<Vec<PathBuf>> {
    let (lower, upper) = inspected.trim().split_once('|').context("two folders")?;
    ensure!(!lower.contains(':'), "more layers than were loaded: {inspected}");
    Ok(vec![lower.into(), upper.into()])
}

/// An entry as `docker export` has it: times in seconds, and of attributes capabilities alone.
fn as_exported(line: &str) -> String {
    let kept =
        [" system.", " trusted.", " user."].iter().filter_map(|name| line.find(name)).min().unwrap_or(line.len());
    let is_fraction = |text: &str| text.len() == 9 && text.bytes().all(|byte| byte.is_ascii_digit());
    let whole = |word: &str| match word.split_once('.') {
        Some((seconds, fraction)) if is_fraction(fraction) => seconds.to_owned(),
        _ => word.to_owned(),
    };
    line[..kept].split(' ').map(whole).collect::<Vec<_>>().join(" ")
}

const FOLDERS: &str = "--format={{.GraphDriver.Data.LowerDir}}|{{.GraphDriver.Data.UpperDir}}";

#[test]
fn docker_unpacks_the_same() {
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    in_cell("engines::docker_unpacks_the_same", &DOCKER, docker).unwrap();
}

fn docker(cell: &Cell) -> Result<()> {
    let cli = Cli::new(&cell.dir, &["docker"])?;
    let mut command = Command::new("dockerd");
    command.arg("--data-root").arg(cell.dir.join("docker"));
    command.args(["--exec-root", "/run/docker", "--pidfile", "/run/docker.pid", "--host", "unix:///run/docker.sock"]);
    command.args(["--bridge", "none", "--iptables=false", "--ip6tables=false", "--storage-driver", "overlay2"]);
    let daemon = Daemon::start(&cell.dir, &mut command, || Ok(cli.run("version", "")?.code == 0)).context("dockerd")?;
    let place = Place::new();
    let made = make_saved(&place);
    cli.run("load --quiet --input", &made.display().to_string())?.ok()?;
    let folders = parse_folders(&cli.run_words(&["image", "inspect", FOLDERS, "nasty:1"])?.ok()?)?;
    let saved = place.dir.join("docker.tar");
    cli.run("save nasty:1 --output", &saved.display().to_string())?.ok()?;
    let image = place.import(&saved, "docker")?;
    compare(&place, &image, &folders, "docker");
    assert_eq!(
        (image.config.cmd.as_slice(), image.created.as_deref()),
        (&["/bin/sh".to_owned()][..], Some("2026-01-02T03:04:05Z"))
    );
    let id = cli.run_words(&["image", "inspect", "--format={{.Id}}", "nasty:1"])?.ok()?;
    assert_eq!(image.id.map(|id| id.to_string()).as_deref(), Some(id.trim()));
    // A container as a plain archive: all that is in its root, with what docker adds itself.
    cli.run("create --name exported nasty:1 /bin/sh", "")?.ok()?;
    let exported = place.dir.join("export.tar");
    cli.run("export exported --output", &exported.display().to_string())?.ok()?;
    let plain = place.import(&exported, "plain")?;
    let store = place.store();
    {
        let merged = place.mount(&store, &image);
        let known = ["/dev", "/etc", "/.dockerenv", "/proc", "/sys", "."];
        let lines = |root: &Path| -> Vec<String> {
            let all = list(root).into_iter().filter(|line| !known.iter().any(|name| line.starts_with(name)));
            all.map(|line| as_exported(&line)).collect()
        };
        assert_same(&lines(&store.layer_root(plain.layers[0])), &lines(&merged.point), "docker export");
    }
    cli.run("rm exported", "")?.ok()?;
    cli.run("image rm nasty:1", "")?.ok()?;
    daemon.stop()
}

#[test]
fn podman_unpacks_the_same() {
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    in_cell("engines::podman_unpacks_the_same", &PODMAN, podman).unwrap();
}

fn podman(cell: &Cell) -> Result<()> {
    let (root, run) = (cell.dir.join("podman"), cell.dir.join("podman-run"));
    let options = ["--root", root.to_str().context("UTF-8")?, "--runroot", run.to_str().context("UTF-8")?];
    let cli = Cli::new(&cell.dir, &[&["podman"], &options[..], &["--storage-driver", "overlay"]].concat())?;
    let place = Place::new();
    let made = make_saved(&place);
    cli.run("load --quiet --input", &made.display().to_string())?.ok()?;
    let name = "localhost/nasty:1";
    let folders = parse_folders(&cli.run_words(&["image", "inspect", FOLDERS, name])?.ok()?)?;
    for format in ["docker-archive", "oci-archive", "oci-dir"] {
        let saved = place.dir.join(format);
        let saved_name = saved.display().to_string();
        cli.run_words(&["save", "--quiet", "--format", format, "--output", &saved_name, name])?.ok()?;
        let image = place.import(&saved, format)?;
        compare(&place, &image, &folders, format);
        assert_eq!(image.config.env, ["A=b"]);
    }
    cli.run("image rm", name)?.ok()?;
    Ok(())
}

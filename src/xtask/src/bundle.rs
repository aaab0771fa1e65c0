//! Makes a bundle to try a runtime with: what its own `spec` command writes, a small root file system, and limits.

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

#[derive(clap::Args)]
pub(crate) struct Options {
    /// The folder of the bundle; it is made when it is missing
    dir: PathBuf,
    /// The runtime whose `spec` command writes the config.json
    #[arg(long)]
    runtime: PathBuf,
    /// The static busybox to take
    #[arg(long, default_value = "/bin/busybox")]
    busybox: PathBuf,
    /// Memory limit in bytes
    #[arg(long)]
    memory: Option<u64>,
    /// CPU limit in thousandths of one CPU
    #[arg(long)]
    millicpus: Option<u64>,
    /// Limit of tasks
    #[arg(long)]
    pids: Option<u64>,
    /// The command to run
    #[arg(last = true, default_values_t = ["true".to_owned()])]
    command: Vec<String>,
}

pub(crate) fn run(options: &Options) -> Result<ExitCode> {
    let dir = &options.dir;
    std::fs::create_dir_all(dir).with_context(|| format!("cannot make {}", dir.display()))?;
    rootfs_tools::busybox(&dir.join("rootfs"), &options.busybox).context("cannot make the root file system")?;
    write_spec(dir, &options.runtime)?;
    let path = dir.join("config.json");
    let text = std::fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
    let mut config: Value = serde_json::from_str(&text).with_context(|| format!("cannot parse {}", path.display()))?;
    edit(&mut config, options);
    let text = serde_json::to_string_pretty(&config).context("cannot write JSON")?;
    std::fs::write(&path, text + "\n").with_context(|| format!("cannot write {}", path.display()))?;
    Ok(ExitCode::SUCCESS)
}

/// Has the runtime write its default config.json; it refuses to overwrite one.
fn write_spec(dir: &Path, runtime: &Path) -> Result<()> {
    let status = Command::new(runtime)
        .arg("spec")
        .arg("--bundle")
        .arg(dir)
        .status()
        .with_context(|| format!("cannot run {}", runtime.display()))?;
    ensure!(status.success(), "{} spec ended with {status}", runtime.display());
    Ok(())
}

fn edit(config: &mut Value, options: &Options) {
    config["process"]["terminal"] = json!(false);
    config["process"]["args"] = json!(options.command);
    if let Some(bytes) = options.memory {
        config["linux"]["resources"]["memory"] = json!({ "limit": bytes });
    }
    if let Some(millicpus) = options.millicpus {
        // Microseconds: the kernel's default period, and the share of it in thousandths.
        const PERIOD: u64 = 100_000;
        config["linux"]["resources"]["cpu"] = json!({ "quota": millicpus * PERIOD / 1000, "period": PERIOD });
    }
    if let Some(pids) = options.pids {
        config["linux"]["resources"]["pids"] = json!({ "limit": pids });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(memory: Option<u64>, millicpus: Option<u64>, pids: Option<u64>) -> Options {
        let command = vec!["sleep".to_owned(), "9".to_owned()];
        Options { dir: "d".into(), runtime: "r".into(), busybox: "b".into(), memory, millicpus, pids, command }
    }

    fn check(options: &Options, expected: &Value) {
        let mut config =
            json!({ "process": { "terminal": true, "args": ["sh"] }, "linux": { "resources": { "devices": [] } } });
        edit(&mut config, options);
        assert_eq!(config["linux"]["resources"], *expected);
        assert_eq!(config["process"], json!({ "terminal": false, "args": ["sleep", "9"] }));
    }

    #[test]
    fn limits_are_added_beside_what_is_there() {
        check(&options(None, None, None), &json!({ "devices": [] }));
        check(
            &options(Some(4096), Some(500), Some(7)),
            &json!({
                "devices": [],
                "memory": { "limit": 4096 },
                "cpu": { "quota": 50_000, "period": 100_000 },
                "pids": { "limit": 7 },
            }),
        );
    }
}

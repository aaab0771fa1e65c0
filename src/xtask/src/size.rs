//! Compares the size of the installed binary with its limit.
//!
//! The runtime is started for each container verb, and copies of it are what self-protection and page faults pay for: it
//! stays small.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result};

#[derive(clap::Args)]
pub(crate) struct Options {
    /// The binary
    #[arg(default_value = "dist/bin/skep")]
    binary: PathBuf,
    /// The limit in bytes. The aim is 600 KB (docs/design/0003-small-binary.md); until it is reached, nothing may be lost
    #[arg(long, default_value_t = 2_050_000)]
    max: u64,
    /// Says so and ends with success when the binary is larger
    #[arg(long)]
    warn: bool,
}

pub(crate) fn run(options: &Options) -> Result<ExitCode> {
    let bytes = std::fs::metadata(&options.binary)
        .with_context(|| format!("cannot look at {}", options.binary.display()))?
        .len();
    println!("{}", verdict(bytes, options.max));
    let good = bytes <= options.max || options.warn;
    Ok(if good { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn verdict(bytes: u64, max: u64) -> String {
    if bytes <= max {
        format!("{bytes} bytes, {} below the limit of {max}", max - bytes)
    } else {
        format!("{bytes} bytes, {} above the limit of {max}", bytes - max)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(max: u64, warn: bool) -> Options {
        Options { binary: std::env::current_exe().unwrap(), max, warn }
    }

    #[test]
    fn a_binary_at_the_limit_passes_and_one_byte_more_does_not() {
        let own = std::fs::metadata(std::env::current_exe().unwrap()).unwrap().len();
        assert_eq!(run(&options(own, false)).unwrap(), ExitCode::SUCCESS);
        assert_eq!(run(&options(own - 1, false)).unwrap(), ExitCode::FAILURE);
        assert_eq!(run(&options(own - 1, true)).unwrap(), ExitCode::SUCCESS);
    }

    #[test]
    fn the_verdict_names_the_distance() {
        assert_eq!(verdict(590, 600), "590 bytes, 10 below the limit of 600");
        assert_eq!(verdict(601, 600), "601 bytes, 1 above the limit of 600");
    }
}

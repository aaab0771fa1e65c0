//! The command line of what is changed in containers, and seen of them, while they run.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use crate::args::Printed;

/// Examples of `cgroup`.
pub const CGROUP_EXAMPLES: &str = "\
Examples:
  skep cgroup get web1 memory.max
  skep cgroup set web1 cpu.weight 50 --save
  skep cgroup set web1 cpu.shares 512              where cgroup v1 has the controller";

/// `cgroup`.
#[derive(Debug, Subcommand)]
#[command(defer = true)]
pub enum CgroupVerb {
    /// Print a file of a running container's group.
    Get {
        /// The container.
        name: String,
        /// The file, by the kernel's name, such as memory.max or memory.limit_in_bytes.
        key: String,
        /// How it is printed.
        #[command(flatten)]
        printed: Printed,
    },
    /// Write a file of a running container's group.
    Set {
        /// The container.
        name: String,
        /// The file, by the kernel's name.
        key: String,
        /// What is written into it.
        #[arg(allow_hyphen_values = true)]
        value: String,
        /// Keep it for the next start too; of a stopped container only that is possible.
        #[arg(long)]
        save: bool,
    },
}

/// Examples of `device`.
pub const DEVICE_EXAMPLES: &str = "\
Examples:
  skep device add web1 /dev/fuse
  skep device add db1 /dev/loop7 /dev/disk --access rw --save
  skep device add vpn1 eth5 wan                    a link of the host, called wan inside
  skep device ls web1
  skep device del web1 /dev/fuse";

/// `device`.
#[derive(Debug, Subcommand)]
#[command(defer = true)]
pub enum DeviceVerb {
    /// Give it a device of the host, or with a name instead of a path a network link.
    Add {
        /// The container.
        name: String,
        /// The path of the device, or the name of the link.
        #[arg(value_name = "PATH|LINK")]
        device: String,
        /// Where it is inside, or what the link is called there; as outside without it.
        inside: Option<String>,
        /// What may be done with a device: some of r, w and m.
        #[arg(long, value_name = "rwm", default_value = "rwm")]
        access: String,
        /// Keep it for the next start too; a stopped container gets it then in any case.
        #[arg(long)]
        save: bool,
        /// How it is printed.
        #[command(flatten)]
        printed: Printed,
    },
    /// Take it away again.
    Del {
        /// The container.
        name: String,
        /// Its path inside, or the name of the link inside.
        #[arg(value_name = "INSIDE")]
        device: String,
        /// Take it out of the definition too.
        #[arg(long)]
        save: bool,
    },
    /// List devices and links of the host that it has.
    Ls {
        /// The container.
        name: String,
        /// How the list is printed.
        #[command(flatten)]
        printed: Printed,
    },
}

/// Examples of `mount`.
pub const MOUNT_EXAMPLES: &str = "\
Examples:
  skep mount add web1 /srv/data /data
  skep mount add web1 /etc/app.conf /etc/app.conf --read-only --save
  skep mount ls web1
  skep mount del web1 /data";

/// `mount`.
#[derive(Debug, Subcommand)]
#[command(defer = true)]
pub enum MountVerb {
    /// Show a folder or a file of the host inside, with the mounts below it.
    Add {
        /// The container.
        name: String,
        /// Path on the host.
        source: PathBuf,
        /// Path inside; made where it is not there.
        target: String,
        /// Let nothing be written there.
        #[arg(long, short)]
        read_only: bool,
        /// In a user namespace: show the owners of files as they are, not as ids of the container.
        #[arg(long)]
        host_owners: bool,
        /// Keep it for the next start too; a stopped container gets it then in any case.
        #[arg(long)]
        save: bool,
        /// How it is printed.
        #[command(flatten)]
        printed: Printed,
    },
    /// Take it away again. What is open of it goes on.
    Del {
        /// The container.
        name: String,
        /// Path inside, or the path on the host and that.
        #[arg(required = true, num_args = 1..=2, value_name = "[SOURCE] TARGET")]
        paths: Vec<String>,
        /// Take it out of the definition too.
        #[arg(long)]
        save: bool,
    },
    /// List folders and files of the host that it has.
    Ls {
        /// The container.
        name: String,
        /// How the list is printed.
        #[command(flatten)]
        printed: Printed,
    },
}

/// Examples of `monitor`.
pub const MONITOR_EXAMPLES: &str = "\
Examples:
  skep monitor
  skep monitor 'web*' db1
  skep monitor --regex '^(web|db)[0-9]$' --json";

/// `monitor`.
#[derive(Debug, Args)]
pub struct MonitorArgs {
    /// Which containers: names, with * and ? for any characters; all without it.
    #[arg(value_name = "NAME")]
    pub names: Vec<String>,
    /// The names are regular expressions.
    #[arg(long)]
    pub regex: bool,
    /// Print the states that they are in first.
    #[arg(long, short)]
    pub initial: bool,
    /// One JSON object a line.
    #[arg(long)]
    pub json: bool,
}

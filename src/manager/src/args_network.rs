//! The command line of what connects a container, besides the name of a network.

use std::path::PathBuf;

use clap::Args;
use network::Share;

use crate::cni;

/// Part of `create`.
#[derive(Debug, Clone, Args)]
pub struct ConnectionArgs {
    /// Give it a link: a veth, macvlan, vlan, ipvlan, or with phys a device of the host; may be repeated.
    #[arg(long, value_name = "KIND:KEY=VALUE,...")]
    pub link: Vec<String>,
    /// Its part of a link of the host that containers share, such as device=eth0,rate=10mbit,ceil=20mbit,priority=1.
    #[arg(long, value_name = "device=NAME,rate=RATE,...")]
    pub class: Option<Share>,
    /// Folder with the configurations of CNI networks.
    #[arg(long, value_name = "DIR", env = "SKEP_CNI_CONF", default_value = cni::CONF)]
    pub cni_conf: PathBuf,
    /// Folder with CNI plugins; may be repeated.
    #[arg(long, value_name = "DIR", env = "SKEP_CNI_PLUGINS", value_delimiter = ':', default_values = cni::PLUGINS)]
    pub cni_plugins: Vec<PathBuf>,
}

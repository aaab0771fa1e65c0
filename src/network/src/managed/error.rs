//! What can go wrong with a managed network, and how it is said.

use super::{LeaseError, NetworkError};
use crate::FileError;

/// A network, address or port that could not be had or taken back.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// No such network.
    #[error("no network {name:?}")]
    Missing {
        /// As given.
        name: String,
    },
    /// The name is taken.
    #[error("a network {name:?} exists")]
    Exists {
        /// As given.
        name: String,
    },
    /// A device that is there has the name of the bridge.
    #[error("network device {bridge:?} is no bridge that was made for network {network:?}")]
    Foreign {
        /// The device.
        bridge: String,
        /// The network.
        network: String,
    },
    /// A definition that makes no sense.
    #[error("cannot define network {name:?}")]
    Definition {
        /// As given.
        name: String,
        /// What is wrong with it.
        #[source]
        source: NetworkError,
    },
    /// Containers have addresses in it.
    #[error("network {name:?} is in use by {}", users.join(", "))]
    InUse {
        /// The network.
        name: String,
        /// The containers.
        users: Vec<String>,
    },
    /// No address could be given.
    #[error("no address in network {network:?}")]
    Lease {
        /// The network.
        network: String,
        /// Why not.
        #[source]
        source: LeaseError,
    },
    /// Ports lead to an address, which is not there.
    #[error("container {container:?} has no address in network {network:?}")]
    NoLease {
        /// The network.
        network: String,
        /// The container.
        container: String,
    },
    /// A container has addresses of its own in a network.
    #[error("container {container:?} has addresses in network {network:?} already")]
    Leased {
        /// The network.
        network: String,
        /// The container.
        container: String,
    },
    /// Two containers cannot have one port.
    #[error("port {forward} of the host leads to container {by:?} already")]
    PortTaken {
        /// The forward that was asked for.
        forward: String,
        /// Who has it.
        by: String,
    },
    /// A program of the host has the port.
    #[error("port {forward} of the host is in use: {by}")]
    PortInUse {
        /// The forward that was asked for.
        forward: String,
        /// Who listens, and where.
        by: String,
    },
    /// An IPv6 address of the host cannot lead to an IPv4 one of a container.
    #[error("port {forward}: container {container:?} has no address of that family")]
    Family {
        /// The forward that was asked for.
        forward: String,
        /// The container.
        container: String,
    },
    /// nft or iptables could not do its work.
    #[error("{program} {arguments}: {reason}")]
    Program {
        /// Its path.
        program: String,
        /// What it was asked.
        arguments: String,
        /// Its own words, or why it could not be started.
        reason: String,
    },
    /// The rules could not be changed, nor those of before put back.
    #[error("{first}; putting the rules of before back failed too: {undo}")]
    Undo {
        /// What failed first.
        first: Box<Error>,
        /// What failed then.
        undo: Box<Error>,
    },
    /// The bridge.
    #[error(transparent)]
    Link(#[from] crate::Error),
    /// A file of the store.
    #[error(transparent)]
    File(#[from] FileError),
    /// A parameter of the kernel.
    #[error(transparent)]
    Call(#[from] sys::Error),
}

//! How much has passed through links.
//!
//! Kernel: include/uapi/linux/if_link.h, `struct rtnl_link_stats64`, IFLA_STATS64.

use std::os::fd::BorrowedFd;

use serde::{Deserialize, Serialize};

use crate::codec::{Attributes, Malformed};
use crate::error::Error;
use crate::link;
use crate::socket::Socket;

const NAME: u16 = 3;
const STATS64: u16 = 23;

/// What a link has received and sent since it was made, as its own end sees it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counters {
    /// Packets received.
    pub rx_packets: u64,
    /// Packets sent.
    pub tx_packets: u64,
    /// Bytes received, headers of the link included.
    pub rx_bytes: u64,
    /// Bytes sent, headers of the link included.
    pub tx_bytes: u64,
    /// Received packets that were wrong.
    pub rx_errors: u64,
    /// Packets that could not be sent.
    pub tx_errors: u64,
    /// Received packets for which there was no room.
    pub rx_dropped: u64,
    /// Packets that were not sent for want of room, as above a limit.
    pub tx_dropped: u64,
}

/// Counters of all links but loopback of a network namespace (the caller's for None), by name. One request.
///
/// # Errors
/// What the kernel says.
pub fn counters(netns: Option<BorrowedFd<'_>>) -> Result<Vec<(String, Counters)>, Error> {
    let mut socket = netns.map_or_else(Socket::open, Socket::open_in)?;
    let request = link::render_dump(link::Detail::WithCounters);
    let mut found = socket.dump(&request, || "count what network devices have passed".to_owned(), decode)?;
    found.retain(|(name, _)| name != "lo");
    Ok(found)
}

fn decode(payload: &[u8]) -> Result<(String, Counters), Malformed> {
    let (mut name, mut counters) = (String::new(), Counters::default());
    for attribute in Attributes::after(payload, link::HEADER)? {
        match attribute? {
            (NAME, value) => name = crate::codec::decode_text(value),
            (STATS64, value) => counters = decode_counters(value)?,
            _ => {}
        }
    }
    if name.is_empty() { Err(Malformed) } else { Ok((name, counters)) }
}

/// The structure begins with these eight, in this order; newer kernels have more behind them.
fn decode_counters(value: &[u8]) -> Result<Counters, Malformed> {
    let mut numbers = value.chunks_exact(8).map(|chunk| chunk.try_into().map(u64::from_ne_bytes).unwrap_or_default());
    let mut next = || numbers.next().ok_or(Malformed);
    Ok(Counters {
        rx_packets: next()?,
        tx_packets: next()?,
        rx_bytes: next()?,
        tx_bytes: next()?,
        rx_errors: next()?,
        tx_errors: next()?,
        rx_dropped: next()?,
        tx_dropped: next()?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_structure_that_grew_is_read_and_one_that_is_short_is_not() {
        let bytes: Vec<u8> = (1..=24u64).flat_map(u64::to_ne_bytes).collect();
        let counters = decode_counters(&bytes).unwrap();
        assert_eq!((counters.rx_packets, counters.tx_bytes, counters.tx_dropped), (1, 4, 8));
        assert_eq!(decode_counters(&bytes[..63]), Err(Malformed));
    }

    proptest::proptest! {
        #[test]
        fn foreign_descriptions_never_panic(payload: Vec<u8>) {
            if let Ok((name, _)) = decode(&payload) {
                assert!(!name.is_empty());
            }
        }
    }
}

//! Links with their addresses, for listings.

use std::os::fd::BorrowedFd;

use crate::address::{self, LinkAddress};
use crate::error::Error;
use crate::link::{self, Link};
use crate::socket::Socket;

/// All links of a network namespace (the caller's for None) with their addresses, in the kernel's order. Two requests.
///
/// # Errors
/// What the kernel says.
pub fn list_addresses(netns: Option<BorrowedFd<'_>>) -> Result<Vec<(Link, Vec<LinkAddress>)>, Error> {
    let mut socket = netns.map_or_else(Socket::open, Socket::open_in)?;
    let links = link::read_links(&mut socket)?;
    let addresses = address::read_addresses(&mut socket, 0)?;
    let owned = |link: &Link| {
        let of_link = addresses.iter().filter(|(index, _)| *index == link.index);
        of_link.map(|(_, address)| address.clone()).collect()
    };
    Ok(links.into_iter().map(|link| (owned(&link), link)).map(|(addresses, link)| (link, addresses)).collect())
}

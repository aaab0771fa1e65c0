//! As much of FUSE's protocol as a folder of small files that can only be read takes. Parsing and rendering are pure.
//!
//! Kernel: include/uapi/linux/fuse.h; numbers are in the machine's own byte order.

/// Version of the protocol that is spoken: 7.31 (Linux 5.4). The kernel speaks that of whoever is older.
const MAJOR: u32 = 7;
const MINOR: u32 = 31;

/// Length of what stands before each request.
const HEADER: usize = 40;

/// Least that a read from the device has to have room for (FUSE_MIN_READ_BUFFER).
pub const BUFFER: usize = 8192;

/// The folder.
pub const ROOT: u64 = 1;

/// How long the kernel may remember names and what it knows of the folder, seconds: they never change.
const VALID: u64 = 86_400;

/// Every read asks: the length that is said of a file is no end.
const DIRECT_IO: u32 = 1;

const ENOENT: i32 = 2;
const ENOSYS: i32 = 38;

/// What the kernel wants.
#[derive(Debug, PartialEq, Eq)]
pub enum Request<'a> {
    /// To begin.
    Init,
    /// The file of a name in the folder.
    Lookup(&'a [u8]),
    /// Owner and mode of a node.
    Attributes(u64),
    /// To open a node.
    Open,
    /// A part of a file.
    Read {
        /// The node.
        node: u64,
        /// What opening it was answered with.
        handle: u64,
        /// From here on.
        offset: u64,
        /// At most so much.
        size: usize,
    },
    /// To close what an opening was answered with.
    Close(u64),
    /// How large the file system is.
    Size,
    /// Something that needs no more than a yes.
    Agree,
    /// Something that has no answer.
    Note,
    /// Something else.
    Unknown,
}

/// Reads a request: what identifies the answer, and what is wanted. `None` for one that is cut off.
#[must_use]
pub fn parse(bytes: &[u8]) -> Option<(u64, Request<'_>)> {
    let (opcode, unique, node) = (u32_at(bytes, 4)?, u64_at(bytes, 8)?, u64_at(bytes, 16)?);
    let body = bytes.get(HEADER..)?;
    let request = match opcode {
        26 => Request::Init,
        1 => Request::Lookup(body.split(|byte| *byte == 0).next()?),
        3 => Request::Attributes(node),
        // OPEN and OPENDIR.
        14 | 27 => Request::Open,
        15 => {
            let (handle, offset, size) = (u64_at(body, 0)?, u64_at(body, 8)?, u32_at(body, 16)?);
            Request::Read { node, handle, offset, size: usize::try_from(size).ok()? }
        }
        17 => Request::Size,
        // RELEASE.
        18 => Request::Close(u64_at(body, 0)?),
        // FLUSH, READDIR (of nothing) and RELEASEDIR.
        25 | 28 | 29 => Request::Agree,
        // FORGET, INTERRUPT, DESTROY and BATCH_FORGET.
        2 | 36 | 38 | 42 => Request::Note,
        _ => Request::Unknown,
    };
    Some((unique, request))
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_ne_bytes(bytes.get(at..at + 8)?.try_into().ok()?))
}

/// An answer, as it is written to the device.
#[must_use]
pub fn render_answer(unique: u64, body: &[u8]) -> Vec<u8> {
    answer(unique, 0, body)
}

/// An answer that there is no such file.
#[must_use]
pub fn render_absent(unique: u64) -> Vec<u8> {
    answer(unique, -ENOENT, &[])
}

/// An answer that nothing is known of what is wanted.
#[must_use]
pub fn render_unknown(unique: u64) -> Vec<u8> {
    answer(unique, -ENOSYS, &[])
}

fn answer(unique: u64, error: i32, body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(16 + body.len()).unwrap_or(u32::MAX);
    [&length.to_ne_bytes()[..], &error.to_ne_bytes(), &unique.to_ne_bytes(), body].concat()
}

/// `fuse_init_out`.
#[must_use]
pub fn render_init() -> Vec<u8> {
    let page = 4096u32;
    let mut body = [MAJOR, MINOR, 0, 0].map(u32::to_ne_bytes).concat();
    // How many requests may wait: two numbers of 16 bits; then the most that one write has, and the grain of times.
    body.extend([16u16, 12].map(u16::to_ne_bytes).concat());
    body.extend([page, 1].map(u32::to_ne_bytes).concat());
    body.resize(64, 0);
    body
}

/// `fuse_entry_out`: a file by its number.
#[must_use]
pub fn render_entry(node: u64) -> Vec<u8> {
    let mut body = [node, 0, VALID, 0, 0].map(u64::to_ne_bytes).concat();
    body.extend(attributes(node, 0));
    body
}

/// `fuse_attr_out`. The kernel asks for those of a file at each opening, since it may not remember them: its length is where
/// `sendfile(2)` ends (Linux 6.5, which reads for it by pages, also of a file that is opened for direct reads).
#[must_use]
pub fn render_attributes(node: u64, length: usize) -> Vec<u8> {
    let valid = if node == ROOT { VALID } else { 0 };
    let mut body = [valid, 0].map(u64::to_ne_bytes).concat();
    body.extend(attributes(node, length as u64));
    body
}

/// `fuse_open_out`, with a number that comes back with what is read of it.
#[must_use]
pub fn render_open(handle: u64) -> Vec<u8> {
    let mut body = handle.to_ne_bytes().to_vec();
    body.extend([DIRECT_IO, 0].map(u32::to_ne_bytes).concat());
    body
}

/// `fuse_statfs_out`: it has no size.
#[must_use]
pub fn render_size() -> Vec<u8> {
    let mut body = vec![0; 40];
    // Block size, longest name, and the block size again.
    body.extend([4096u32, 255, 4096].map(u32::to_ne_bytes).concat());
    body.resize(80, 0);
    body
}

/// `fuse_attr`: root's, for everybody to read.
fn attributes(node: u64, length: u64) -> Vec<u8> {
    const FOLDER_MODE: u32 = 0o040_555;
    const FILE_MODE: u32 = 0o100_444;
    let mode = if node == ROOT { FOLDER_MODE } else { FILE_MODE };
    let mut body = [node, length, 0, 0, 0, 0].map(u64::to_ne_bytes).concat();
    // The parts of a second of three times, mode, links, owner, group, device, block size, flags.
    body.extend([0, 0, 0, mode, 1, 0, 0, 0, 4096, 0].map(u32::to_ne_bytes).concat());
    body
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(opcode: u32, node: u64, body: &[u8]) -> Vec<u8> {
        let length = u32::try_from(HEADER + body.len()).unwrap();
        let mut bytes = [length, opcode].map(u32::to_ne_bytes).concat();
        bytes.extend([7, node].map(u64::to_ne_bytes).concat());
        bytes.resize(HEADER, 0);
        bytes.extend(body);
        bytes
    }

    #[test]
    fn requests_are_told_apart() {
        let parsed = |bytes: &[u8]| parse(bytes).map(|(unique, request)| (unique, format!("{request:?}")));
        let expect = |text: &str| Some((7, text.to_owned()));
        assert_eq!(parsed(&request(1, 1, b"stat\0")), expect(&format!("Lookup({:?})", b"stat")));
        let mut read = [5u64, 4096].map(u64::to_ne_bytes).concat();
        read.extend(512u32.to_ne_bytes());
        assert_eq!(parsed(&request(15, 3, &read)), expect("Read { node: 3, handle: 5, offset: 4096, size: 512 }"));
        assert_eq!(parsed(&request(18, 3, &5u64.to_ne_bytes())), expect("Close(5)"));
        assert_eq!(parsed(&request(2, 3, &[])), expect("Note"));
        assert_eq!(parsed(&request(99, 3, &[])), expect("Unknown"));
        // One that is cut off is none.
        assert_eq!(parsed(&request(15, 3, &read[..18])), None);
        for length in 0..HEADER {
            assert_eq!(parsed(&request(26, 0, &[])[..length]), None);
        }
    }

    #[test]
    fn answers_have_the_lengths_that_the_kernel_wants() {
        assert_eq!(render_init().len(), 64);
        assert_eq!(render_entry(2).len(), 128);
        assert_eq!(render_attributes(2, 9).len(), 104);
        assert_eq!(render_open(1).len(), 16);
        assert_eq!(render_size().len(), 80);
        assert_eq!(
            render_answer(7, b"text"),
            [&20u32.to_ne_bytes()[..], &[0; 4], &7u64.to_ne_bytes(), b"text"].concat()
        );
        assert_eq!(render_absent(7)[4..8], (-2i32).to_ne_bytes());
    }
}

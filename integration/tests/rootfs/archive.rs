//! Archives that no good tool writes, built block by block.

/// An archive under construction.
#[derive(Default)]
pub(crate) struct Archive(Vec<u8>);

impl Archive {
    /// Adds an entry of any type, with a target for links.
    pub(crate) fn entry(mut self, flag: u8, name: &str, link: &str, content: &[u8]) -> Archive {
        let devices = if flag == b'3' || flag == b'4' { Some((1, 3)) } else { None };
        self.0.extend(header(flag, name, link, content.len() as u64, devices));
        self.0.extend(content);
        self.0.resize(self.0.len().next_multiple_of(512), 0);
        self
    }

    pub(crate) fn file(self, name: &str, content: &str) -> Archive {
        self.entry(b'0', name, "", content.as_bytes())
    }

    pub(crate) fn folder(self, name: &str) -> Archive {
        self.entry(b'5', name, "", b"")
    }

    pub(crate) fn symlink(self, name: &str, target: &str) -> Archive {
        self.entry(b'2', name, target, b"")
    }

    pub(crate) fn hard_link(self, name: &str, target: &str) -> Archive {
        self.entry(b'1', name, target, b"")
    }

    /// Adds a record for the next entry.
    pub(crate) fn record(self, key: &str, value: &[u8]) -> Archive {
        let rest = key.len() + value.len() + 3;
        let mut length = rest + 2;
        while length != rest + length.to_string().len() {
            length = rest + length.to_string().len();
        }
        let record = [format!("{length} {key}=").as_bytes(), value, b"\n"].concat();
        self.entry(b'x', "pax", "", &record)
    }

    pub(crate) fn finish(mut self) -> Vec<u8> {
        self.0.extend([0; 1024]);
        self.0
    }
}

/// One header block. The content's length is what is said, not what follows.
pub(crate) fn header(flag: u8, name: &str, link: &str, size: u64, device: Option<(u32, u32)>) -> [u8; 512] {
    let mut block = [0; 512];
    let mut put = |at: usize, text: &[u8]| block[at..at + text.len()].copy_from_slice(text);
    put(0, &name.as_bytes()[..name.len().min(100)]);
    put(100, b"0000755\x000000000\x000000000\0");
    put(124, format!("{size:011o}\x0000000000000\0").as_bytes());
    put(148, b"        ");
    put(156, &[flag]);
    put(157, &link.as_bytes()[..link.len().min(100)]);
    put(257, b"ustar\x0000");
    if let Some((major, minor)) = device {
        put(329, format!("{major:07o}\0{minor:07o}").as_bytes());
    }
    let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
    block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    block
}

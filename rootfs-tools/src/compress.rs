//! What layers are compressed with, told by their first bytes: what a media type says is not asked.

use std::io::{self, BufRead, Chain, Cursor, Read};

use flate2::bufread::MultiGzDecoder;
use ruzstd::decoding::errors::{FrameDecoderError, ReadFrameHeaderError};
use ruzstd::decoding::{BlockDecodingStrategy, FrameDecoder};

/// How bytes are compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Compression {
    Plain,
    Gzip,
    Zstd,
}

/// A format that is told but not read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("it is compressed with {0}: gzip, zstd and nothing are read")]
pub(crate) struct Unread(&'static str);

/// Tells the format by the first bytes; fewer than six where there are no more.
pub(crate) fn parse_magic(head: &[u8]) -> Result<Compression, Unread> {
    match head {
        [0x1f, 0x8b, ..] => Ok(Compression::Gzip),
        [0x28, 0xb5, 0x2f, 0xfd, ..] => Ok(Compression::Zstd),
        // A frame that is to be passed over may come first.
        [low, 0x2a, 0x4d, 0x18, ..] if low & 0xf0 == 0x50 => Ok(Compression::Zstd),
        [0xfd, b'7', b'z', b'X', b'Z', 0] => Err(Unread("xz")),
        [b'B', b'Z', b'h', b'1'..=b'9', b'1', b'A'] => Err(Unread("bzip2")),
        [0x04, 0x22, 0x4d, 0x18, ..] => Err(Unread("lz4")),
        _ => Ok(Compression::Plain),
    }
}

/// Reads what is compressed, all members or frames of it.
pub(crate) enum Decoder<R: BufRead> {
    Plain(Whole<R>),
    Gzip(Box<MultiGzDecoder<Whole<R>>>),
    Zstd(Box<Frames<Whole<R>>>),
}

/// A source, with the bytes in front that were read to tell its format.
pub(crate) type Whole<R> = Chain<Cursor<Vec<u8>>, R>;

impl<R: BufRead> Decoder<R> {
    pub(crate) fn new(mut source: R) -> io::Result<Decoder<R>> {
        let mut head = Vec::new();
        // All six: a pipe may give one byte at a time.
        source.by_ref().take(6).read_to_end(&mut head)?;
        let compression = parse_magic(&head).map_err(io::Error::other)?;
        let source = Cursor::new(head).chain(source);
        Ok(match compression {
            Compression::Plain => Decoder::Plain(source),
            Compression::Gzip => Decoder::Gzip(Box::new(MultiGzDecoder::new(source))),
            Compression::Zstd => Decoder::Zstd(Box::new(Frames { source, decoder: FrameDecoder::new(), open: false })),
        })
    }
}

impl<R: BufRead> Read for Decoder<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Decoder::Plain(source) => source.read(buffer),
            Decoder::Gzip(source) => source.read(buffer),
            Decoder::Zstd(source) => source.read(buffer),
        }
    }
}

/// Frames of zstd, one after the other, with those passed over that are for other programs.
///
/// RFC 8878, section 3.1.
pub(crate) struct Frames<R> {
    source: R,
    decoder: FrameDecoder,
    /// A frame has begun and is not all read.
    open: bool,
}

impl<R: BufRead> Frames<R> {
    /// Begins the next frame. False at the end of the source.
    fn begin(&mut self) -> io::Result<bool> {
        loop {
            if self.source.fill_buf()?.is_empty() {
                return Ok(false);
            }
            match self.decoder.reset(&mut self.source) {
                Ok(()) => return Ok(true),
                Err(FrameDecoderError::ReadFrameHeaderError(ReadFrameHeaderError::SkipFrame { length, .. })) => {
                    let length = u64::from(length);
                    if io::copy(&mut self.source.by_ref().take(length), &mut io::sink())? < length {
                        return Err(io::ErrorKind::UnexpectedEof.into());
                    }
                }
                Err(error) => return Err(io::Error::new(io::ErrorKind::InvalidData, error)),
            }
        }
    }

    fn end(&mut self) -> io::Result<()> {
        self.open = false;
        match (self.decoder.get_checksum_from_data(), self.decoder.get_calculated_checksum()) {
            (Some(stored), Some(found)) if stored != found => {
                Err(io::Error::new(io::ErrorKind::InvalidData, "the check sum of a zstd frame is wrong"))
            }
            _ => Ok(()),
        }
    }
}

impl<R: BufRead> Read for Frames<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if buffer.is_empty() {
            return Ok(0);
        }
        loop {
            if !self.open {
                self.open = self.begin()?;
                if !self.open {
                    return Ok(0);
                }
            }
            while self.decoder.can_collect() == 0 && !self.decoder.is_finished() {
                let decoded = self.decoder.decode_blocks(&mut self.source, BlockDecodingStrategy::UptoBlocks(1));
                decoded.map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
            }
            match self.decoder.read(buffer)? {
                0 => self.end()?,
                count => return Ok(count),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use ruzstd::encoding::{CompressionLevel, compress_to_vec};

    use super::*;

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    fn zstd(bytes: &[u8]) -> Vec<u8> {
        compress_to_vec(bytes, CompressionLevel::Fastest)
    }

    fn decoded(bytes: &[u8]) -> io::Result<Vec<u8>> {
        let mut found = Vec::new();
        Decoder::new(bytes)?.read_to_end(&mut found)?;
        Ok(found)
    }

    #[test]
    fn each_format_is_told_and_read() {
        let text: Vec<u8> = (0..300_000_u32).flat_map(u32::to_le_bytes).collect();
        assert_eq!(decoded(&text).unwrap(), text);
        assert_eq!(decoded(&gzip(&text)).unwrap(), text);
        assert_eq!(decoded(&zstd(&text)).unwrap(), text);
        assert_eq!(decoded(b"").unwrap(), b"");
        assert_eq!(decoded(&gzip(b"")).unwrap(), b"");
        assert_eq!(decoded(&zstd(b"")).unwrap(), b"");
    }

    #[test]
    fn members_and_frames_follow_each_other() {
        assert_eq!(decoded(&[gzip(b"one "), gzip(b"two")].concat()).unwrap(), b"one two");
        let skipped = [&[0x50, 0x2a, 0x4d, 0x18, 3, 0, 0, 0][..], b"xyz"].concat();
        assert_eq!(
            decoded(&[skipped.clone(), zstd(b"one "), skipped.clone(), zstd(b"two"), skipped].concat()).unwrap(),
            b"one two"
        );
    }

    #[test]
    fn what_ends_early_or_is_damaged_is_an_error() {
        let text = vec![b'x'; 100_000];
        for mut bytes in [gzip(&text), zstd(&text)] {
            assert!(decoded(&bytes[..bytes.len() - 1]).is_err());
            assert!(decoded(&bytes[..7]).is_err());
            let middle = bytes.len() - 5;
            bytes[middle] ^= 1;
            assert!(decoded(&bytes).is_err());
        }
        assert!(decoded(&[0x50, 0x2a, 0x4d, 0x18, 9, 0, 0, 0, 1]).is_err());
    }

    #[test]
    fn other_formats_are_named() {
        assert!(decoded(b"\xfd7zXZ\0xx").unwrap_err().to_string().contains("compressed with xz"));
        assert!(decoded(b"BZh91AY").unwrap_err().to_string().contains("bzip2"));
    }
}

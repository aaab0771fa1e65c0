//! What the writer wrote, what GNU tar wrote, and what nobody should write.

use std::process::{Command, Stdio};

use proptest::prelude::*;

use super::super::Writer;
use super::*;

fn file(path: &str, content: &[u8]) -> (Entry, Vec<u8>) {
    let entry = Entry { path: path.into(), mode: 0o644, size: content.len() as u64, ..Entry::default() };
    (entry, content.to_vec())
}

fn written(entries: &[(Entry, Vec<u8>)]) -> Vec<u8> {
    let mut writer = Writer::new(Vec::new());
    for (entry, content) in entries {
        writer.append(entry, &mut content.as_slice()).unwrap();
    }
    writer.finish().unwrap()
}

/// All entries and their content.
fn read_all(bytes: &[u8]) -> Result<Vec<(Entry, Vec<u8>)>, TarError> {
    let mut reader = Reader::new(bytes);
    let mut found = Vec::new();
    while let Some(entry) = reader.next()? {
        let mut content = Vec::new();
        let at = reader.content_at();
        reader.read_to_end(&mut content).map_err(|source| TarError::Read { at, source })?;
        found.push((entry, content));
    }
    Ok(found)
}

/// Entries with everything in them that a header cannot say.
fn nasty() -> Vec<(Entry, Vec<u8>)> {
    let long = "d/".repeat(120);
    let mut everything = file(&format!("{long}file"), b"some content");
    everything.0.uid = 4_000_000_000;
    everything.0.gid = 3_000_000;
    everything.0.mode = 0o6755;
    everything.0.mtime = Time { seconds: -2, nanos: 250_000_000 };
    everything.0.xattrs =
        vec![(b"security.capability".to_vec(), b"\x01\0\0\x02=\n".to_vec()), (b"user.e".to_vec(), vec![])];
    let bare = |path: &str, kind| Entry { path: path.into(), kind, mode: 0o600, ..Entry::default() };
    let mut sparse = (bare("holes", Kind::File { map: Some(vec![(4096, 3), (1 << 33, 2)]) }), b"abcde".to_vec());
    sparse.0.size = (1 << 33) + 4096;
    let link = |path: &str, kind, target: &str| (Entry { link: target.into(), ..bare(path, kind) }, Vec::new());
    vec![
        (bare("folder/", Kind::Folder), Vec::new()),
        everything,
        sparse,
        link("symbolic", Kind::Symlink, &"x".repeat(300)),
        link("hard", Kind::HardLink, "holes"),
        (bare("fifo", Kind::Fifo), Vec::new()),
        (Entry { device: (8, 1), ..bare("disk", Kind::Block) }, Vec::new()),
        (Entry { device: (1, 3), ..bare("null", Kind::Character) }, Vec::new()),
        (Entry { path: b"no \xff text".to_vec(), ..file("", b"").0 }, Vec::new()),
    ]
}

#[test]
fn what_is_written_is_read() {
    assert_eq!(read_all(&written(&nasty())).unwrap(), nasty());
}

#[test]
fn contents_that_nobody_reads_are_passed_over() {
    let bytes = written(&[file("a", &[1; 1000]), file("b", &[2; 512]), file("c", b"")]);
    let mut reader = Reader::new(bytes.as_slice());
    let mut names = Vec::new();
    while let Some(entry) = reader.next().unwrap() {
        names.push(String::from_utf8(entry.path).unwrap());
    }
    assert_eq!(names, ["a", "b", "c"]);
}

#[test]
fn an_archive_that_ends_early_is_refused() {
    let bytes = written(&[file("a", &[1; 1000])]);
    for length in [100, 512, 600, 1500] {
        let error = read_all(&bytes[..length]).unwrap_err();
        assert!(matches!(error, TarError::Read { .. }), "{length}: {error:?}");
    }
    // The zeros at the end may be missing, in part or as a whole.
    assert_eq!(read_all(&bytes[..1536]).unwrap().len(), 1);
    assert_eq!(read_all(&bytes[..2048]).unwrap().len(), 1);
}

#[test]
fn an_end_that_is_missing_is_told() {
    let bytes = written(&[file("a", &[1; 1000])]);
    let end = |bytes: &[u8]| {
        let mut reader = Reader::new(bytes);
        while reader.next().unwrap().is_some() {}
        reader.require_end()
    };
    assert!(end(&bytes).is_ok() && end(&bytes[..2048]).is_ok());
    assert!(matches!(end(&bytes[..1536]), Err(TarError::NoEnd { at: 1536 })));
    assert!(end(b"").is_err());
}

#[test]
fn an_archive_that_goes_on_after_zeros_is_refused() {
    let mut bytes = vec![0; 512];
    bytes.extend(written(&[file("hidden", b"")]));
    assert!(matches!(read_all(&bytes), Err(TarError::AfterEnd { at: 1024 })));
}

#[test]
fn an_extension_without_end_is_refused() {
    let mut entry = file("a", b"");
    entry.0.xattrs = vec![(b"user.big".to_vec(), vec![b'x'; 2 << 20])];
    assert!(matches!(read_all(&written(&[entry])), Err(TarError::Extension { limit: EXTENSION_MAX, .. })));
}

#[test]
fn extensions_of_one_entry_are_bounded_together() {
    let record = |value: usize| {
        let text = format!(" comment={}\n", "x".repeat(value));
        let digits = (1..9).find(|digits| (text.len() + digits).to_string().len() == *digits).unwrap();
        format!("{}{text}", text.len() + digits).into_bytes()
    };
    let bytes = [0; 3].map(|_| record(400 << 10));
    let header = |size: usize| {
        let mut block = written(&[file("x", b"")])[..BLOCK].to_vec();
        block[124..136].copy_from_slice(format!("{size:011o}\0").as_bytes());
        block[156] = b'x';
        block[148..156].fill(b' ');
        let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
        block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        block
    };
    let archive = |count: usize| {
        let mut archive = Vec::new();
        for extension in &bytes[..count] {
            archive.extend(header(extension.len()));
            archive.extend(extension);
            archive.resize(archive.len().next_multiple_of(BLOCK), 0);
        }
        archive.extend(written(&[file("a", b"content")]));
        archive
    };
    assert_eq!(read_all(&archive(2)).unwrap(), [file("a", b"content")]);
    assert!(matches!(read_all(&archive(3)), Err(TarError::Extension { limit: EXTENSION_MAX, .. })));
}

#[test]
fn a_size_that_no_file_has_is_refused() {
    let check = |size: u64| {
        let mut entry = Entry::default();
        let records = [(b"size".to_vec(), size.to_string().into_bytes())];
        apply_records(&mut entry, &records, 0).unwrap();
        check_size(entry.size, 0).is_ok()
    };
    assert!(check(i64::MAX as u64));
    assert!(!check(i64::MAX as u64 + 1) && !check(u64::MAX));
}

#[test]
fn a_type_that_no_root_file_system_has_is_refused() {
    let mut bytes = written(&[file("a", b"")]);
    bytes[156] = b'M';
    let sum: u64 =
        bytes[..512].iter().enumerate().map(|(i, b)| if (148..156).contains(&i) { 32 } else { u64::from(*b) }).sum();
    bytes[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    assert!(matches!(read_all(&bytes), Err(TarError::Type { flag: 'M', at: 0 })));
}

/// GNU tar is the other writer that everybody has: each of its formats, with a long name and a hole.
#[test]
fn gnu_tar_writes_what_is_read() {
    let folder = tempfile::tempdir().unwrap();
    let long = format!("{}/{}", "long".repeat(30), "name".repeat(30));
    std::fs::create_dir_all(folder.path().join("long".repeat(30))).unwrap();
    std::fs::write(folder.path().join(&long), "content").unwrap();
    let holes = std::fs::File::create(folder.path().join("holes")).unwrap();
    std::os::unix::fs::FileExt::write_all_at(&holes, b"data", 1 << 20).unwrap();
    holes.set_len(3 << 20).unwrap();
    for format in [&["gnu"][..], &["posix"], &["posix", "--sparse-version=0.0"], &["posix", "--sparse-version=0.1"]] {
        let mut tar = Command::new("tar");
        tar.arg("-C").arg(folder.path()).arg(format!("--format={}", format[0])).args(&format[1..]);
        let output = tar_output(tar.args(["--sparse", "-c", "holes", &long]));
        let found = read_all(&output).unwrap();
        let (sparse, content) = &found[0];
        assert_eq!((sparse.path.as_slice(), sparse.size), (&b"holes"[..], 3 << 20), "{format:?}");
        let Kind::File { map: Some(map) } = &sparse.kind else { panic!("{format:?}: no map") };
        assert!(map.len() == 1 && map[0].0 <= 1 << 20 && map[0].1 < 1 << 16, "{format:?}: {map:?}");
        assert_eq!(&content[((1 << 20) - map[0].0) as usize..][..4], b"data", "{format:?}");
        assert_eq!(found[1].0.path, long.as_bytes(), "{format:?}");
        assert_eq!(found[1].1, b"content", "{format:?}");
    }
}

fn tar_output(command: &mut Command) -> Vec<u8> {
    let output = command.stdin(Stdio::null()).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    output.stdout
}

#[test]
fn gnu_tar_reads_what_is_written() {
    let folder = tempfile::tempdir().unwrap();
    let archive = folder.path().join("a.tar");
    let mut entry = file("plain", b"text");
    entry.0.mtime = Time { seconds: 1_700_000_000, nanos: 5 };
    let mut sparse = file(&format!("{}sparse", "d/".repeat(80)), b"abc");
    sparse.0.kind = Kind::File { map: Some(vec![(5000, 3)]) };
    sparse.0.size = 10_000;
    std::fs::write(&archive, written(&[entry, sparse])).unwrap();
    let tar = |arguments: &[&str]| tar_output(Command::new("tar").args(arguments).arg("-f").arg(&archive));
    let listed = String::from_utf8(tar(&["-t", "-v", "--full-time", "--utc"])).unwrap();
    assert!(listed.contains("2023-11-14 22:13:20.000000005 plain"), "{listed}");
    assert!(listed.contains(" 10000 "), "{listed}");
    tar(&["-C", folder.path().to_str().unwrap(), "-x"]);
    let content = std::fs::read(folder.path().join("d/".repeat(80)).join("sparse")).unwrap();
    assert_eq!((content.len(), &content[5000..5003]), (10_000, &b"abc"[..]));
}

fn any_entry() -> impl Strategy<Value = (Entry, Vec<u8>)> {
    let bytes = |length| prop::collection::vec(1_u8..=255, length);
    let kind =
        prop::sample::select(vec![Kind::File { map: None }, Kind::HardLink, Kind::Symlink, Kind::Fifo, Kind::Folder]);
    let time = (-10_000_000_000_i64..100_000_000_000, 0_u32..1_000_000_000);
    let xattrs = prop::collection::btree_map(
        bytes(1..20).prop_map(|b| b.into_iter().filter(|b| *b != b'=').collect::<Vec<u8>>()),
        prop::collection::vec(any::<u8>(), 0..40),
        0..3,
    );
    (
        bytes(1..300),
        bytes(0..300),
        kind,
        0_u32..0o10000,
        any::<u32>(),
        time,
        xattrs,
        prop::collection::vec(any::<u8>(), 0..2000),
    )
        .prop_map(|(path, link, kind, mode, id, (seconds, nanos), xattrs, content)| {
            let is_file = matches!(kind, Kind::File { .. });
            // A name that ends in a slash is a folder's.
            let path = if is_file { path.into_iter().chain([b'x']).collect() } else { path };
            let content = if is_file { content } else { Vec::new() };
            let entry = Entry {
                path,
                link,
                kind,
                mode,
                uid: id.into(),
                gid: (id / 3).into(),
                size: content.len() as u64,
                mtime: Time { seconds, nanos },
                xattrs: xattrs.into_iter().collect(),
                ..Entry::default()
            };
            (entry, content)
        })
}

proptest! {
    #[test]
    fn any_entries_are_read_as_they_were_written(entries in prop::collection::vec(any_entry(), 0..5)) {
        prop_assert_eq!(read_all(&written(&entries)).unwrap(), entries);
    }

    /// No bytes make the reader panic, loop, or take memory that the bytes do not pay for.
    #[test]
    fn damaged_archives_end(at in 0_usize..20_000, with in prop::collection::vec(any::<u8>(), 1..64)) {
        let mut bytes = written(&nasty());
        let at = at % bytes.len();
        for (byte, new) in bytes[at..].iter_mut().zip(with) {
            *byte = new;
        }
        // With right sums, so that the change is not refused for its sum alone.
        for block in bytes.chunks_exact_mut(512) {
            if &block[257..262] == b"ustar" {
                let sum: u64 = block.iter().enumerate().map(|(i, b)| if (148..156).contains(&i) { 32 } else { u64::from(*b) }).sum();
                block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
            }
        }
        let mut reader = Reader::new(bytes.as_slice());
        while let Ok(Some(_)) = reader.next() {}
    }

    #[test]
    fn any_bytes_end(bytes in prop::collection::vec(any::<u8>(), 0..2000)) {
        let _entries = read_all(&bytes);
    }
}

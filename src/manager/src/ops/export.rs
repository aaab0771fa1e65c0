//! `export NAME FILE`: the files that a container sees, as a tar archive.

use std::fs::{self, File, OpenOptions};
use std::io::{BufWriter, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use anyhow::{Context, Result, bail};
use rootfs_tools::Stack;

use crate::args_kept::ExportArgs;
use crate::changes;
use crate::copied;
use crate::definition::{Definition, From};
use crate::ops::diff::need_on_disk;
use crate::output::tell;
use crate::pending;
use crate::run::Manager;

/// Bytes that are written at once.
const CHUNK: usize = 256 * 1024;

/// Writes the archive. Of a running container it has what the files are at the moment each is read.
///
/// # Errors
/// The container has the host's files; what the kernel says. Then there is no new file.
pub fn export(manager: &Manager, args: &ExportArgs) -> Result<()> {
    let places = &manager.places;
    let _lock = pending::lock(manager, &args.name)?;
    let definition = Definition::need(places, &args.name)?;
    if matches!(definition.from, From::Host { .. }) {
        bail!("container {:?} has the files of this machine: skep diff {0} lists its own", args.name);
    }
    need_on_disk(manager, &definition)?;
    let stack = Stack::open(&copied::shown(places, &definition)?)?;
    let notes = if args.file == Path::new("-") {
        write(&stack, std::io::stdout().lock())?
    } else {
        write_file(&stack, &args.file)?
    };
    notes.iter().for_each(|note| tell(note));
    Ok(())
}

fn write(stack: &Stack, sink: impl Write) -> Result<Vec<String>> {
    let (sink, notes) = rootfs_tools::write_stack(stack, BufWriter::with_capacity(CHUNK, sink))?;
    sink.into_inner().map_err(std::io::IntoInnerError::into_error).context("cannot write the archive")?.flush()?;
    Ok(notes)
}

/// The file appears by a rename when all of it is on disk.
fn write_file(stack: &Stack, path: &Path) -> Result<Vec<String>> {
    let mut name = path.as_os_str().to_owned();
    // Nobody can have put something there: the folder may be one that everybody writes to. Root alone may read it, as the
    // files of a container may be its secrets.
    name.push(format!(".{}.partial", changes::random_id()?));
    let partial = Path::new(&name);
    let open = OpenOptions::new().create_new(true).write(true).mode(0o600).open(partial);
    let file = open.with_context(|| format!("cannot open {}", partial.display()))?;
    let finish = |file: File| -> Result<Vec<String>> {
        let notes = write(stack, &file)?;
        file.sync_all().and_then(|()| fs::rename(partial, path))?;
        Ok(notes)
    };
    finish(file).with_context(|| format!("cannot write {}", path.display())).or_else(|error| {
        fs::remove_file(partial).with_context(|| format!("cannot remove {}", partial.display()))?;
        Err(error)
    })
}

//! Brings images into the store.
//!
//! ```text
//! source ─► documents: which layers, what to run ─► layers, two to four at a time ─► image
//!           a plain archive, a folder: one layer, known when it is read ──────────┘
//! ```
//!
//! A layer that the store has is not read again. What was imported before an error stays until garbage is collected, so
//! that the next try goes on from there.

mod bootstrap;
mod layer;

use std::fs::File;
use std::io::{self, BufReader, Cursor, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use crate::compress::Decoder;
use crate::digest::Digest;
use crate::extract::ExtractError;
use crate::limits::{Budget, LimitError, Limits};
use crate::progress::Progress;
use crate::source::files::{Archive, Folder};
use crate::source::folder::{Marks, TreeError, write_tree};
use crate::source::probe::{Content, probe};
use crate::source::{Files, Plan, PlannedLayer, Select, SourceError, docker, oci};
use crate::store::{Image, ImageConfig, NameError, SCHEMA, Store, StoreError, Work, now, validate_name};
use crate::tar::TarError;

pub use bootstrap::{Bootstrap, Installer};
use layer::{Expected, Shared, import_layer};

/// Layers that are unpacked at once, where there are processors for it.
const THREADS_MAX: usize = 4;

/// Where an image comes from.
pub enum Source {
    /// A folder with an OCI image layout.
    Layout(PathBuf, Select),
    /// An archive of any kind, compressed or not: an OCI image layout, what `docker save` wrote, or a root file system.
    Archive(PathBuf, Select),
    /// A folder that is a root file system.
    Folder(PathBuf),
    /// What a program builds that installs a distribution.
    Bootstrap(Bootstrap),
    /// An image of a registry.
    #[cfg(feature = "registry")]
    Registry(crate::registry::Registry),
    /// An archive of any kind that comes as a stream.
    Stream {
        /// The bytes.
        reader: Box<dyn Read + Send>,
        /// Which image.
        select: Select,
        /// What to call it in errors and in [`Image::source`].
        label: String,
    },
}

impl std::fmt::Debug for Source {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.label())
    }
}

impl Source {
    /// What a path of the host is: a layout where it has `oci-layout`, else a folder, else an archive.
    ///
    /// # Errors
    /// What the file system says of the path.
    pub fn at(path: &Path, select: Select) -> io::Result<Source> {
        if !path.metadata()?.is_dir() {
            return Ok(Source::Archive(path.to_owned(), select));
        }
        let is_layout = path.join("oci-layout").is_file();
        Ok(if is_layout { Source::Layout(path.to_owned(), select) } else { Source::Folder(path.to_owned()) })
    }

    fn label(&self) -> String {
        match self {
            Source::Layout(path, _) | Source::Archive(path, _) | Source::Folder(path) => path.display().to_string(),
            Source::Bootstrap(bootstrap) => bootstrap.to_string(),
            #[cfg(feature = "registry")]
            Source::Registry(registry) => registry.reference.to_string(),
            Source::Stream { label, .. } => label.clone(),
        }
    }
}

/// Why an import failed.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    /// The name is none that an image may have.
    #[error(transparent)]
    Name(#[from] NameError),
    /// The store failed.
    #[error(transparent)]
    Store(StoreError),
    /// The source has no image that can be read.
    #[error("cannot read an image from {label}")]
    Source {
        /// What was read.
        label: String,
        /// Why.
        source: SourceError,
    },
    /// The registry did not give the image.
    #[cfg(feature = "registry")]
    #[error("cannot pull {label}")]
    Pull {
        /// The image.
        label: String,
        /// Why.
        source: crate::registry::PullError,
    },
    /// A layer failed.
    #[error("cannot import layer {number} of {count}")]
    Layer {
        /// From the lowest, counted from 1.
        number: usize,
        /// Of how many.
        count: usize,
        /// Why.
        source: Box<ImportError>,
    },
    /// Unpacking failed.
    #[error(transparent)]
    Extract(#[from] ExtractError),
    /// The bytes of a layer cannot be read.
    #[error("cannot read it")]
    Read(#[source] io::Error),
    /// The source cannot be opened or kept.
    #[error("cannot {action} {}", path.display())]
    File {
        /// What was tried.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A hash is wrong: the content was damaged or exchanged.
    #[error("the {what} has the digest {found} instead of {expected}")]
    Digest {
        /// What was hashed.
        what: &'static str,
        /// As the documents say.
        expected: Digest,
        /// As it is.
        found: Digest,
    },
    /// A layer ends too early.
    #[error("it has {found} bytes instead of {expected}")]
    Size {
        /// As the documents say.
        expected: u64,
        /// As it is.
        found: u64,
    },
    /// A program that builds a root file system failed.
    #[error("{program} ended with {status}: {said}")]
    Program {
        /// Which.
        program: String,
        /// How it ended.
        status: std::process::ExitStatus,
        /// The end of what it said, in one line.
        said: String,
    },
    /// A folder cannot be read.
    #[error("cannot read the folder")]
    Tree(#[from] TreeError),
    /// Ended early because another layer failed.
    #[error("another layer failed")]
    Stopped,
    /// A bound was passed.
    #[error(transparent)]
    Limit(#[from] LimitError),
}

/// Tells the caller what happens, one call at a time.
struct Teller<'a>(Mutex<&'a mut dyn Progress>);

impl Teller<'_> {
    fn tell(&self, what: impl FnOnce(&mut dyn Progress)) {
        // A caller that panicked once is no reason to be silent.
        what(&mut **self.0.lock().unwrap_or_else(PoisonError::into_inner));
    }

    fn advanced(&self, bytes: u64) {
        self.tell(|progress| progress.advanced(bytes));
    }

    fn note(&self, text: &str) {
        self.tell(|progress| progress.note(text));
    }
}

/// One import: what all its steps need.
struct Import<'a> {
    store: &'a Store,
    work: Work,
    budget: Budget,
    teller: Teller<'a>,
    label: String,
    stop: AtomicBool,
}

/// Imports an image under a name. An image that had the name before has it no more.
///
/// # Errors
/// [`ImportError`]; the name is then as it was.
pub fn import(
    store: &Store,
    source: Source,
    name: &str,
    limits: &Limits,
    progress: &mut dyn Progress,
) -> Result<Image, ImportError> {
    validate_name(name)?;
    if !sys::entry::is_root() {
        return Err(ExtractError::NotRoot.into());
    }
    let import = Import {
        store,
        work: Work::begin(store)?,
        budget: Budget::new(*limits),
        teller: Teller(Mutex::new(progress)),
        label: source.label(),
        stop: AtomicBool::new(false),
    };
    let image = match source {
        Source::Layout(path, select) => {
            let files = Folder::open(&path).map_err(|source| import.failed(source))?;
            import.layout(&files, &select)?
        }
        Source::Archive(path, select) => import.archive(&path, &select)?,
        Source::Folder(path) => import.folder(&path)?,
        Source::Bootstrap(bootstrap) => bootstrap::build(&import, &bootstrap)?,
        #[cfg(feature = "registry")]
        Source::Registry(registry) => {
            let (remote, plan) =
                crate::registry::resolve(&registry, limits).map_err(|source| import.unpulled(source))?;
            import.planned(&plan, &remote)?
        }
        Source::Stream { reader, select, .. } => {
            import.started(None);
            import.stream(reader, &select)?
        }
    };
    let image = Image { name: name.to_owned(), ..image };
    import.work.commit_image(store, &image)?;
    import.teller.tell(|progress| progress.finished());
    Ok(image)
}

impl<'p> Import<'p> {
    fn failed(&self, source: SourceError) -> ImportError {
        ImportError::Source { label: self.label.clone(), source }
    }

    #[cfg(feature = "registry")]
    fn unpulled(&self, source: crate::registry::PullError) -> ImportError {
        ImportError::Pull { label: self.label.clone(), source }
    }

    fn started(&self, total: Option<u64>) {
        self.teller.tell(|progress| progress.started(total));
    }

    fn shared(&self) -> Shared<'_, 'p> {
        Shared { store: self.store, work: &self.work, budget: &self.budget, teller: &self.teller, stop: &self.stop }
    }

    /// A layout in a folder or an archive: by the documents of OCI where they are there, else by docker's.
    fn layout(&self, files: &dyn Files, select: &Select) -> Result<Image, ImportError> {
        let limits = &self.budget.limits;
        let is_oci = files.open("index.json").map_err(|source| self.failed(source))?.is_some();
        let plan =
            if is_oci { oci::read_plan(files, select, limits) } else { docker::read_plan(files, select, limits) };
        let plan = plan.map_err(|source| self.failed(source))?;
        self.planned(&plan, files)
    }

    /// A file: read in place where it can be, else as a stream.
    fn archive(&self, path: &Path, select: &Select) -> Result<Image, ImportError> {
        let failed = |action| move |source| ImportError::File { action, path: path.to_owned(), source };
        let mut file = File::open(path).map_err(failed("open"))?;
        let metadata = file.metadata().map_err(failed("look at"))?;
        // A FIFO, as a shell's `<(…)` is one: it can be read once.
        if !metadata.is_file() {
            self.started(None);
            return self.stream(Box::new(file), select);
        }
        let length = metadata.len();
        let (content, _) = probe(&mut file).map_err(failed("read"))?;
        file.seek(SeekFrom::Start(0)).map_err(failed("read"))?;
        if content == Content::Layout
            && let Some(image) = self.archived_layout(file.try_clone().map_err(failed("read"))?, select)?
        {
            return Ok(image);
        }
        self.started(Some(length));
        self.stream(Box::new(file), select)
    }

    /// The layout in an archive; none where it has no layout's documents.
    fn archived_layout(&self, file: File, select: &Select) -> Result<Option<Image>, ImportError> {
        let files = Archive::index(file, self.budget.limits.entries).map_err(|source| self.failed(source))?;
        if !files.has("index.json") && !files.has("manifest.json") {
            return Ok(None);
        }
        self.layout(&files, select).map(Some)
    }

    /// A stream of any kind. A layout has its documents anywhere, so it is written down first.
    fn stream(&self, source: Box<dyn Read + Send>, select: &Select) -> Result<Image, ImportError> {
        let mut head = Vec::new();
        let mut source = BufReader::with_capacity(1 << 16, source);
        // Compressed or not, the first entry decides; what was read for it is read again.
        let content = {
            let mut recorded = Recorded { source: &mut source, bytes: &mut head };
            let mut decoder =
                Decoder::new(BufReader::with_capacity(1 << 12, &mut recorded)).map_err(ImportError::Read)?;
            probe(&mut decoder).map_err(ImportError::Read)?.0
        };
        let whole = Cursor::new(head).chain(source);
        match content {
            Content::Tree => self.single(Box::new(whole)),
            Content::Layout => {
                let file = self.spool(whole)?;
                match self.archived_layout(file.try_clone().map_err(ImportError::Read)?, select)? {
                    Some(image) => Ok(image),
                    None => {
                        let mut file = file;
                        file.seek(SeekFrom::Start(0)).map_err(ImportError::Read)?;
                        self.single(Box::new(file))
                    }
                }
            }
        }
    }

    /// Writes a stream down, decompressed, where it can be read from any place.
    fn spool(&self, source: impl Read + Send) -> Result<File, ImportError> {
        let path = self.work.path.join("archive");
        let failed = |source| ImportError::File { action: "keep the archive in", path: path.clone(), source };
        let mut file = File::options().read(true).write(true).create_new(true).open(&path).map_err(failed)?;
        let limit = self.budget.limits.bytes;
        let mut decoder =
            Decoder::new(BufReader::with_capacity(1 << 18, source)).map_err(ImportError::Read)?.take(limit + 1);
        let mut buffer = vec![0; 1 << 18];
        let mut total = 0;
        loop {
            let count = decoder.read(&mut buffer).map_err(ImportError::Read)?;
            if count == 0 {
                break;
            }
            total += count as u64;
            if total > limit {
                return Err(LimitError::Bytes(limit).into());
            }
            io::Write::write_all(&mut file, &buffer[..count]).map_err(failed)?;
        }
        file.seek(SeekFrom::Start(0)).map_err(failed)?;
        Ok(file)
    }

    /// A folder: archived and unpacked at once, so that it is a layer like any other.
    fn folder(&self, path: &Path) -> Result<Image, ImportError> {
        let failed = |source| ImportError::File { action: "open", path: path.to_owned(), source };
        let root = std::os::fd::OwnedFd::from(File::open(path).map_err(failed)?);
        self.started(None);
        let (reader, writer) = io::pipe().map_err(failed)?;
        std::thread::scope(|scope| {
            let sink = io::BufWriter::with_capacity(1 << 16, writer);
            // The pipe's end is closed in the thread: a result that kept it would keep the reader waiting.
            let walk = scope.spawn(move || write_tree(root, Marks::None, sink).map(|(_, notes)| notes));
            // The reader is dropped with this call: a walk that is still at it then ends by EPIPE.
            let image = self.single(Box::new(reader));
            match walk.join() {
                Ok(Ok(notes)) => {
                    notes.iter().for_each(|note| self.teller.note(note));
                    image
                }
                // When both failed, the walk failed because nobody read on, or the other way round.
                Ok(Err(error)) => match image {
                    Err(reason) if !is_early_end(&reason) => Err(reason),
                    _ => Err(error.into()),
                },
                Err(panic) => std::panic::resume_unwind(panic),
            }
        })
    }

    /// An archive that is a root file system: an image of one layer.
    fn single(&self, mut source: Box<dyn Read + Send + '_>) -> Result<Image, ImportError> {
        let (layer, compressed_bytes) = import_layer(&self.shared(), "layer", &mut *source, Expected::default())?;
        Ok(Image {
            schema: SCHEMA,
            name: String::new(),
            layers: vec![layer.diff_id],
            config: ImageConfig::default(),
            architecture: None,
            created: None,
            imported: now(),
            source: self.label.clone(),
            id: None,
            compressed_bytes,
            bytes: layer.bytes,
        })
    }

    /// An image whose layers are known.
    fn planned(&self, plan: &Plan, files: &dyn Files) -> Result<Image, ImportError> {
        let limit = self.budget.limits.layers;
        if plan.layers.len() > limit {
            return Err(LimitError::Layers(limit).into());
        }
        // A layer that stands in the image twice is read once.
        let mut once: Vec<(usize, &PlannedLayer)> = Vec::new();
        for (index, layer) in plan.layers.iter().enumerate() {
            if !once.iter().any(|(_, other)| other.diff_id == layer.diff_id) {
                once.push((index, layer));
            }
        }
        let sizes: Option<u64> = once.iter().map(|(_, layer)| layer.size).sum();
        self.started(sizes);
        let count = plan.layers.len();
        let results = self.parallel(&once, |name, layer| self.planned_layer(name, layer, files));
        let mut sums = (0, 0);
        let mut stopped = None;
        for ((index, _), result) in once.iter().zip(results) {
            let failed = |source| ImportError::Layer { number: index + 1, count, source: Box::new(source) };
            match result {
                Ok((bytes, compressed)) => sums = (sums.0 + bytes, sums.1 + compressed),
                // The one that made it stop says more.
                Err(ImportError::Stopped) => stopped = Some(failed(ImportError::Stopped)),
                Err(error) => return Err(failed(error)),
            }
        }
        if let Some(stopped) = stopped {
            return Err(stopped);
        }
        let (bytes, compressed_bytes) = sums;
        Ok(Image {
            schema: SCHEMA,
            name: String::new(),
            layers: plan.layers.iter().map(|layer| layer.diff_id).collect(),
            config: plan.config.clone(),
            architecture: plan.architecture.clone(),
            created: plan.created.clone(),
            imported: now(),
            source: self.label.clone(),
            id: Some(plan.id),
            compressed_bytes,
            bytes,
        })
    }

    /// Does the same for all layers, several at a time, and returns the results in their order. After the first error the
    /// others end as [`ImportError::Stopped`].
    fn parallel<T: Send>(
        &self,
        layers: &[(usize, &PlannedLayer)],
        work: impl Fn(&str, &PlannedLayer) -> Result<T, ImportError> + Sync,
    ) -> Vec<Result<T, ImportError>> {
        let threads = std::thread::available_parallelism().map_or(2, usize::from).clamp(2, THREADS_MAX);
        let next = AtomicUsize::new(0);
        let results: Vec<Mutex<Option<Result<T, ImportError>>>> = layers.iter().map(|_| Mutex::new(None)).collect();
        std::thread::scope(|scope| {
            for _ in 0..threads.min(layers.len()) {
                scope.spawn(|| {
                    while let index = next.fetch_add(1, Ordering::Relaxed)
                        && let Some((number, layer)) = layers.get(index)
                    {
                        if self.stop.load(Ordering::Relaxed) {
                            return;
                        }
                        let result = work(&format!("layer-{number}"), layer);
                        if result.is_err() {
                            self.stop.store(true, Ordering::Relaxed);
                        }
                        *results[index].lock().unwrap_or_else(PoisonError::into_inner) = Some(result);
                    }
                });
            }
        });
        let results = results.into_iter().map(|slot| slot.into_inner().unwrap_or_else(PoisonError::into_inner));
        results.map(|result| result.unwrap_or(Err(ImportError::Stopped))).collect()
    }

    /// One layer of an image: bytes of content, and bytes that were read.
    fn planned_layer(&self, name: &str, layer: &PlannedLayer, files: &dyn Files) -> Result<(u64, u64), ImportError> {
        if self.work.pin(self.store, layer.diff_id)? {
            self.teller.advanced(layer.size.unwrap_or(0));
            return Ok((self.store.layer(layer.diff_id)?.bytes, layer.size.unwrap_or(0)));
        }
        let opened = match layer.size {
            Some(size) => files.open_sized(&layer.file, size),
            None => files.open(&layer.file),
        };
        let opened = opened.map_err(|source| self.failed(source))?;
        let (mut source, size) = opened.ok_or_else(|| self.failed(SourceError::Missing(layer.file.clone())))?;
        let expected = Expected { digest: layer.digest, size: layer.size.or(Some(size)), diff_id: Some(layer.diff_id) };
        let (record, read) = import_layer(&self.shared(), name, &mut *source, expected)?;
        Ok((record.bytes, read))
    }
}

/// Whether a failure only says that the stream broke off.
fn is_early_end(error: &ImportError) -> bool {
    fn is_early(error: &ExtractError) -> bool {
        match error {
            ExtractError::Tar(TarError::NoEnd { .. }) => true,
            ExtractError::Tar(TarError::Read { source, .. }) | ExtractError::Content(source) => {
                source.kind() == io::ErrorKind::UnexpectedEof
            }
            ExtractError::Entry { source, .. } => is_early(source),
            _ => false,
        }
    }
    match error {
        ImportError::Extract(error) => is_early(error),
        ImportError::Read(error) => error.kind() == io::ErrorKind::UnexpectedEof,
        _ => false,
    }
}

/// Keeps what is read, to be read again.
struct Recorded<'a, R> {
    source: &'a mut R,
    bytes: &'a mut Vec<u8>,
}

impl<R: Read> Read for Recorded<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.source.read(buffer)?;
        self.bytes.extend_from_slice(&buffer[..count]);
        Ok(count)
    }
}

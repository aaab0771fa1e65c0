//! `image`: root file systems that were made elsewhere.

use std::env;
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use rootfs_tools::registry::{Registry, parse_reference};
use rootfs_tools::store::{Image, Store};
use rootfs_tools::{Bootstrap, Digest, Installer, Limits, Platform, Select, Source, import};
use serde::Serialize;

use crate::args::{BootstrapArgs, ImageVerb, ImportArgs, PullArgs};
use crate::output::{self, Format, tell};
use crate::places::{find_program, make_private_dir};
use crate::progress::Shown;
use crate::run::Manager;
use crate::size::render_size;

/// Performs one verb.
///
/// # Errors
/// What the store says.
pub fn image(manager: &Manager, verb: &ImageVerb) -> Result<()> {
    make_private_dir(&manager.places.data)?;
    let store = Store::open(&manager.places.data)?;
    match verb {
        ImageVerb::Import(args) => import_image(&store, args),
        ImageVerb::Pull(args) => pull(&store, args),
        ImageVerb::Bootstrap(args) => bootstrap(&store, args),
        ImageVerb::List(printed) => list(&store, printed.format()),
        ImageVerb::Show { name, printed } => {
            let image = store.image(name)?;
            output::print(printed.format(), &image, || rows_of(&image))
        }
        ImageVerb::Remove { names } => super::each(names, |name| Ok(store.remove_image(name)?)),
        ImageVerb::Gc => collect(manager, &store),
    }
}

fn import_image(store: &Store, args: &ImportArgs) -> Result<()> {
    let platform = args.platform.as_deref().map(parse_platform).transpose()?;
    let select = Select { reference: args.reference.clone(), platform };
    let source = if args.source == "-" {
        Source::Stream { reader: Box::new(std::io::stdin()), select, label: "standard input".to_owned() }
    } else {
        Source::at(Path::new(&args.source), select).with_context(|| format!("cannot use {}", args.source))?
    };
    let mut progress = Shown::new(&args.name);
    let image = import(store, source, &args.name, &Limits::default(), &mut progress)
        .with_context(|| format!("cannot import {}", args.source))?;
    output::write(&format!("{}\n", image.name))
}

fn pull(store: &Store, args: &PullArgs) -> Result<()> {
    let platform = args.platform.as_deref().map(parse_platform).transpose()?;
    let name = args.name.as_ref().unwrap_or(&args.reference);
    let variable = |name: &str| env::var(name).ok().filter(|value| !value.is_empty());
    let registry = Registry {
        reference: parse_reference(&args.reference)?,
        platform,
        registries: read_folder(REGISTRIES)?,
        auths: variable("REGISTRY_AUTH_FILE")
            .map(PathBuf::from)
            .into_iter()
            .chain(variable("XDG_RUNTIME_DIR").map(|folder| PathBuf::from(folder).join("containers/auth.json")))
            .chain([PathBuf::from("/etc/containers/auth.json")])
            .chain(variable("HOME").map(|folder| PathBuf::from(folder).join(".docker/config.json")))
            .collect(),
        certificates: variable("SSL_CERT_FILE")
            .map_or_else(|| CERTIFICATES.map(PathBuf::from).to_vec(), |f| vec![f.into()]),
        proxy: variable("HTTPS_PROXY").or_else(|| variable("https_proxy")),
    };
    let mut progress = Shown::new(name);
    let image = import(store, Source::Registry(registry), name, &Limits::default(), &mut progress)
        .with_context(|| format!("cannot pull {}", args.reference))?;
    output::write(&format!("{}\n", image.name))
}

/// The better of the two programs that is installed builds the tree.
fn bootstrap(store: &Store, args: &BootstrapArgs) -> Result<()> {
    let known = [("mmdebstrap", Installer::Mmdebstrap), ("debootstrap", Installer::Debootstrap)];
    let found = known.into_iter().find_map(|(name, installer)| Some((find_program(name)?, installer)));
    let Some((program, installer)) = found else { bail!("neither mmdebstrap nor debootstrap is installed") };
    let Some(shell) = find_program("sh") else { bail!("no sh is installed") };
    let source = Source::Bootstrap(Bootstrap {
        shell: shell.into(),
        program: program.into(),
        installer,
        options: args.option.clone(),
        suite: args.suite.clone(),
        mirrors: args.mirror.clone(),
    });
    let mut progress = Shown::new(&args.name);
    let image = import(store, source, &args.name, &Limits::default(), &mut progress)
        .with_context(|| format!("cannot bootstrap {}", args.suite))?;
    output::write(&format!("{}\n", image.name))
}

/// Where registries are described; the files of the folder count more (containers-registries.conf.d(5)).
const REGISTRIES: (&str, &str) = ("/etc/containers/registries.conf", "/etc/containers/registries.conf.d");

/// Where distributions keep the certificates that they trust.
const CERTIFICATES: [&str; 3] =
    ["/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/cert.pem"];

/// A file and those of a folder that end in `.conf`, in the order of their names.
fn read_folder((file, folder): (&str, &str)) -> Result<Vec<PathBuf>> {
    let mut files = vec![PathBuf::from(file)];
    let entries = match fs::read_dir(folder) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(files),
        other => other.with_context(|| format!("cannot read {folder}"))?,
    };
    let mut more = entries.map(|entry| Ok(entry?.path())).collect::<std::io::Result<Vec<_>>>()?;
    more.retain(|path| path.extension().is_some_and(|extension| extension == "conf"));
    more.sort();
    files.extend(more);
    Ok(files)
}

/// Reads `OS/ARCHITECTURE[/VARIANT]`.
fn parse_platform(text: &str) -> Result<Platform> {
    let mut parts = text.split('/').map(str::to_owned);
    match (parts.next(), parts.next(), parts.next(), parts.next()) {
        (Some(os), Some(architecture), variant, None) if !os.is_empty() && !architecture.is_empty() => {
            Ok(Platform { os, architecture, variant })
        }
        _ => bail!("--platform {text:?}: want OS/ARCHITECTURE, such as linux/arm64"),
    }
}

/// One image, as `image list --format json` has it.
#[derive(Debug, Serialize)]
struct Row {
    name: String,
    layers: usize,
    bytes: u64,
    created: Option<String>,
    architecture: Option<String>,
    id: Option<Digest>,
    source: String,
}

fn list(store: &Store, format: Format) -> Result<()> {
    let row = |image: Image| Row {
        name: image.name,
        layers: image.layers.len(),
        bytes: image.bytes,
        created: image.created,
        architecture: image.architecture,
        id: image.id,
        source: image.source,
    };
    let rows: Vec<Row> = store.images()?.into_iter().map(row).collect();
    output::print(format, &rows, || {
        let header = ["NAME", "LAYERS", "SIZE", "CREATED", "SOURCE"].map(str::to_owned).to_vec();
        let cells = |row: &Row| {
            let created = row.created.clone().unwrap_or_default();
            vec![row.name.clone(), row.layers.to_string(), render_size(row.bytes), created, row.source.clone()]
        };
        std::iter::once(header).chain(rows.iter().map(cells)).collect()
    })
}

fn rows_of(image: &Image) -> Vec<Vec<String>> {
    let row = |key: &str, value: String| vec![format!("{key}:"), value];
    let config = &image.config;
    let mut rows = vec![
        row("name", image.name.clone()),
        row("source", image.source.clone()),
        row("size", render_size(image.bytes)),
        row("created", image.created.clone().unwrap_or_default()),
        row("architecture", image.architecture.clone().unwrap_or_default()),
        row("entrypoint", config.entrypoint.join(" ")),
        row("command", config.cmd.join(" ")),
        row("folder", config.working_dir.clone()),
        row("user", config.user.clone()),
        row("environment", config.env.join(" ")),
    ];
    rows.extend(image.layers.iter().map(|layer| row("layer", layer.to_string())));
    rows
}

/// Layers that definitions name stay, whether their image is there or not.
fn collect(manager: &Manager, store: &Store) -> Result<()> {
    let report = super::gc::remove_layers(&manager.places, store)?;
    for layer in &report.layers {
        output::write(&format!("{layer}\n"))?;
    }
    tell(&format!("{} layers removed, {} free", report.layers.len(), render_size(report.bytes)));
    Ok(())
}

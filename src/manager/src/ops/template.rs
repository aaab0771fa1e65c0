//! `template build | list | show | switch | gc | remove`.

use std::fs::{self, File};
use std::os::fd::AsFd;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use rootfs_tools::{Stack, copy_stack};
use runtime_spec::clock;
use serde::Serialize;

use crate::args_kept::{BuildArgs, ShowArgs, TemplateArgs, TemplateVerb};
use crate::base::{self, Base};
use crate::bundle::{Surroundings, render_config};
use crate::changes;
use crate::definition::{Definition, From, Limits, LogBounds, Network, Process, Restart, Seccomp, Upper, Volume};
use crate::ops::gc;
use crate::output::{self, Format, tell};
use crate::places::{Readers, make_closed_dir, make_private_dir, now, validate_name, write_whole};
use crate::run::Manager;
use crate::template::{self, BUILDER, BuildNetwork, SOURCE, Source, VERSION, Version};

/// Where scripts see the folder of their template: on the memory file system that every container has there, so that the
/// template gets no trace of it.
const SOURCE_INSIDE: &str = "/dev/skep";
/// Lines of a failed script that are shown.
const LAST_LINES: usize = 20;

/// Does what is wanted of templates.
///
/// # Errors
/// What each says.
pub fn template(manager: &Manager, args: &TemplateArgs) -> Result<()> {
    match &args.verb {
        TemplateVerb::Build(args) => build(manager, args),
        TemplateVerb::List(printed) => list(manager, printed.format()),
        TemplateVerb::Show(args) => show(manager, args),
        TemplateVerb::Switch(args) => template::switch(&manager.places, &args.name, &args.to),
        TemplateVerb::Gc(args) => {
            let rows = gc::templates(manager, args)?;
            changes::sweep(&manager.places)?;
            gc::print(args.printed.format(), &rows)
        }
        TemplateVerb::Remove(args) => {
            template::remove(manager, &args.name, args.version.as_deref())?;
            changes::sweep(&manager.places)
        }
    }
}

/// Builds a version: the files of the base, then each script. It appears by a rename when all of it is on disk.
///
/// # Errors
/// What is wrong with the source; a script that fails; what the kernel says. Then nothing of it is left.
fn build(manager: &Manager, args: &BuildArgs) -> Result<()> {
    let places = &manager.places;
    let folder = fs::canonicalize(&args.folder).with_context(|| format!("cannot use {}", args.folder.display()))?;
    let path = folder.join(SOURCE);
    let text = fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
    let source = template::parse_source(&text).with_context(|| format!("cannot use {}", path.display()))?;
    let name = &source.name;
    let _building = places.lock_own(&template::build_lock(name))?;
    // After the lock: somebody may have built one meanwhile.
    let existing = template::versions(places, name)?;
    let number = args.version.clone().unwrap_or_else(|| template::plan_number(&existing));
    validate_name("version", &number)?;
    if existing.iter().any(|(known, _)| *known == number) {
        bail!("template {name:?} has a version {number:?} already");
    }
    let versions = places.templates().join(name).join("versions");
    make_closed_dir(&places.templates())?;
    make_private_dir(&versions)?;
    let unfinished = versions.join(format!(".{number}.new"));
    template::undo_build(manager, &unfinished)?;
    let done = versions.join(&number);
    let built = fill(manager, &source, &folder, &unfinished)
        .and_then(|()| fs::rename(&unfinished, &done).with_context(|| format!("cannot make {}", done.display())));
    if let Err(error) = built {
        template::undo_build(manager, &unfinished)?;
        return Err(error.context(format!("cannot build template {name:?}")));
    }
    if !args.no_switch || template::current(places, name)?.is_none() {
        template::switch(places, name, &number)?;
    }
    output::write(&format!("{name}:{number}\n"))
}

fn fill(manager: &Manager, source: &Source, folder: &Path, unfinished: &Path) -> Result<()> {
    let places = &manager.places;
    let base = find_base(manager, source, folder)?;
    let _base_stays = template::lock_in_use(places, &base.from)?;
    let _layers_stay = base::pin(places, &base.from)?;
    let mut version = plan(manager, source, &base)?;
    let scripts = read_scripts(folder)?;
    version.scripts = scripts.clone();
    make_private_dir(unfinished)?;
    let rootfs = unfinished.join("rootfs");
    fs::create_dir(&rootfs).with_context(|| format!("cannot make {}", rootfs.display()))?;
    copy(&base::layers(places, &base.from)?, &rootfs)?;
    let hooks = folder.join("hooks");
    if hooks.is_dir() {
        make_private_dir(&unfinished.join("hooks"))?;
        copy(&[hooks], &unfinished.join("hooks"))?;
    }
    if !scripts.is_empty() {
        run_scripts(manager, source, &version, folder, unfinished, &scripts)?;
    }
    let from = folder.join(SOURCE);
    fs::copy(&from, unfinished.join(SOURCE)).with_context(|| format!("cannot copy {}", from.display()))?;
    write_whole(&unfinished.join(VERSION), &serde_json::to_vec_pretty(&version)?, Readers::Owner)?;
    let top = File::open(unfinished).with_context(|| format!("cannot open {}", unfinished.display()))?;
    Ok(sys::entry::sync_file_system(top.as_fd())?)
}

/// The base, a relative path being one from the folder of the source.
fn find_base(manager: &Manager, source: &Source, folder: &Path) -> Result<Base> {
    let text = &source.base;
    let is_relative = text == "." || text.starts_with("./") || text.starts_with("../");
    let text = if is_relative { folder.join(text).to_string_lossy().into_owned() } else { text.clone() };
    let base = base::find(&manager.places, &text)?;
    if matches!(base.from, From::Host { .. }) {
        bail!("the host is no base of a template: containers take its files from where they are");
    }
    Ok(base)
}

fn plan(manager: &Manager, source: &Source, base: &Base) -> Result<Version> {
    let mut inherited = template::read_defaults(&manager.places, &base.from)?;
    inherited.process = base.process.clone();
    inherited.process.args.splice(0..0, base.entrypoint.iter().cloned());
    inherited.stop_signal.clone_from(&base.stop_signal);
    let mut version = template::plan_version(source, &inherited, now())?;
    version.base = base.from.render();
    if let From::Template { name } = &base.from
        && let Some(current) = template::current(&manager.places, name)?
    {
        version.base = format!("{}:{current}", version.base);
    }
    Ok(version)
}

fn copy(layers: &[PathBuf], to: &Path) -> Result<()> {
    let folder = File::open(to).with_context(|| format!("cannot open {}", to.display()))?;
    copy_stack(&Stack::open(layers)?, folder.into())?.iter().for_each(|note| tell(note));
    Ok(())
}

/// The scripts by name. Each has to be a file that can be executed.
fn read_scripts(folder: &Path) -> Result<Vec<String>> {
    let folder = folder.join("scripts");
    let names: Vec<String> = changes::names(&folder)?.into_iter().filter(|name| !name.starts_with('.')).collect();
    for name in &names {
        let path = folder.join(name);
        let meta = fs::metadata(&path).with_context(|| format!("cannot look at {}", path.display()))?;
        if !meta.is_file() || meta.permissions().mode() & 0o111 == 0 {
            bail!("{} is no program: chmod +x makes it one", path.display());
        }
    }
    Ok(names)
}

/// Runs each script as a container whose root is the new template.
fn run_scripts(
    manager: &Manager,
    source: &Source,
    version: &Version,
    folder: &Path,
    unfinished: &Path,
    scripts: &[String],
) -> Result<()> {
    let bundle = unfinished.join("build");
    make_private_dir(&bundle)?;
    let builder = format!("build-{}-{}", source.name, changes::random_id()?);
    // Before it runs: whoever finds this unfinished can end it.
    write_whole(&unfinished.join(BUILDER), builder.as_bytes(), Readers::Owner)?;
    let rootfs = [unfinished.join("rootfs")];
    for script in scripts {
        tell(&format!("running {script}"));
        let definition = plan_builder(source, version, folder, &builder, script);
        let user = base::find_user(&rootfs, None)?;
        let around = Surroundings {
            lower: &rootfs,
            systemd: manager.runtime.uses_systemd(),
            nested: crate::copied::in_user_namespace()?,
            ..Surroundings::bare(&bundle, &user)
        };
        let mut config = render_config(&definition, &around);
        config["root"]["path"] = serde_json::json!(rootfs[0]);
        if let Some(annotations) = config["annotations"].as_object_mut() {
            annotations.remove(runtime_spec::overlay::ANNOTATION);
        }
        write_whole(&bundle.join("config.json"), &serde_json::to_vec_pretty(&config)?, Readers::Owner)?;
        let log = bundle.join("log");
        let file = File::create(&log).with_context(|| format!("cannot make {}", log.display()))?;
        if let Err(error) = manager.runtime.run_to_end(&builder, &bundle, &file) {
            let said = fs::read(&log).with_context(|| format!("cannot read {}", log.display()))?;
            let said = String::from_utf8_lossy(&said);
            let lines: Vec<&str> = said.lines().collect();
            lines[lines.len().saturating_sub(LAST_LINES)..].iter().for_each(|line| tell(&format!("  {line}")));
            return Err(error.context(format!("script {script} failed")));
        }
    }
    super::remove_tree(&bundle)?;
    let path = unfinished.join(BUILDER);
    fs::remove_file(&path).with_context(|| format!("cannot remove {}", path.display()))
}

fn plan_builder(source: &Source, version: &Version, folder: &Path, builder: &str, script: &str) -> Definition {
    let read_only = |source: &str, destination: &str| Volume {
        source: source.to_owned(),
        destination: destination.to_owned(),
        read_only: true,
        idmap: false,
    };
    let mut volumes = vec![read_only(&folder.to_string_lossy(), SOURCE_INSIDE)];
    const RESOLVER: &str = "/etc/resolv.conf";
    let network = match source.network {
        BuildNetwork::None => Network::None,
        BuildNetwork::Host => {
            if Path::new(RESOLVER).exists() {
                volumes.push(read_only(RESOLVER, RESOLVER));
            }
            Network::Host
        }
    };
    Definition {
        monitor: false,
        view: false,
        autostart: None,
        log: LogBounds::default(),
        schema: Definition::SCHEMA,
        name: builder.to_owned(),
        created: 0,
        from: From::Folder { path: PathBuf::from("/") },
        changes: Vec::new(),
        storage: crate::copied::Storage::Overlay,
        upper: Upper::Disk,
        process: Process {
            terminal: false,
            args: vec![format!("{SOURCE_INSIDE}/scripts/{script}")],
            env: version.process.env.clone(),
            cwd: "/".to_owned(),
            ..Process::default()
        },
        hostname: source.name.clone(),
        ids: None,
        limits: Limits::default(),
        // No folder for all of them: nothing of a build is left.
        cgroup_parent: Some("/".to_owned()),
        volumes,
        devices: Vec::new(),
        network,
        links: Vec::new(),
        share: None,
        publish: Vec::new(),
        restart: Restart::No,
        // Scripts are the administrator's own.
        seccomp: Seccomp::Unconfined,
        stop_signal: "TERM".to_owned(),
        oci: serde_json::Value::Null,
        lxc: None,
        system: None,
    }
}

/// One version, as `--format json` has it. Names of fields are not changed, only added to.
#[derive(Debug, Serialize)]
struct Row {
    name: String,
    version: String,
    current: bool,
    /// RFC 3339.
    created: String,
    base: String,
    /// Whether a running container has it.
    used: bool,
}

fn list(manager: &Manager, format: Format) -> Result<()> {
    let places = &manager.places;
    let used = template::read_used(manager)?;
    let mut rows = Vec::new();
    for name in template::names(places)? {
        let current = template::current(places, &name)?;
        for (version, record) in template::versions(places, &name)? {
            let folder = template::folder(places, &name, &version);
            rows.push(Row {
                current: current.as_ref() == Some(&version),
                created: clock::render_seconds(std::time::Duration::from_secs(record.created)),
                base: record.base,
                used: used.iter().any(|layer| layer.starts_with(&folder)),
                name: name.clone(),
                version,
            });
        }
    }
    output::print(format, &rows, || {
        let header = ["NAME", "VERSION", "CURRENT", "USED", "CREATED", "BASE"].map(str::to_owned).to_vec();
        let mark = |is: bool| if is { "yes".to_owned() } else { String::new() };
        let cells = |row: &Row| {
            let (current, used) = (mark(row.current), mark(row.used));
            vec![row.name.clone(), row.version.clone(), current, used, row.created.clone(), row.base.clone()]
        };
        std::iter::once(header).chain(rows.iter().map(cells)).collect()
    })
}

fn show(manager: &Manager, args: &ShowArgs) -> Result<()> {
    let places = &manager.places;
    validate_name("template", &args.name)?;
    let current = template::current(places, &args.name)?;
    let current = current.with_context(|| format!("there is no template {:?}", args.name))?;
    let version = args.version.clone().unwrap_or_else(|| current.clone());
    validate_name("version", &version)?;
    let record = template::read(places, &args.name, &version)?;
    let mut document = serde_json::to_value(&record).context("cannot render the version")?;
    document["name"] = serde_json::json!(args.name);
    document["version"] = serde_json::json!(version);
    document["current"] = serde_json::json!(version == current);
    document["created"] = serde_json::json!(clock::render_seconds(std::time::Duration::from_secs(record.created)));
    if args.format == Format::Table {
        return output::write(&output::render_yaml(&document));
    }
    output::print(args.format, &document, Vec::new)
}

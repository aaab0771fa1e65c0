//! Commands for containers that are defined once: another program has them, so that what it needs (archives, images,
//! tables) weighs on no start of a container.

use std::convert::Infallible;
use std::env;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, bail};

use crate::args::Global;

/// The program for defined containers.
pub const MANAGER: &str = "skep-manager";
/// The program for LXC's command lines.
pub const LXC: &str = "skep-lxc";
/// The program that keeps services running.
pub const SUPERVISOR: &str = "skepd";
/// What the names of LXC's tools begin with.
const LXC_TOOL: &str = "lxc-";
/// Folder of the program, where it is not one of the usual ones.
const FOLDER: &str = "SKEP_LIBEXEC";
/// Tells the program where this one is.
const PROGRAM: &str = "SKEP_PROGRAM";
/// Tells the program, and this one, where definitions are kept.
const DATA: &str = "SKEP_DATA";
/// Where they are kept by default.
const DEFAULT_DATA: &str = "/var/lib/skep";
/// Where distributions put such programs.
const USUAL: [&str; 3] = ["/usr/local/libexec/skep", "/usr/libexec/skep", "/usr/lib/skep"];

/// Whether a text is the name of one of LXC's tools.
#[must_use]
pub fn is_lxc_tool(name: &str) -> bool {
    name.starts_with(LXC_TOOL)
}

/// Goes on as another program of ours, with the same arguments: [`LXC`] where a tool of LXC's is called, by its own name or as
/// a command, else [`MANAGER`].
///
/// # Errors
/// It is not installed, or cannot be executed.
pub fn hand_over(program: &str) -> anyhow::Result<Infallible> {
    let own = env::current_exe().context("cannot tell where this program is")?;
    let places = places(&own, program);
    let Some(program) = places.iter().find(|place| place.is_file()) else {
        let looked: Vec<String> = places.iter().map(|place| place.display().to_string()).collect();
        bail!("{program} is not installed: looked for {}", looked.join(", "));
    };
    let name = env::args().next().and_then(|called| called.rsplit('/').next().map(str::to_owned));
    let name = name.filter(|name| is_lxc_tool(name)).unwrap_or_else(|| "skep".to_owned());
    let error = Command::new(program).arg0(name).args(env::args_os().skip(1)).env(PROGRAM, &own).exec();
    Err(error).with_context(|| format!("cannot execute {}", program.display()))
}

/// Where the program may be, the best first: below the same prefix, or, where it was built, beside this one.
fn places(own: &Path, program: &str) -> Vec<PathBuf> {
    let folder = own.parent().unwrap_or(Path::new("/"));
    let given = env::var_os(FOLDER).filter(|folder| !folder.is_empty()).map(PathBuf::from);
    let near = folder.parent().map(|prefix| prefix.join("libexec/skep"));
    let usual = USUAL.iter().map(PathBuf::from);
    let folders = given.into_iter().chain(near).chain([folder.to_owned()]).chain(usual);
    folders.map(|folder| folder.join(program)).collect()
}

/// Where they are kept where nothing is said, as the other program has it; `None` for a user without a home.
fn usual_data() -> Option<PathBuf> {
    if sys::process::effective_uid() == 0 {
        return Some(PathBuf::from(DEFAULT_DATA));
    }
    let absolute = |key: &str| env::var_os(key).map(PathBuf::from).filter(|path| path.is_absolute());
    let below_home = || absolute("HOME").map(|home| home.join(".local/share"));
    Some(absolute("XDG_DATA_HOME").or_else(below_home)?.join("skep"))
}

/// Whether a container of this name is defined.
#[must_use]
pub fn defines(global: &Global, name: &str) -> bool {
    let given = global.data.clone().or_else(|| env::var(DATA).ok().filter(|data| !data.is_empty()));
    let Some(data) = given.map(PathBuf::from).or_else(usual_data) else { return false };
    let folder = data.join("containers").join(name);
    // The second one is that of versions before.
    ["definition.toml", "definition.json"].iter().any(|file| folder.join(file).exists())
}

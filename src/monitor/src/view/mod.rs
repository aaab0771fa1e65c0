//! The files of `/proc` that would tell a container of the whole machine, with what it has itself.
//!
//! One process for each container that wants them, of this same program: a FUSE file system of five files, mounted on a folder
//! of the host until the container has its own mounts of them, and nowhere on the host after that. It ends when the last mount
//! is gone, which is when the container ends. Nothing that it reads comes from the container but numbers of the kernel's.
//!
//! ```text
//! skep-manager ── starts ──► skep-monitor NAME FOLDER --view GROUP PLACE ── mounts ──► PLACE
//!      │                            ▲                                                 │ bind mounts, by the runtime
//!      └─ unmounts PLACE            └────────────── /dev/fuse ◄──── reads ◄───── /proc/meminfo …
//! ```

pub mod fuse;
pub mod render;
pub mod source;

use std::fs::{self, OpenOptions};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result};
use runtime_spec::monitor::{VIEWS, file};
use sys::Errno;
use sys::fs::{CWD, OFlags};
use sys::mount::FsContext;

use crate::start::tell;
use fuse::Request;
use render::{Load, Tasks, Time};
use source::Groups;

/// Seconds between two looks at what runs, while somebody is interested in the load.
const SAMPLE_S: f64 = 5.0;
/// The same in milliseconds, for a wait.
const SAMPLE_MS: u64 = 5_000;
/// Seconds after which nobody is interested any more, and it sleeps until the next question.
const INTEREST_S: f64 = 900.0;

/// Serves the files of a run until nobody can read them any more. The first line that it writes says whether they are there.
///
/// # Errors
/// There is no FUSE; what the kernel says. After the first line nobody is left to tell errors to.
pub fn main(folder: &Path, group: &str, place: &Path) -> Result<()> {
    sys::process::close_all_but(vec![0, 1, 2])?;
    sys::process::new_session()?;
    let device = sys::fs::open("/dev/fuse", OFlags::RDWR).context("cannot open /dev/fuse")?;
    let began = uptime()?;
    mount(device.as_fd(), place)?;
    sys::process::chdir("/")?;
    tell("ok");
    let null = OpenOptions::new().read(true).write(true).open("/dev/null").context("cannot open /dev/null")?;
    for number in 0..3 {
        sys::process::dup_onto(null.as_fd(), number)?;
    }
    drop(null);
    let pid = folder.join(file::PID);
    let mut view =
        View { pid: &pid, group, began, groups: None, load: Load::default(), seen: (began, 0.0), asked: None };
    view.serve(&device)
}

/// Mounts the file system on a folder.
fn mount(device: BorrowedFd<'_>, place: &Path) -> Result<()> {
    use std::os::fd::AsRawFd;
    /// MOUNT_ATTR_RDONLY, _NOSUID, _NODEV and _NOEXEC (include/uapi/linux/mount.h).
    const ATTRIBUTES: u64 = 0xf;
    let place = place.to_str().context("the folder's name is no text")?;
    let context = FsContext::open("fuse")?;
    context.set_string("source", "skep")?;
    context.set_string("fd", &device.as_raw_fd().to_string())?;
    context.set_string("rootmode", "40555")?;
    context.set_string("user_id", "0")?;
    context.set_string("group_id", "0")?;
    context.set_flag("allow_other")?;
    context.set_flag("default_permissions")?;
    let mount = context.mount(ATTRIBUTES)?;
    Ok(sys::mount::attach(mount.as_fd(), sys::fs::open(place, OFlags::PATH | OFlags::DIRECTORY)?.as_fd())?)
}

/// Seconds since the machine began.
fn uptime() -> Result<f64> {
    let text = sys::fs::read_text_at(CWD, "/proc/uptime")?;
    text.split(' ').next().and_then(|word| word.parse().ok()).with_context(|| format!("no time: {text:?}"))
}

/// What is known of a container.
#[derive(Debug)]
struct View<'a> {
    pid: &'a Path,
    group: &'a str,
    /// When it began.
    began: f64,
    groups: Option<Groups>,
    load: Load,
    /// When the load was last brought up to date, and how many seconds it had computed by then.
    seen: (f64, f64),
    /// When somebody asked for the load.
    asked: Option<f64>,
}

impl View<'_> {
    fn serve(&mut self, device: &OwnedFd) -> Result<()> {
        let mut buffer = vec![0; fuse::BUFFER];
        // What was rendered for a first part: the next parts are of the same text.
        let mut texts = [const { String::new() }; VIEWS.len()];
        loop {
            let interested = self.asked.is_some_and(|asked| uptime().is_ok_and(|now| now - asked < INTEREST_S));
            let ready = sys::process::poll_readable(&[device.as_fd()], interested.then_some(SAMPLE_MS))?;
            if !ready[0].readable && !ready[0].hung_up {
                let tasks = self.groups()?.tasks();
                self.pass_time(tasks)?;
                continue;
            }
            let length = match sys::fs::read_some(device.as_fd(), &mut buffer) {
                // Somebody gave up, or another one has read it.
                Err(error) if [Errno::INTR, Errno::AGAIN, Errno::NOENT].iter().any(|errno| error.is(*errno)) => {
                    continue;
                }
                // It is mounted nowhere any more.
                Err(error) if error.is(Errno::NODEV) => return Ok(()),
                other => other?,
            };
            let Some((unique, request)) = fuse::parse(&buffer[..length]) else { continue };
            if let Some(answer) = self.answer(unique, &request, &mut texts) {
                match sys::fs::write_some(device.as_fd(), &answer) {
                    // Who asked has gone.
                    Err(error) if error.is(Errno::NOENT) => {}
                    Err(error) if error.is(Errno::NODEV) => return Ok(()),
                    other => drop(other?),
                }
            }
        }
    }

    fn answer(&mut self, unique: u64, request: &Request<'_>, texts: &mut [String]) -> Option<Vec<u8>> {
        let body = match *request {
            Request::Init => fuse::render_init(),
            Request::Lookup(name) => match VIEWS.iter().position(|(known, _)| known.as_bytes() == name) {
                Some(index) => fuse::render_entry(index as u64 + fuse::ROOT + 1),
                None => return Some(fuse::render_absent(unique)),
            },
            Request::Attributes(node) => fuse::render_attributes(node),
            Request::Open => fuse::render_open(),
            Request::Size => fuse::render_size(),
            Request::Read { node, offset, size } => {
                let index = usize::try_from(node.checked_sub(fuse::ROOT + 1)?).ok()?;
                let text = texts.get_mut(index)?;
                if offset == 0 {
                    // What cannot be known now is an empty file.
                    *text = self.render(VIEWS[index].0).unwrap_or_default();
                }
                let rest = text.as_bytes().get(usize::try_from(offset).ok()?..).unwrap_or_default();
                rest[..size.min(rest.len())].to_vec()
            }
            Request::Agree => Vec::new(),
            Request::Note => return None,
            Request::Unknown => return Some(fuse::render_unknown(unique)),
        };
        Some(fuse::render_answer(unique, &body))
    }

    fn groups(&mut self) -> Result<&Groups> {
        if self.groups.is_none() {
            let text = fs::read_to_string(self.pid).context("it has not begun")?;
            let pid = text.trim().parse().with_context(|| format!("no pid: {text:?}"))?;
            self.groups = Some(Groups::find(pid, self.group)?);
        }
        self.groups.as_ref().context("they were found")
    }

    fn render(&mut self, name: &str) -> Result<String> {
        let read = |path: &str| sys::fs::read_text_at(CWD, path).with_context(|| format!("cannot read {path}"));
        let began = self.began;
        let groups = self.groups()?;
        Ok(match name {
            "meminfo" => render::render_meminfo(&read("/proc/meminfo")?, &groups.memory()),
            "cpuinfo" => render::render_cpuinfo(&read("/proc/cpuinfo")?, &groups.cpus()),
            "online" => render::render_online(groups.cpus().len()),
            "stat" => {
                let (user, system, _) = groups.time();
                let now = SystemTime::now().duration_since(UNIX_EPOCH).context("the clock stands before 1970")?;
                let up = std::time::Duration::from_secs_f64((uptime()? - began).max(0.0)).as_millis() / 10;
                let time = Time { user, system, uptime: u64::try_from(up)? };
                render::render_stat(groups.cpus().len(), time, groups.tasks(), now.as_secs())
            }
            _ => {
                let tasks = groups.tasks();
                self.pass_time(tasks)?;
                self.asked = Some(uptime()?);
                self.load.render(tasks)
            }
        })
    }

    /// Brings the load up to date: by what runs now where it was looked at a moment ago, else by how much was computed since.
    fn pass_time(&mut self, tasks: Tasks) -> Result<()> {
        let (now, (_, _, computed)) = (uptime()?, self.groups()?.time());
        let (before, computed_before) = self.seen;
        let passed = now - before;
        if passed <= 0.0 {
            return Ok(());
        }
        let looked = passed <= SAMPLE_S * 1.5 && self.asked.is_some();
        let counted = u32::try_from(tasks.running + tasks.blocked).unwrap_or(u32::MAX);
        let active = if looked { f64::from(counted) } else { (computed - computed_before).max(0.0) / passed };
        self.load.advance(passed, active);
        self.seen = (now, computed);
        Ok(())
    }
}

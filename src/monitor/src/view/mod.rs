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

use std::collections::VecDeque;
use std::fs::{self, OpenOptions};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result};
use runtime_spec::monitor::{VIEWS, file};
use sys::Errno;
use sys::fs::OFlags;
use sys::mount::FsContext;

use crate::start::tell;
use fuse::Request;
use render::{Load, Tasks, Time};
use source::{Groups, read};

/// Seconds between two looks at what runs, while somebody is interested in the load.
const SAMPLE_S: f64 = 5.0;
/// The same in milliseconds, for a wait.
const SAMPLE_MS: u64 = 5_000;
/// Seconds after which nobody is interested any more, and it sleeps until the next question.
const INTEREST_S: f64 = 900.0;

/// How old a text may be that was measured when its file was opened.
const MEASURED_MAX: Duration = Duration::from_millis(50);

/// Serves the files of a run until nobody can read them any more. The first line that it writes says whether they are there.
///
/// # Errors
/// There is no FUSE; what the kernel says. After the first line nobody is left to tell errors to.
pub fn main(folder: &Path, group: &str, place: &Path) -> Result<()> {
    sys::process::close_all_but(vec![0, 1, 2])?;
    sys::process::new_session()?;
    let device = sys::fs::open("/dev/fuse", OFlags::RDWR).context("cannot open /dev/fuse")?;
    let began = Began { up: uptime()?, at: Instant::now() };
    mount(device.as_fd(), place)?;
    sys::process::chdir("/")?;
    tell("ok");
    let null = OpenOptions::new().read(true).write(true).open("/dev/null").context("cannot open /dev/null")?;
    for number in 0..3 {
        sys::process::dup_onto(null.as_fd(), number)?;
    }
    drop(null);
    let pid = folder.join(file::PID);
    let seen = (began.at, 0.0);
    let mut view = View {
        pid: &pid,
        group,
        began,
        groups: None,
        load: Load::default(),
        seen,
        asked: None,
        measured: None,
        texts: Texts::default(),
    };
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
    let text = read("/proc/uptime")?;
    text.split(' ').next().and_then(|word| word.parse().ok()).with_context(|| format!("no time: {text:?}"))
}

/// What is known of a container.
#[derive(Debug)]
struct View<'a> {
    pid: &'a Path,
    group: &'a str,
    /// When it began.
    began: Began,
    groups: Option<Groups>,
    load: Load,
    /// When the load was last brought up to date, and how many seconds it had computed by then.
    seen: (Instant, f64),
    /// When somebody asked for the load.
    asked: Option<Instant>,
    /// The text whose length was told last, and when: who opens a file reads what was measured.
    measured: Option<(&'static str, Instant, String)>,
    texts: Texts,
}

/// The name of the file that a node is.
fn name_of(node: u64) -> Option<&'static str> {
    VIEWS.get(usize::try_from(node.checked_sub(fuse::ROOT + 1)?).ok()?).map(|(name, _)| *name)
}

/// A moment by two clocks.
#[derive(Debug, Clone, Copy)]
struct Began {
    /// Seconds since the machine began, those in which it slept included, as containers are told.
    up: f64,
    /// What costs no file to ask for.
    at: Instant,
}

/// What was rendered for those who have read a part of it: the next parts are of the same text. Each that opens a file has one of
/// its own.
#[derive(Debug, Default)]
struct Texts {
    /// By the handle, the oldest first.
    kept: VecDeque<(u64, String)>,
    /// The last handle that was given.
    last: u64,
}

impl Texts {
    /// Most that are kept. One that had to go is rendered anew.
    const MAX: usize = 64;
    /// Most bytes of all of them. The container opens as many as it likes, and this process is none of its.
    const BYTES_MAX: usize = 1 << 20;

    fn open(&mut self) -> u64 {
        self.last += 1;
        self.last
    }

    fn forget(&mut self, handle: u64) {
        self.kept.retain(|(known, _)| *known != handle);
    }

    /// A part of the text of a handle, which `render` makes for the first part.
    fn part(&mut self, handle: u64, offset: usize, size: usize, render: impl FnOnce() -> String) -> Vec<u8> {
        let known = self.kept.iter().position(|(known, _)| *known == handle).filter(|_| offset > 0);
        if known.is_none() {
            self.forget(handle);
            self.kept.push_back((handle, render()));
            let bytes = |kept: &VecDeque<(u64, String)>| kept.iter().map(|(_, text)| text.len()).sum::<usize>();
            while self.kept.len() > Texts::MAX || (self.kept.len() > 1 && bytes(&self.kept) > Texts::BYTES_MAX) {
                self.kept.pop_front();
            }
        }
        let text = self.kept.get(known.unwrap_or(self.kept.len().saturating_sub(1))).map_or("", |(_, text)| text);
        let rest = text.as_bytes().get(offset..).unwrap_or_default();
        let part = rest[..size.min(rest.len())].to_vec();
        if part.is_empty() {
            // It has been read to its end.
            self.forget(handle);
        }
        part
    }
}

impl View<'_> {
    fn serve(&mut self, device: &OwnedFd) -> Result<()> {
        let mut buffer = vec![0; fuse::BUFFER];
        loop {
            let interested = self.asked.is_some_and(|asked| asked.elapsed().as_secs_f64() < INTEREST_S);
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
            if let Some(answer) = self.answer(unique, &request) {
                match sys::fs::write_some(device.as_fd(), &answer) {
                    // Who asked has gone.
                    Err(error) if error.is(Errno::NOENT) => {}
                    Err(error) if error.is(Errno::NODEV) => return Ok(()),
                    other => drop(other?),
                }
            }
        }
    }

    fn answer(&mut self, unique: u64, request: &Request<'_>) -> Option<Vec<u8>> {
        let body = match *request {
            Request::Init => fuse::render_init(),
            Request::Lookup(name) => match VIEWS.iter().position(|(known, _)| known.as_bytes() == name) {
                Some(index) => fuse::render_entry(index as u64 + fuse::ROOT + 1),
                None => return Some(fuse::render_absent(unique)),
            },
            Request::Attributes(fuse::ROOT) => fuse::render_attributes(fuse::ROOT, 0),
            Request::Attributes(node) => {
                let name = name_of(node)?;
                let text = self.render(name).unwrap_or_default();
                let length = text.len();
                self.measured = Some((name, Instant::now(), text));
                fuse::render_attributes(node, length)
            }
            Request::Open => fuse::render_open(self.texts.open()),
            Request::Size => fuse::render_size(),
            Request::Read { node, handle, offset, size } => {
                let name = name_of(node)?;
                let offset = usize::try_from(offset).ok()?;
                // Taken out, since what renders is this, too.
                let mut texts = std::mem::take(&mut self.texts);
                // What cannot be known now is an empty file.
                let part = texts.part(handle, offset, size, || match self.measured.take() {
                    Some((measured, at, text)) if measured == name && at.elapsed() < MEASURED_MAX => text,
                    _ => self.render(name).unwrap_or_default(),
                });
                self.texts = texts;
                part
            }
            Request::Close(handle) => {
                self.texts.forget(handle);
                Vec::new()
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
        let began = self.began;
        let groups = self.groups()?;
        Ok(match name {
            "meminfo" => render::render_meminfo(&read("/proc/meminfo")?, &groups.memory()),
            "cpuinfo" => render::render_cpuinfo(&read("/proc/cpuinfo")?, &groups.cpus()),
            "online" => render::render_online(groups.cpus().len()),
            "stat" => {
                let (user, system, _) = groups.time();
                let now = SystemTime::now().duration_since(UNIX_EPOCH).context("the clock stands before 1970")?;
                let up = Duration::from_secs_f64((uptime()? - began.up).max(0.0)).as_millis() / 10;
                let time = Time { user, system, uptime: u64::try_from(up)? };
                render::render_stat(groups.cpus().len(), time, groups.tasks(), now.as_secs())
            }
            _ => {
                let tasks = groups.tasks();
                self.pass_time(tasks)?;
                self.asked = Some(Instant::now());
                self.load.render(tasks)
            }
        })
    }

    /// Brings the load up to date: by what runs now where it was looked at a moment ago, else by how much was computed since.
    fn pass_time(&mut self, tasks: Tasks) -> Result<()> {
        let (now, (_, _, computed)) = (Instant::now(), self.groups()?.time());
        let (before, computed_before) = self.seen;
        let passed = now.saturating_duration_since(before).as_secs_f64();
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_reader_reads_one_text() {
        let mut texts = Texts::default();
        let (one, two) = (texts.open(), texts.open());
        let read = |texts: &mut Texts, handle, offset, now: &str| {
            String::from_utf8(texts.part(handle, offset, 4, || now.to_owned())).unwrap()
        };
        assert_eq!(read(&mut texts, one, 0, "first text"), "firs");
        // It begins while the other has read a part.
        assert_eq!(read(&mut texts, two, 0, "second"), "seco");
        assert_eq!(read(&mut texts, one, 4, "third"), "t te");
        assert_eq!(read(&mut texts, two, 4, "third"), "nd");
        assert_eq!(read(&mut texts, two, 6, "third"), "");
        assert_eq!(texts.kept.len(), 1, "one that is read to its end is not kept");
        assert_eq!(read(&mut texts, one, 0, "again"), "agai", "from the beginning it is a new one");
        texts.forget(one);
        assert!(texts.kept.is_empty());
    }

    #[test]
    fn those_who_never_read_on_take_bounded_memory() {
        let mut texts = Texts::default();
        for _ in 0..1000 {
            let handle = texts.open();
            texts.part(handle, 0, 1, || "text".to_owned());
        }
        assert_eq!(texts.kept.len(), Texts::MAX);
        assert_eq!(texts.part(1, 1, 9, || "anew".to_owned()), b"new");
        assert_eq!(texts.kept.len(), Texts::MAX);
    }
}

//! What a root file system is made of: from what a definition says to folders on disk.

use std::fs;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use rootfs_tools::store::{Pin, Store, StoreError};

use crate::definition::{First, From, Process};
use crate::places::{Places, validate_name};
use crate::template::{self, Version};

/// A base that was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Base {
    /// What the definition keeps of it.
    pub from: From,
    /// What stands before the command, whoever gives it.
    pub entrypoint: Vec<String>,
    /// What a container of it runs unless told otherwise.
    pub process: Process,
    /// The signal that asks it to end.
    pub stop_signal: Option<String>,
}

/// Finds what `--from` names: `host`, a path, an image or a template, in this order. `image:NAME` and `template:NAME` say
/// which of the two is meant.
///
/// # Errors
/// There is no such thing, or there are both an image and a template of the name.
pub fn find(places: &Places, text: &str) -> Result<Base> {
    if text == "host" {
        return Ok(Base::of(From::Host { hide: Vec::new(), show: Vec::new() }));
    }
    if text.starts_with('/') || text.starts_with("./") || text.starts_with("../") || text == "." {
        let path = fs::canonicalize(text).with_context(|| format!("cannot use the folder {text}"))?;
        if !path.is_dir() {
            bail!("cannot use {}: it is no folder", path.display());
        }
        if path == Path::new("/") {
            bail!("the whole host would be shown with all its secrets: --from host leaves them out");
        }
        let data = fs::canonicalize(&places.data).unwrap_or_else(|_| places.data.clone());
        if path.starts_with(&data) || data.starts_with(&path) {
            bail!("cannot use {}: it shares files with the containers in {}", path.display(), data.display());
        }
        return Ok(Base::of(From::Folder { path }));
    }
    match text.split_once(':') {
        Some(("template", name)) => {
            find_template(places, name)?.with_context(|| format!("there is no template {name:?}"))
        }
        Some(("image", name)) => image(places, name)?.with_context(|| format!("there is no image {name:?}")),
        _ => match (image(places, text)?, find_template(places, text)?) {
            (Some(_), Some(_)) => {
                bail!("there are both an image and a template {text:?}: say image:{text} or template:{text}")
            }
            (None, None) => bail!("there is no image and no template {text:?}; a folder needs a path with a slash"),
            (image, template) => image.or(template).context("one of them is there"),
        },
    }
}

impl Base {
    /// One without a say in what runs.
    fn of(from: From) -> Base {
        Base { from, entrypoint: Vec::new(), process: Process::default(), stop_signal: None }
    }
}

fn image(places: &Places, name: &str) -> Result<Option<Base>> {
    let store = Store::open(&places.data)?;
    let image = match store.image(name) {
        Err(StoreError::NoImage(_) | StoreError::Name(_)) => return Ok(None),
        other => other?,
    };
    let config = image.config;
    let text = |text: String| Some(text).filter(|text| !text.is_empty());
    Ok(Some(Base {
        from: From::Image { name: image.name, layers: image.layers },
        entrypoint: config.entrypoint,
        process: Process {
            terminal: false,
            args: config.cmd,
            env: config.env,
            cwd: text(config.working_dir).unwrap_or_else(|| "/".to_owned()),
            user: text(config.user),
            first: First::Program,
        },
        stop_signal: config.stop_signal.map(|signal| signal.trim_start_matches("SIG").to_owned()),
    }))
}

fn find_template(places: &Places, name: &str) -> Result<Option<Base>> {
    if validate_name("template", name).is_err() || !places.templates().join(name).join("current").exists() {
        return Ok(None);
    }
    let from = From::Template { name: name.to_owned() };
    let version = template::read_defaults(places, &from)?;
    let Version { process, stop_signal, .. } = version;
    Ok(Some(Base { process, stop_signal, ..Base::of(from) }))
}

/// The folders of a base, the uppermost first.
///
/// # Errors
/// One of them is not there any more.
pub fn layers(places: &Places, from: &From) -> Result<Vec<PathBuf>> {
    let layers = match from {
        From::Folder { path } => vec![path.clone()],
        From::Adopted { path, lower, .. } => [std::slice::from_ref(path), lower].concat(),
        From::Host { .. } => vec![PathBuf::from("/")],
        From::Template { name } => {
            let current = places.templates().join(name).join("current");
            let version =
                fs::canonicalize(&current).with_context(|| format!("template {name:?} has no current version"))?;
            vec![version.join("rootfs")]
        }
        From::Image { layers, .. } => Store::open(&places.data)?.stack(layers)?,
    };
    for layer in &layers {
        if !layer.is_dir() {
            bail!("the layer {} is not there", layer.display());
        }
    }
    Ok(layers)
}

/// Keeps the layers of an image from being taken away until the result is dropped: from the look at it until what uses it
/// is on disk.
///
/// # Errors
/// One of them is not there any more.
pub fn pin(places: &Places, from: &From) -> Result<Option<Pin>> {
    let From::Image { layers, .. } = from else { return Ok(None) };
    Ok(Some(Store::open(&places.data)?.pin(layers)?))
}

/// The ids of a user inside a root file system.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct User {
    /// User.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Groups besides.
    pub groups: Vec<u32>,
    /// Home folder, where the user is known.
    pub home: Option<String>,
}

/// Finds `USER[:GROUP]` in the files of a root file system.
///
/// # Errors
/// A name that the files do not have.
pub fn find_user(layers: &[PathBuf], text: Option<&str>) -> Result<User> {
    let text = text.unwrap_or("0");
    let passwd = read_file(layers, "etc/passwd")?;
    let group = read_file(layers, "etc/group")?;
    parse_user(text, &passwd, &group)
}

/// The content of a file as the layers show it; empty where no layer has it.
fn read_file(layers: &[PathBuf], path: &str) -> Result<String> {
    for layer in layers {
        let root = sys::fs::open_dir(&layer.to_string_lossy())?;
        let found = match sys::fs::open_in_root(root.as_fd(), path, sys::fs::OFlags::PATH) {
            Err(error) if error.is(sys::Errno::NOENT) || error.is(sys::Errno::NOTDIR) => continue,
            other => other?,
        };
        // What is no file is not opened: it may be a device, a FIFO that nobody writes to, or the mark of what is gone.
        if sys::fs::file_type(&sys::fs::stat(found.as_fd())?) != sys::fs::FileType::RegularFile {
            return Ok(String::new());
        }
        let flags = sys::fs::OFlags::RDONLY | sys::fs::OFlags::NONBLOCK;
        let file = sys::fs::open_in_root(root.as_fd(), path, flags)?;
        /// More than any file of users has.
        const LIMIT: usize = 16 << 20;
        return Ok(String::from_utf8_lossy(&sys::fs::read_limited(file.as_fd(), LIMIT)?).into_owned());
    }
    Ok(String::new())
}

fn parse_user(text: &str, passwd: &str, group: &str) -> Result<User> {
    let (user, wanted_group) = match text.split_once(':') {
        Some((user, group)) => (user, Some(group)),
        None => (text, None),
    };
    let fields = |line: &str| line.split(':').map(str::to_owned).collect::<Vec<_>>();
    let number: Option<u32> = user.parse().ok();
    let entry = passwd
        .lines()
        .map(fields)
        .find(|entry| entry.len() >= 6 && (entry[0] == user || number.is_some_and(|uid| entry[2].parse() == Ok(uid))));
    let uid = match (&entry, number) {
        (_, Some(uid)) => uid,
        (Some(entry), None) => entry[2].parse().with_context(|| format!("/etc/passwd has a wrong id for {user:?}"))?,
        (None, None) => bail!("the container has no user {user:?} in /etc/passwd"),
    };
    let name = entry.as_ref().map(|entry| entry[0].clone());
    let groups: Vec<Vec<String>> = group.lines().map(fields).filter(|entry| entry.len() >= 4).collect();
    let gid = match wanted_group {
        Some(wanted) => match (wanted.parse(), groups.iter().find(|entry| entry[0] == wanted)) {
            (Ok(gid), _) => gid,
            (_, Some(entry)) => {
                entry[2].parse().with_context(|| format!("/etc/group has a wrong id for {wanted:?}"))?
            }
            (Err(_), None) => bail!("the container has no group {wanted:?} in /etc/group"),
        },
        None => entry.as_ref().and_then(|entry| entry[3].parse().ok()).unwrap_or(0),
    };
    let is_member = |entry: &&Vec<String>| name.as_ref().is_some_and(|name| entry[3].split(',').any(|m| m == name));
    let mut more: Vec<u32> = if wanted_group.is_some() {
        Vec::new()
    } else {
        groups.iter().filter(is_member).filter_map(|entry| entry[2].parse().ok()).filter(|g| *g != gid).collect()
    };
    more.sort_unstable();
    more.dedup();
    Ok(User { uid, gid, groups: more, home: entry.map(|entry| entry[5].clone()).filter(|home| home.starts_with('/')) })
}

/// Gives a folder the attributes of the root of the layer below: in an overlay the upper layer has the say.
///
/// # Errors
/// What the kernel says.
pub fn copy_root_attributes(from: &Path, to: &Path) -> Result<()> {
    use std::os::unix::fs::{MetadataExt, PermissionsExt};
    let below = fs::metadata(from).with_context(|| format!("cannot look at {}", from.display()))?;
    let chown = match sys::process::effective_uid() {
        0 => std::os::unix::fs::chown(to, Some(below.uid()), Some(below.gid())),
        // What an ordinary user makes is its own, and its container's root is that user.
        _ => Ok(()),
    };
    chown
        .and_then(|()| fs::set_permissions(to, fs::Permissions::from_mode(below.mode() & 0o7777)))
        .with_context(|| format!("cannot set the owner and mode of {}", to.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSWD: &str = "root:x:0:0:root:/root:/bin/sh\nweb:x:33:44:Web:/srv/web:/bin/false\nbroken\n";
    const GROUP: &str = "root:x:0:\nweb:x:44:\naudio:x:29:web,other\nvideo:x:30:other\n";

    #[test]
    fn what_is_no_file_has_no_users() {
        let dir = tempfile::tempdir().unwrap();
        let layers = ["upper", "lower"].map(|name| dir.path().join(name));
        for layer in &layers {
            fs::create_dir_all(layer.join("etc")).unwrap();
        }
        fs::write(layers[1].join("etc/passwd"), PASSWD).unwrap();
        assert_eq!(read_file(&layers, "etc/passwd").unwrap(), PASSWD);
        let upper = sys::fs::open_dir(&layers[0].to_string_lossy()).unwrap();
        sys::entry::mknod(upper.as_fd(), b"etc/passwd", sys::fs::FileType::Fifo, 0o600, 0).unwrap();
        assert_eq!(read_file(&layers, "etc/passwd").unwrap(), "");
    }

    #[test]
    fn users_are_found_by_name_and_number() {
        let user = |text| parse_user(text, PASSWD, GROUP).map(|user| (user.uid, user.gid, user.groups, user.home));
        assert_eq!(user("web").unwrap(), (33, 44, vec![29], Some("/srv/web".to_owned())));
        assert_eq!(user("33").unwrap(), (33, 44, vec![29], Some("/srv/web".to_owned())));
        assert_eq!(user("web:audio").unwrap(), (33, 29, vec![], Some("/srv/web".to_owned())));
        assert_eq!(user("1000:7").unwrap(), (1000, 7, vec![], None));
        assert_eq!(user("0").unwrap().3.as_deref(), Some("/root"));
        assert!(user("nobody").unwrap_err().to_string().contains("no user \"nobody\""));
        assert!(user("web:nogroup").unwrap_err().to_string().contains("no group"));
    }
}

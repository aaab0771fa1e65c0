//! Containers that are defined once: `skep`'s verbs for them, in a data folder of the test's own.

use std::path::{Path, PathBuf};

use crate::net::Net;
use crate::{Output, Sandbox, Value};

/// The verbs for defined containers, within a sandbox.
#[derive(Debug)]
pub struct Defined<'a> {
    sandbox: &'a Sandbox,
    /// The network namespace that stands for the host, if it is not the host's own.
    net: Option<&'a Net<'a>>,
    /// The data folder.
    pub data: PathBuf,
}

impl<'a> Defined<'a> {
    /// In a data folder inside the sandbox.
    pub fn new(sandbox: &'a Sandbox) -> Defined<'a> {
        Defined { sandbox, net: None, data: sandbox.dir.join("data") }
    }

    /// The same, with a network namespace that stands for the host.
    pub fn within(sandbox: &'a Sandbox, net: &'a Net<'a>) -> Defined<'a> {
        Defined { net: Some(net), ..Defined::new(sandbox) }
    }

    /// A name that no other test has: names are those of cgroups, too.
    pub fn name(&self, suffix: &str) -> String {
        format!("{}-{suffix}", self.sandbox.name)
    }

    /// A call, not yet made.
    pub fn prepare(&self, args: &[&str]) -> crate::Call {
        let call = match self.net {
            None => self.sandbox.call(args),
            Some(net) => {
                let root = text(&self.sandbox.root);
                net.call(&self.sandbox.runtime.path, &[&["--root", root], args].concat())
            }
        };
        call.env("SKEP_DATA", text(&self.data))
    }

    /// Calls a verb.
    pub fn call(&self, args: &[&str]) -> Output {
        self.prepare(args).run()
    }

    /// Edits a definition with a shell command that is given the file as its last argument.
    pub fn edit(&self, name: &str, command: &str) -> Output {
        let call = self.prepare(&["edit", name]).env("VISUAL", "").env("EDITOR", command);
        call.env("TMPDIR", text(&self.sandbox.dir)).run()
    }

    /// Defines a container of `from` that runs `command`.
    #[track_caller]
    pub fn create(&self, name: &str, from: &str, options: &[&str], command: &[&str]) -> Output {
        self.create_plain(name, from, &[options, &["--"], command].concat())
    }

    /// Defines a container of `from` that runs what `from` says.
    #[track_caller]
    pub fn create_plain(&self, name: &str, from: &str, options: &[&str]) -> Output {
        let parent = format!("/{}", self.sandbox.name);
        let mut args = vec!["create", name, "--from", from, "--cgroup-parent", &parent];
        args.extend(options);
        self.call(&args)
    }

    /// The entry of a container in `ls --format json`.
    ///
    /// # Panics
    /// When there is none.
    #[track_caller]
    pub fn listed(&self, name: &str) -> Value {
        let all = self.call(&["ls", "--format", "json"]).json();
        let entry = all.as_array().expect("a list").iter().find(|entry| entry["name"] == name).cloned();
        entry.unwrap_or_else(|| panic!("{name} is not listed in {all}"))
    }

    /// A file or folder of a container's.
    pub fn folder(&self, name: &str) -> PathBuf {
        self.data.join("containers").join(name)
    }

    /// A container's definition, as it is on disk.
    ///
    /// # Panics
    /// When there is none, or it is none.
    #[track_caller]
    pub fn definition(&self, name: &str) -> Value {
        let text = std::fs::read_to_string(self.folder(name).join("definition.toml")).expect("read the definition");
        toml::from_str(&text).expect("TOML")
    }

    /// Replaces it.
    ///
    /// # Panics
    /// When it cannot be written.
    #[track_caller]
    pub fn write_definition(&self, name: &str, definition: &Value) {
        let text = toml::to_string(definition).expect("TOML");
        std::fs::write(self.folder(name).join("definition.toml"), text).expect("write the definition");
    }

    /// What a container has written.
    ///
    /// # Panics
    /// When it has no log.
    #[track_caller]
    pub fn log(&self, name: &str) -> String {
        std::fs::read_to_string(self.folder(name).join("log")).expect("read the log")
    }

    /// A root file system with a busybox, as a folder of the host.
    pub fn base(&self) -> PathBuf {
        let dir = self.sandbox.dir.join("base");
        if !dir.exists() {
            let bundle = self.sandbox.bundle();
            std::fs::rename(bundle.rootfs(), &dir).expect("move the root file system");
        }
        dir
    }
}

/// Text of a path for a command line.
///
/// # Panics
/// When it is no text.
pub fn text(path: &Path) -> &str {
    path.to_str().expect("a path is text")
}

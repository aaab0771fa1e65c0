//! The top of `config.json` (config.md).

use std::collections::BTreeMap;

use super::{Linux, Process};

object! {
    /// The whole file.
    Config {
        "ociVersion" oci_version: String,
        "process" process: Process,
        "root" root: Root,
        "hostname" hostname: String,
        "domainname" domainname: String,
        "mounts" mounts: Vec<Mount>,
        "hooks" hooks: Hooks,
        "annotations" annotations: BTreeMap<String, String>,
        "linux" linux: Linux,
    }

    /// The root file system.
    Root {
        "path" path: String,
        "readonly" readonly: bool,
    }

    /// One mount.
    Mount {
        "destination" destination: String,
        "type" kind: String,
        "source" source: String,
        "options" options: Vec<String>,
        "uidMappings" uid_mappings: Vec<IdMapping>,
        "gidMappings" gid_mappings: Vec<IdMapping>,
    }

    /// One range of mapped ids.
    IdMapping {
        "containerID" container_id: u32,
        "hostID" host_id: u32,
        "size" size: u32,
    }

    /// Hooks by point.
    Hooks {
        "prestart" prestart: Vec<Hook>,
        "createRuntime" create_runtime: Vec<Hook>,
        "createContainer" create_container: Vec<Hook>,
        "startContainer" start_container: Vec<Hook>,
        "poststart" poststart: Vec<Hook>,
        "poststop" poststop: Vec<Hook>,
    }

    /// One hook.
    Hook {
        "path" path: String,
        "args" args: Vec<String>,
        "env" env: Vec<String>,
        "timeout" timeout: i64,
    }
}

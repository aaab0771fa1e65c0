//! What is said about a container: to callers, to hooks on stdin, and to a seccomp agent.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

/// What every command says of a container that there is not. Callers rely on the text, as on runc's.
pub const NOT_THERE: &str = "container does not exist";

/// What a runtime says of an id that a container has already; callers look for it.
pub const ALREADY_THERE: &str = "container with given ID already exists";

/// Where a container is in its life (runtime.md, state). `Paused` is an addition that other runtimes have too.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// `create` is at work.
    Creating,
    /// Made, and waiting for `start`.
    Created,
    /// The process of the definition runs.
    Running,
    /// The process has exited.
    Stopped,
    /// Frozen by `pause`.
    Paused,
}

impl Status {
    /// The name in documents and tables.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Status::Creating => "creating",
            Status::Created => "created",
            Status::Running => "running",
            Status::Stopped => "stopped",
            Status::Paused => "paused",
        }
    }

    /// Whether the container has a process.
    #[must_use]
    pub fn is_alive(self) -> bool {
        self != Status::Stopped
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// The state document (runtime.md, state), with the additions of runc, in runc's order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct State {
    /// Version of runtime-spec that this document follows.
    #[serde(rename = "ociVersion")]
    pub oci_version: String,
    /// The container's name.
    pub id: String,
    /// The container's process as the reader sees it. Required when `created` or `running`; runc prints 0 when stopped.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub pid: Option<u32>,
    /// Where the container is in its life.
    pub status: Status,
    /// Absolute path of the bundle.
    pub bundle: String,
    /// Absolute path of the root file system. Not in the documents for hooks and agents.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub rootfs: Option<String>,
    /// When it was created, RFC 3339 in UTC with up to nine digits of a second. Not in the documents for hooks and
    /// agents.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub created: Option<String>,
    /// The annotations of the definition.
    #[serde(skip_serializing_if = "BTreeMap::is_empty", default)]
    pub annotations: BTreeMap<String, String>,
    /// Name of the user who owns the state; `state` of runc prints it empty, `list` fills it.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub owner: Option<String>,
    /// Processes that the kernel killed for want of memory, once the container has stopped; absent for none. Not in runc.
    #[serde(rename = "oomKills", skip_serializing_if = "Option::is_none", default)]
    pub oom_kills: Option<u64>,
    /// What it used, once the container has stopped and as long as its groups are there; what it uses, where `list` was asked
    /// for that. Not in runc.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub usage: Option<Usage>,
    /// When the container's process began, in clock ticks since boot as `/proc/PID/stat` has it (proc(5), field 22): with it a
    /// caller that has opened the pid knows that it is still the same process. Not in runc.
    #[serde(rename = "processStart", skip_serializing_if = "Option::is_none", default)]
    pub process_start: Option<u64>,
}

/// What a container uses, or used in all.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Usage {
    /// Processor time in nanoseconds.
    pub cpu: u64,
    /// Most bytes of memory at once; 0 where the kernel does not tell (v2 before 5.19).
    pub memory_peak: u64,
    /// Bytes of memory now.
    #[serde(default)]
    pub memory: u64,
    /// Processes and threads now.
    #[serde(default)]
    pub pids: u64,
}

/// What a seccomp agent gets together with the descriptors (config-linux.md, the container process state).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ContainerProcessState {
    /// Version of runtime-spec that this document follows.
    #[serde(rename = "ociVersion")]
    pub oci_version: String,
    /// Names of the descriptors, in the order in which they are passed.
    pub fds: Vec<String>,
    /// The process under the filter, as the runtime sees it.
    pub pid: u32,
    /// `listenerMetadata` of the definition.
    #[serde(skip_serializing_if = "String::is_empty", default)]
    pub metadata: String,
    /// The container.
    pub state: State,
}

impl ContainerProcessState {
    /// The name of the notification descriptor in [`ContainerProcessState::fds`].
    pub const SECCOMP_FD: &'static str = "seccompFd";
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state() -> State {
        State {
            oci_version: "1.3.0".into(),
            id: "web1".into(),
            pid: Some(42),
            status: Status::Running,
            bundle: "/b".into(),
            rootfs: Some("/b/rootfs".into()),
            created: Some("2024-05-06T07:08:09.123456789Z".into()),
            annotations: BTreeMap::from([("k".into(), "v".into())]),
            owner: Some(String::new()),
            oom_kills: None,
            usage: None,
            process_start: None,
        }
    }

    #[test]
    fn keys_have_the_order_of_runc() {
        let text = serde_json::to_string(&state()).unwrap();
        assert_eq!(
            text,
            r#"{"ociVersion":"1.3.0","id":"web1","pid":42,"status":"running","bundle":"/b","rootfs":"/b/rootfs","created":"2024-05-06T07:08:09.123456789Z","annotations":{"k":"v"},"owner":""}"#
        );
        assert_eq!(serde_json::from_str::<State>(&text).unwrap(), state());
    }

    #[test]
    fn documents_for_hooks_and_agents_leave_the_additions_out() {
        let state = State { rootfs: None, created: None, owner: None, annotations: BTreeMap::new(), ..state() };
        let agent = ContainerProcessState {
            oci_version: "1.3.0".into(),
            fds: vec![ContainerProcessState::SECCOMP_FD.into()],
            pid: 42,
            metadata: String::new(),
            state,
        };
        assert_eq!(
            serde_json::to_string(&agent).unwrap(),
            r#"{"ociVersion":"1.3.0","fds":["seccompFd"],"pid":42,"state":{"ociVersion":"1.3.0","id":"web1","pid":42,"status":"running","bundle":"/b"}}"#
        );
    }

    #[test]
    fn the_document_of_the_specification_is_read() {
        let text = r#"{"ociVersion":"0.2.0","id":"a","status":"creating","bundle":"/containers/redis","unknown":1}"#;
        let state: State = serde_json::from_str(text).unwrap();
        assert_eq!((state.pid, state.status), (None, Status::Creating));
        assert_eq!(format!("{:<9}|", Status::Paused), "paused   |");
    }
}

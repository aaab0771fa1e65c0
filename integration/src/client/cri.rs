//! The Container Runtime Interface of containerd, spoken as a kubelet does: gRPC over HTTP/2 on a Unix socket.
//!
//! Debian has no client for it, so curl carries the frames. Source: kubernetes, `cri-api/pkg/apis/runtime/v1/api.proto`
//! (field numbers), and grpc, `doc/PROTOCOL-HTTP2.md` (one byte "not compressed", four bytes of length, the message;
//! the status comes in the trailers).

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};

use super::command::Cli;
use super::image::{PAUSE, SHELL};
use super::table::Test;
use crate::protobuf::{Fields, Message};

/// Which namespace a container or sandbox uses. The values are those of `NamespaceMode`.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Mode {
    /// The pod's.
    Pod = 0,
    /// Its own.
    Container = 1,
    /// The machine's.
    Node = 2,
}

/// The states of `ContainerState`.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum State {
    /// Made, not started.
    Created = 0,
    /// Runs.
    Running = 1,
    /// Ended.
    Exited = 2,
}

/// One pod as a test describes it.
#[derive(Clone, Debug)]
pub struct Pod {
    /// The name of the case.
    pub name: String,
    /// The pod's network: [`Mode::Pod`] or [`Mode::Node`].
    pub network: Mode,
    /// The default for the pid namespace of the pod's containers: [`Mode::Pod`] shares the sandbox's.
    pub pid: Mode,
    /// Whether the pod may have privileged containers.
    pub privileged: bool,
    /// Sysctls of the pod.
    pub sysctls: Vec<(&'static str, &'static str)>,
    /// The parent of the pod's groups: a path, or a slice where systemd makes groups.
    pub parent: String,
}

impl Pod {
    /// A pod with a network of its own and a pid namespace for each container, as Kubernetes has it by default.
    #[must_use]
    pub fn new(name: &str) -> Self {
        Self {
            name: name.into(),
            network: Mode::Pod,
            pid: Mode::Container,
            privileged: false,
            sysctls: Vec::new(),
            parent: "/kubepods/pod".to_owned(),
        }
    }

    /// `NamespaceOption`.
    fn namespaces(&self) -> Message {
        let message = Message::new().number(1, self.network as u64).number(2, self.pid as u64);
        message.number(3, Mode::Pod as u64)
    }

    /// `PodSandboxConfig`.
    fn config(&self, logs: &Path) -> Message {
        let metadata = Message::new().bytes(1, &self.name).bytes(2, &self.name).bytes(3, "default");
        let security = Message::new().message(1, &self.namespaces()).number(6, self.privileged.into());
        let mut linux = Message::new().bytes(1, &self.parent).message(2, &security);
        for (key, value) in &self.sysctls {
            linux = linux.entry(3, key, value);
        }
        // A pod on the machine's network keeps the machine's name.
        let hostname = if self.network == Mode::Node { "" } else { "pod-host" };
        let config = Message::new().message(1, &metadata).bytes(2, hostname);
        config.bytes(3, logs.as_os_str().as_encoded_bytes()).entry(6, "case", &self.name).message(8, &linux)
    }
}

/// One container as a test describes it.
#[derive(Clone, Debug)]
pub struct Container {
    name: String,
    command: Vec<String>,
    config: Message,
    resources: Message,
    security: Message,
}

impl Container {
    /// A container that runs a script.
    #[must_use]
    pub fn script(name: &str, script: &str) -> Self {
        Self {
            name: name.into(),
            command: ["/bin/sh", "-c", script].map(str::to_owned).into(),
            config: Message::new(),
            resources: Message::new(),
            security: Message::new(),
        }
    }

    /// Adds fields of `ContainerConfig`, `LinuxContainerResources` and `LinuxContainerSecurityContext`.
    #[must_use]
    pub fn with(mut self, config: Message, resources: Message, security: Message) -> Self {
        (self.config, self.resources, self.security) = (config, resources, security);
        self
    }

    fn message(&self, pod: &Pod) -> Message {
        let metadata = Message::new().bytes(1, &self.name);
        let image = Message::new().bytes(1, format!("docker.io/library/{SHELL}:latest"));
        let security = self.security.clone().message(3, &pod.namespaces());
        let linux = Message::new().message(1, &self.resources).message(2, &security);
        let mut config = self.config.clone().message(1, &metadata).message(2, &image);
        for word in &self.command {
            config = config.bytes(3, word);
        }
        config.bytes(11, format!("{}.log", self.name)).message(15, &linux)
    }
}

/// What a command in a container gave.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Ran {
    /// Its exit code.
    pub code: u64,
    /// Its standard output without the white space at the end.
    pub out: String,
    /// Its standard error without the white space at the end.
    pub err: String,
}

/// The interface.
#[derive(Debug)]
pub struct Cri<'a> {
    curl: &'a Cli,
    dir: PathBuf,
}

impl<'a> Cri<'a> {
    /// Prepares calls over `curl`, whose program words name the socket; frames and logs are kept in the case's folder.
    ///
    /// # Errors
    /// The folder cannot be made.
    pub fn new(test: &'a Test<'_>) -> Result<Self> {
        Ok(Self { curl: test.cli, dir: test.folder()? })
    }

    /// The same for a caller without a table of cases, in a folder of its own.
    #[must_use]
    pub fn at(curl: &'a Cli, dir: PathBuf) -> Self {
        Self { curl, dir }
    }

    /// The words that make curl a caller of the interface at `socket`.
    #[must_use]
    pub fn program(socket: &str) -> Vec<String> {
        let fixed = "curl --silent --show-error --max-time 50 --http2-prior-knowledge --request POST \
            --header content-type:application/grpc --header te:trailers --unix-socket";
        fixed.split_whitespace().chain([socket]).map(str::to_owned).collect()
    }

    /// Calls one method of the runtime service.
    ///
    /// # Errors
    /// The call cannot be made, or its status is not 0.
    pub fn call(&self, method: &str, request: &Message) -> Result<Fields> {
        let (sent, got, headers) = (self.dir.join("request"), self.dir.join("response"), self.dir.join("headers"));
        fs::write(&sent, frame(request)?)?;
        let words = format!(
            "--data-binary @{} --output {} --dump-header {} http://localhost/runtime.v1.RuntimeService/{method}",
            sent.display(),
            got.display(),
            headers.display()
        );
        self.curl.run(&words, "")?.ok()?;
        let headers = fs::read_to_string(&headers)?;
        let find = |name: &str| headers.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
        let status = find("grpc-status:").with_context(|| format!("{method}: no status in {headers}"))?;
        ensure!(status == "0", "{method}: status {status}: {}", find("grpc-message:").unwrap_or_default());
        let answer = fs::read(&got)?;
        fs::remove_file(&got)?;
        Fields::parse(unframe(&answer)?).with_context(|| method.to_owned())
    }

    /// Starts a sandbox and returns its id.
    ///
    /// # Errors
    /// The call fails.
    pub fn run_sandbox(&self, pod: &Pod) -> Result<String> {
        let request = Message::new().message(1, &pod.config(&self.dir));
        Ok(self.call("RunPodSandbox", &request)?.text(1))
    }

    /// Makes a container in a sandbox and returns its id.
    ///
    /// # Errors
    /// The call fails.
    pub fn create(&self, sandbox: &str, pod: &Pod, container: &Container) -> Result<String> {
        let request = Message::new().bytes(1, sandbox).message(2, &container.message(pod));
        Ok(self.call("CreateContainer", &request.message(3, &pod.config(&self.dir)))?.text(1))
    }

    /// Makes and starts a container and returns its id.
    ///
    /// # Errors
    /// A call fails.
    pub fn start(&self, sandbox: &str, pod: &Pod, container: &Container) -> Result<String> {
        let id = self.create(sandbox, pod, container)?;
        self.call("StartContainer", &Message::new().bytes(1, &id))?;
        Ok(id)
    }

    /// Runs a script in a container and waits for it, at most 20 s.
    ///
    /// # Errors
    /// The call fails.
    pub fn exec(&self, container: &str, script: &str) -> Result<Ran> {
        let request = Message::new().bytes(1, container).bytes(2, "/bin/sh").bytes(2, "-c").bytes(2, script);
        let answer = self.call("ExecSync", &request.number(3, 20))?;
        let text = |field| answer.text(field).trim_end().to_owned();
        Ok(Ran { code: answer.number(3), out: text(1), err: text(2) })
    }

    /// Runs a script in a container that must end with 0 and returns what it printed.
    ///
    /// # Errors
    /// The call or the script fails.
    pub fn exec_ok(&self, container: &str, script: &str) -> Result<String> {
        let ran = self.exec(container, script)?;
        ensure!(ran.code == 0, "`{script}` ended with {ran:?}");
        Ok(ran.out)
    }

    /// Reads the state and the exit code of a container.
    ///
    /// # Errors
    /// The call fails or the state is unknown.
    pub fn status(&self, container: &str) -> Result<(State, u64)> {
        let status = self.call("ContainerStatus", &Message::new().bytes(1, container))?.message(1)?;
        let state = match status.number(3) {
            0 => State::Created,
            1 => State::Running,
            2 => State::Exited,
            other => bail!("container {container} is in state {other}"),
        };
        Ok((state, status.number(7)))
    }

    /// Stops a container, by force after `seconds`.
    ///
    /// # Errors
    /// The call fails.
    pub fn stop(&self, container: &str, seconds: u64) -> Result<()> {
        self.call("StopContainer", &Message::new().bytes(1, container).number(2, seconds)).map(drop)
    }

    /// Stops and removes every sandbox of the case with its containers.
    ///
    /// # Errors
    /// A call fails.
    pub fn remove_all(&self, case: &str) -> Result<()> {
        let filter = Message::new().entry(3, "case", case);
        let list = self.call("ListPodSandbox", &Message::new().message(1, &filter))?;
        for sandbox in list.messages(1)? {
            let request = Message::new().bytes(1, sandbox.text(1));
            self.call("StopPodSandbox", &request)?;
            self.call("RemovePodSandbox", &request)?;
        }
        Ok(())
    }

    /// What a container wrote, as the log file has it: `TIME STREAM TAG TEXT` lines, here without time and tag.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn log(&self, name: &str) -> Result<String> {
        let text = fs::read_to_string(self.dir.join(format!("{name}.log")))?;
        let mut lines = Vec::new();
        for line in text.lines() {
            let parts: Vec<&str> = line.splitn(4, ' ').collect();
            ensure!(parts.len() == 4, "a log line of another form: {line}");
            lines.push(format!("{} {}", parts[1], parts[3]));
        }
        Ok(lines.join("\n"))
    }
}

/// The part of containerd's configuration that makes pods from the runtime under test. It ends in the runtime's options.
#[must_use]
pub fn configuration(runtime: &Path, cni: &Path) -> String {
    format!(
        r#"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "{PAUSE}"
  restrict_oom_score_adj = true
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "/usr/lib/cni"
    conf_dir = "{}"
  [plugins."io.containerd.grpc.v1.cri".containerd]
    default_runtime_name = "test"
    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.test]
      runtime_type = "io.containerd.runc.v2"
      [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.test.options]
        BinaryName = "{}"
"#,
        cni.display(),
        runtime.display()
    )
}

fn frame(message: &Message) -> Result<Vec<u8>> {
    let mut frame = vec![0];
    frame.extend_from_slice(&u32::try_from(message.encoded().len())?.to_be_bytes());
    frame.extend_from_slice(message.encoded());
    Ok(frame)
}

fn unframe(frame: &[u8]) -> Result<&[u8]> {
    let (head, body) = frame.split_first_chunk::<5>().context("an answer without a frame")?;
    let length = u32::from_be_bytes([head[1], head[2], head[3], head[4]]);
    ensure!(head[0] == 0 && usize::try_from(length)? == body.len(), "a frame of another form");
    Ok(body)
}

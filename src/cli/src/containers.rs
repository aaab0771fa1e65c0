//! The commands that work on containers: from typed arguments to the engine, and from its answers to output.

use std::os::fd::AsFd;

use anyhow::{Context as _, bail};
use engine::bundle::Bundle;
use engine::ops::delete::{Force, Report, delete};
use engine::ops::exec::{Changes, Program, exec};
use engine::ops::inside::Change;
use engine::ops::kill::{Target as Recipient, kill};
use engine::ops::run::{Stay, run};
use engine::ops::{self, Context};
use engine::options::{CreateOptions, ExecOptions, Notify};
use runtime_spec::state::Status;
use runtime_spec::timeline::Timeline;
use runtime_spec::{Finding, Severity};
use sys::process::Exit;
use sys::regex::Regex;

use crate::args::Global;
use crate::args::command::{
    BundleArgs, CgroupManager, CheckpointArgs, Command, CreateArgs, DeleteArgs, ExecArgs, Format, HandoverArgs,
    KillArgs, Level, ListArgs, PlanArgs, PsArgs, RestoreArgs, RunArgs, Target, UpdateArgs,
};
use crate::bundle::read_bundle;
use crate::caller::{Caller, kept_fds};
use crate::criu;
use crate::errors::SUCCESS;
use crate::follow;
use crate::limits::render_resources;
use crate::log::Log;
use crate::output::{self, list, plan, ps, state};

/// What every command here works with.
struct Session<'a> {
    global: &'a Global,
    caller: Caller,
    engine: Context<'a>,
}

/// Performs one command.
///
/// # Errors
/// What the engine says; the caller chooses the exit code.
pub fn perform(global: &Global, log: &Log, command: &Command, timeline: Option<&Timeline>) -> anyhow::Result<u8> {
    let tell = |level: engine::Level, text: &str| match level {
        engine::Level::Warning => log.warning(text),
        engine::Level::Debug => log.debug(text),
    };
    let caller = Caller::probe()?;
    let root = caller.state_root(global)?;
    let mut engine = Context::new(root.path.clone(), &tell, log.shows(Level::Debug))?;
    engine.timeline = timeline;
    if !matches!(command, Command::Create(_) | Command::Run(_) | Command::Exec(_)) {
        // Hooks get nothing of the caller's but the standard streams; the other commands see to it when they protect themselves.
        sys::process::close_on_exec_from(3)?;
    }
    let session = Session { global, caller, engine };
    if matches!(command, Command::Create(_) | Command::Run(_) | Command::Restore(_)) {
        sys::process::ensure_standard_fds()?;
        root.make()?;
    }
    let mark = session.engine.mark();
    let code = session.perform(command);
    session.engine.spent("command", mark);
    code
}

/// Whether a container was created and its process waits for `start`.
///
/// # Errors
/// Its state cannot be read.
pub fn waits_for_start(global: &Global, log: &Log, id: &str) -> anyhow::Result<bool> {
    let tell = |_: engine::Level, text: &str| log.debug(text);
    let root = Caller::probe()?.state_root(global)?;
    match ops::state(&Context::new(root.path, &tell, false)?, id) {
        Ok(state) => Ok(state.status == Status::Created),
        Err(engine::Error::NotFound) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

impl Session<'_> {
    fn perform(&self, command: &Command) -> anyhow::Result<u8> {
        match command {
            Command::Create(args) => self.create(args),
            Command::Run(args) => self.run(args),
            Command::Exec(args) => self.exec(args),
            Command::Start(id) => done(ops::start::start(&self.engine, id, self.caller.notify_socket.as_deref())),
            Command::State(id) => print(&state::render_state(&ops::state(&self.engine, id)?)?),
            Command::Kill(args) => self.kill(args),
            Command::Delete(args) => self.delete(args),
            Command::List(args) => self.list(*args),
            Command::Ps(args) => self.ps(args),
            Command::Pause(id) => done(ops::pause::pause(&self.engine, id)),
            Command::Resume(id) => done(ops::pause::resume(&self.engine, id)),
            Command::Update(args) => self.update(args),
            Command::Inside(args) => done(ops::inside::change(&self.engine, &args.id, &self.absolute(&args.change))),
            Command::Events(args) => follow::events(&self.engine, args).map(|()| SUCCESS),
            Command::Plan(args) => self.plan(args),
            Command::Checkpoint(args) => self.checkpoint(args),
            Command::Restore(args) => self.restore(args),
            Command::Spec(_)
            | Command::Features(_)
            | Command::Check(_)
            | Command::Managed
            | Command::Lxc
            | Command::Svc
            | Command::Version
            | Command::Help(_) => {
                bail!("this command works on no container")
            }
        }
    }

    fn bundle(&self, args: &BundleArgs) -> anyhow::Result<Bundle> {
        let mark = self.engine.mark();
        let read = read_bundle(&self.caller, args.bundle.as_deref(), args.config.as_deref())?;
        let bundle = engine::bundle::judge_bundle(&read.dir, read.bytes)?;
        self.engine.spent("read_config", mark);
        Ok(bundle)
    }

    fn create_options(
        &self,
        id: &str,
        bundle: &Bundle,
        args: &BundleArgs,
        handover: &HandoverArgs,
    ) -> anyhow::Result<CreateOptions> {
        let path = |path: &Option<String>| path.as_ref().map(|path| self.caller.absolute(path));
        let veths = args.veth.iter().map(|text| network::parse_veth(text).with_context(|| format!("--veth {text}")));
        let links = args.link.iter().map(|text| network::parse_link(text).with_context(|| format!("--link {text}")));
        Ok(CreateOptions {
            id: id.to_owned(),
            bundle: bundle.path.clone(),
            rootfs: bundle.rootfs.clone(),
            console_socket: path(&handover.console_socket),
            pidfd_socket: path(&handover.pidfd_socket),
            pid_file: path(&handover.pid_file),
            no_pivot: args.no_pivot,
            no_new_keyring: args.no_new_keyring,
            preserve_fds: handover.preserve_fds,
            listen_fds: self.caller.listen_fds,
            notify: self.notify(id),
            links: veths.chain(links).collect::<anyhow::Result<_>>()?,
            rootless_cgroups: self.global.rootless,
            id_map_helpers: self.caller.id_map_helpers(),
            no_cgroups: self.global.cgroup_manager == CgroupManager::Disabled,
            systemd: match self.global.cgroup_manager {
                CgroupManager::Systemd => Some(self.caller.systemd()?),
                CgroupManager::Cgroupfs | CgroupManager::Disabled => None,
            },
            start_by_other: false,
        })
    }

    /// Whoever started us with `NOTIFY_SOCKET` waits for the container's program, not for us.
    fn notify(&self, id: &str) -> Option<Notify> {
        let socket = self.caller.notify_socket.clone()?;
        Some(Notify { socket, folder: format!("{}/{id}/{}", self.engine.root, engine::state::NOTIFY_FOLDER) })
    }

    fn create(&self, args: &CreateArgs) -> anyhow::Result<u8> {
        check_preserved(kept_fds(&args.handover))?;
        let bundle = self.bundle(&args.bundle)?;
        let mut options = self.create_options(&args.id, &bundle, &args.bundle, &args.handover)?;
        options.start_by_other = true;
        ops::create::create(&self.engine, &bundle, &options).context(self.says("create failed"))?;
        Ok(SUCCESS)
    }

    fn run(&self, args: &RunArgs) -> anyhow::Result<u8> {
        let create = &args.create;
        check_preserved(kept_fds(&create.handover))?;
        let bundle = self.bundle(&create.bundle)?;
        let options = self.create_options(&create.id, &bundle, &create.bundle, &create.handover)?;
        let stay = match (args.detach, args.keep) {
            (true, _) => Stay::Detached,
            (false, true) => Stay::ForegroundAndKeep,
            (false, false) => Stay::Foreground,
        };
        if stay != Stay::Detached && !args.no_subreaper {
            sys::process::set_child_subreaper()?;
        }
        run(&self.engine, &bundle, &options, stay).context(self.says("run failed")).map(exit_code)
    }

    fn checkpoint(&self, args: &CheckpointArgs) -> anyhow::Result<u8> {
        let options = criu::checkpoint_options(&self.caller, args)?;
        done(ops::checkpoint::checkpoint(&self.engine, &args.id, options))
    }

    fn restore(&self, args: &RestoreArgs) -> anyhow::Result<u8> {
        let create = &args.create;
        let bundle = self.bundle(&create.bundle)?;
        let options = self.create_options(&create.id, &bundle, &create.bundle, &create.handover)?;
        let stay = if args.detach { Stay::Detached } else { Stay::Foreground };
        if stay != Stay::Detached && !args.no_subreaper {
            sys::process::set_child_subreaper()?;
        }
        let restore = criu::restore_options(&self.caller, args);
        Ok(exit_code(ops::restore::restore(&self.engine, &bundle, &options, &restore, stay)?))
    }

    /// Which command failed, in the words of the program that we are called as.
    fn says(&self, what: &str) -> String {
        format!("{} {what}: unable to start container process", self.global.program.name())
    }

    fn exec(&self, args: &ExecArgs) -> anyhow::Result<u8> {
        check_preserved(args.handover.preserve_fds)?;
        let program = match &args.process {
            Some(file) => Program::Process(Box::new(self.read_process(file)?)),
            None => Program::Like(changes(args)),
        };
        let path = |path: &Option<String>| path.as_ref().map(|path| self.caller.absolute(path));
        let options = ExecOptions {
            console_socket: path(&args.handover.console_socket),
            pidfd_socket: path(&args.handover.pidfd_socket),
            pid_file: path(&args.handover.pid_file),
            preserve_fds: args.handover.preserve_fds,
            detach: args.detach,
            ignore_paused: args.ignore_paused,
            cgroups: args
                .cgroups
                .iter()
                .map(|sub| cgroup::SubGroup { controllers: sub.controllers.clone(), path: sub.path.clone() })
                .collect(),
        };
        let exit = exec(&self.engine, &args.id, program, &options).context("exec failed")?;
        Ok(exit_code(exit))
    }

    fn read_process(&self, file: &str) -> anyhow::Result<runtime_spec::model::Process> {
        let path = self.caller.absolute(file);
        let bytes = sys::fs::read_at(sys::fs::CWD, &path).context("cannot read the process")?;
        let (findings, process) = runtime_spec::load_process(&bytes);
        self.tell(&findings);
        process.with_context(|| format!("invalid process in {path}: {}", errors_of(&findings)))
    }

    fn tell(&self, findings: &[Finding]) {
        for finding in findings.iter().filter(|f| f.severity == Severity::Warning) {
            (self.engine.log)(engine::Level::Warning, &format!("{}: {}", finding.pointer, finding.message));
        }
    }

    fn kill(&self, args: &KillArgs) -> anyhow::Result<u8> {
        let recipient = if args.all { Recipient::All } else { Recipient::Init };
        self.each(&args.target, |id| Ok(kill(&self.engine, id, args.signal.0, recipient)?))
    }

    fn delete(&self, args: &DeleteArgs) -> anyhow::Result<u8> {
        let force = if args.force { Force::Yes } else { Force::No };
        let report = if args.usage { Report::Yes } else { Report::No };
        self.each(&args.target, |id| match delete(&self.engine, id, force, report)? {
            Some(state) => print(&state::render_state(&state)?).map(drop),
            None => Ok(()),
        })
    }

    /// One container, or all whose id matches: then each is tried, and the first failure is returned.
    fn each(&self, target: &Target, act: impl Fn(&str) -> anyhow::Result<()>) -> anyhow::Result<u8> {
        let pattern = match target {
            Target::Id(id) => {
                act(id)?;
                return Ok(SUCCESS);
            }
            Target::Matching(pattern) => Regex::new(pattern).with_context(|| format!("--regex {pattern:?}"))?,
        };
        let mut first = Ok(SUCCESS);
        for entry in ops::list::list(&self.engine, false)? {
            let id = &entry.document.id;
            if !pattern.is_match(id) {
                continue;
            }
            if let Err(error) = act(id).with_context(|| format!("container {id}")) {
                match first {
                    Ok(_) => first = Err(error),
                    Err(_) => (self.engine.log)(engine::Level::Warning, &format!("{error:#}")),
                }
            }
        }
        first
    }

    fn list(&self, args: ListArgs) -> anyhow::Result<u8> {
        let entries = ops::list::list(&self.engine, args.usage)?;
        // A machine without the file has users without names.
        let passwd = std::fs::read_to_string("/etc/passwd").unwrap_or_default();
        let documents: Vec<_> = entries
            .into_iter()
            .map(|mut entry| {
                entry.document.owner = Some(list::owner_name(&passwd, entry.owner));
                entry.document
            })
            .collect();
        print(&list::render_list(&documents, args)?)
    }

    fn ps(&self, args: &PsArgs) -> anyhow::Result<u8> {
        let pids = ops::pids(&self.engine, &args.id)?;
        match args.format {
            Format::Json => print(&output::render_json(&pids)?),
            Format::Table => print(&ps::read_processes(&args.options, &pids)?),
        }
    }

    fn update(&self, args: &UpdateArgs) -> anyhow::Result<u8> {
        if args.kernel_memory {
            (self.engine.log)(
                engine::Level::Warning,
                "kernel memory limits do not exist any more: the option is ignored",
            );
        }
        let (findings, resources) = match args.resources.as_deref() {
            None => {
                let resources = render_resources(&args.limits);
                runtime_spec::validate::validate_resources(&resources, runtime_spec::validate::Purpose::Update)
            }
            Some("-") => runtime_spec::load_resources(&sys::fs::read_all(std::io::stdin().as_fd())?),
            Some(file) => {
                let path = self.caller.absolute(file);
                runtime_spec::load_resources(
                    &sys::fs::read_at(sys::fs::CWD, &path).context("cannot read the resources")?,
                )
            }
        };
        self.tell(&findings);
        let resources = resources.with_context(|| format!("invalid resources: {}", errors_of(&findings)))?;
        ops::update::update(&self.engine, &args.id, &resources)?;
        if args.l3_cache_schema.is_some() || args.mem_bw_schema.is_some() {
            let schemata = (args.l3_cache_schema.as_deref(), args.mem_bw_schema.as_deref());
            ops::update::update_resctrl(&self.engine, &args.id, schemata)?;
        }
        Ok(SUCCESS)
    }

    /// The same change with the path on the host absolute.
    fn absolute(&self, change: &Change) -> Change {
        let mut change = change.clone();
        if let Change::Mount { source, .. } | Change::Node { source, .. } = &mut change {
            *source = self.caller.absolute(source);
        }
        change
    }

    fn plan(&self, args: &PlanArgs) -> anyhow::Result<u8> {
        let bundle = self.bundle(&args.bundle)?;
        let id = args.id.as_deref().unwrap_or("container");
        let options = self.create_options(id, &bundle, &args.bundle, &HandoverArgs::default())?;
        let planned = ops::create::plan(&self.engine, &bundle, &options)?;
        print(&if args.json { plan::render_document(&planned)? } else { plan::render_text(&planned)? })
    }
}

fn changes(args: &ExecArgs) -> Changes {
    let capabilities = args.caps.iter().filter_map(|name| runtime_spec::capabilities::bit(name));
    Changes {
        args: args.command.clone(),
        env: args.env.clone(),
        cwd: args.cwd.clone(),
        user: args.user.map(|user| (user.uid, user.gid)),
        additional_gids: args.additional_gids.clone(),
        capabilities: capabilities.fold(0, |mask, bit| mask | 1 << bit),
        no_new_privileges: args.no_new_privs,
        terminal: args.tty,
        process_label: args.process_label.clone(),
        apparmor: args.apparmor.clone(),
    }
}

/// Descriptors that are to stay open are the caller's: a number that it left free may be one of our own by now (the log,
/// the host's `/proc`), which must not reach the container.
fn check_preserved(count: u32) -> anyhow::Result<()> {
    for number in 3..3_u32.saturating_add(count) {
        if !sys::process::is_inherited(i32::try_from(number)?) {
            bail!(
                "please check that preserved-fd {} (of {count}) is present: descriptor {number} is not open",
                number - 2
            );
        }
    }
    Ok(())
}

fn errors_of(findings: &[Finding]) -> String {
    let errors = findings.iter().filter(|f| f.severity == Severity::Error);
    errors.map(|f| format!("{}: {}", f.pointer, f.message)).collect::<Vec<_>>().join("; ")
}

fn exit_code(exit: Option<Exit>) -> u8 {
    exit.map_or(SUCCESS, |exit| u8::try_from(exit.shell_code() & 0xff).unwrap_or(u8::MAX))
}

fn done(outcome: engine::Result<()>) -> anyhow::Result<u8> {
    outcome?;
    Ok(SUCCESS)
}

fn print(text: &str) -> anyhow::Result<u8> {
    output::print(text)?;
    Ok(SUCCESS)
}

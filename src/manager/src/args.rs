//! The command line: what `skep` hands over, with its own options in front.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

use crate::args_config::{self, CheckconfigArgs, ConfigVerb, EditArgs};
use crate::args_kept::{
    self, CopyArgs, DiffArgs, ExportArgs, GcArgs, RefreshArgs, RestoreArgs, SnapshotArgs, TemplateArgs,
};
use crate::args_list::{self, LsArgs};
use crate::args_live::{self, CgroupVerb, DeviceVerb, MonitorArgs, MountVerb};
use crate::args_network::ConnectionArgs;
use crate::args_running::{
    self, AttachArgs, AutostartArgs, AutostartOptions, ConsoleArgs, DoctorArgs, InfoArgs, LogsArgs, RunArgs, StartArgs,
    StatusArgs, TopArgs, WaitArgs,
};
use crate::copied::Storage;
use crate::definition::{Device, Restart, Seccomp, Volume, parse_cpus, parse_device, parse_volume};
use crate::lxc::LxcArgs;
use crate::output::Format;
use crate::quota::parse_disk_size;
use crate::size::parse_size;
use crate::validate::{WAIT_MAX, validate_memory};

/// Containers that are defined once, then started, stopped and listed by name.
#[derive(Debug, Parser)]
#[command(name = "skep", version)]
pub struct Cli {
    /// What is wanted.
    #[command(subcommand)]
    pub verb: Verb,
    /// Options of every verb.
    #[command(flatten)]
    pub global: Global,
}

/// Options of every verb.
#[derive(Debug, Args)]
pub struct Global {
    /// Keep definitions, images, templates and networks below DIR: /var/lib/skep, or ~/.local/share/skep of an ordinary user.
    #[arg(long, global = true, value_name = "DIR", env = "SKEP_DATA")]
    pub data: Option<PathBuf>,
    /// Keep the state of running containers below DIR.
    #[arg(long, global = true, value_name = "DIR")]
    pub root: Option<String>,
    /// Write messages of the runtime to TARGET.
    #[arg(long, global = true, value_name = "TARGET", hide = true)]
    pub log: Option<String>,
    /// How those messages look.
    #[arg(long, global = true, value_name = "FORMAT", hide = true)]
    pub log_format: Option<String>,
    /// From which level on messages are written.
    #[arg(long, global = true, value_name = "LEVEL", hide = true)]
    pub log_level: Option<String>,
    /// Write every message.
    #[arg(long, global = true, hide = true)]
    pub debug: bool,
    /// Write the time of each phase to FILE, as text, or as a Chrome trace where its name ends in .json.
    #[arg(long, global = true, value_name = "FILE")]
    pub trace: Option<String>,
    /// Let systemd make the cgroup.
    #[arg(long, global = true)]
    pub systemd_cgroup: bool,
    /// Who makes the cgroup: cgroupfs, systemd or disabled.
    #[arg(long, global = true, value_name = "MANAGER")]
    pub cgroup_manager: Option<String>,
    /// Tolerate cgroups that may not be written: true, false or auto.
    #[arg(long, global = true, value_name = "WHEN", hide = true)]
    pub rootless: Option<String>,
}

/// What is wanted.
#[derive(Debug, Subcommand)]
#[command(defer = true)]
pub enum Verb {
    /// Define a container.
    #[command(after_help = CREATE_EXAMPLES)]
    Create(Box<CreateArgs>),
    /// Start defined containers.
    Start(StartArgs),
    /// Stop containers and start them again: an init is asked to reboot.
    Restart(StopArgs),
    /// Wait until containers have stopped, or run.
    #[command(after_help = args_running::WAIT_EXAMPLES)]
    Wait(WaitArgs),
    /// Show what a container wrote.
    Logs(LogsArgs),
    /// Join the terminal of a container.
    Console(ConsoleArgs),
    /// Run a program, or a shell, in a container.
    #[command(after_help = args_running::ATTACH_EXAMPLES)]
    Attach(AttachArgs),
    /// Show all that is known of containers.
    Info(InfoArgs),
    /// Show what a container does just now: its processes, limits, stalls and last words.
    Status(StatusArgs),
    /// Show what containers use, again and again; q leaves.
    #[command(after_help = args_running::TOP_EXAMPLES)]
    Top(TopArgs),
    /// Start what begins with the machine, in its order; or stop it.
    #[command(after_help = args_running::AUTOSTART_EXAMPLES)]
    Autostart(AutostartArgs),
    /// Print and change values of a definition.
    #[command(subcommand, after_help = args_config::CONFIG_EXAMPLES)]
    Config(ConfigVerb),
    /// Change a definition in your editor.
    Edit(EditArgs),
    /// Say all that is wrong with definitions, with file and line; 1 where something is.
    #[command(after_help = args_config::CHECKCONFIG_EXAMPLES)]
    Checkconfig(CheckconfigArgs),
    /// Say what this host can do, what is missing, and what to do about it.
    Doctor(DoctorArgs),
    /// Print and set limits of a container by the names of their files.
    #[command(subcommand, after_help = args_live::CGROUP_EXAMPLES)]
    Cgroup(CgroupVerb),
    /// Give a container a device or a link of the host, or take it away.
    #[command(subcommand, after_help = args_live::DEVICE_EXAMPLES)]
    Device(DeviceVerb),
    /// Show a folder or file of the host in a container, or take it away.
    #[command(subcommand, after_help = args_live::MOUNT_EXAMPLES)]
    Mount(MountVerb),
    /// Tell when containers change their states, until Control-c.
    #[command(after_help = args_live::MONITOR_EXAMPLES)]
    Monitor(MonitorArgs),
    /// Let no process of a container go on.
    Freeze(Names),
    /// Let them go on.
    Unfreeze(Names),
    /// What a monitor calls when its container has ended.
    #[command(hide = true)]
    Ended(RunArgs),
    /// What a monitor calls to start its container again.
    #[command(hide = true)]
    Again(RunArgs),
    /// Stop running containers: an init is asked in its own way.
    #[command(after_help = STOP_EXAMPLES)]
    Stop(StopArgs),
    /// Remove definitions with all that the containers changed.
    Destroy(DestroyArgs),
    /// List containers with what they use: those that are defined, and those that engines have made below the same --root.
    #[command(after_help = args_list::EXAMPLES)]
    Ls(LsArgs),
    /// Root file systems that were made elsewhere.
    #[command(subcommand)]
    Image(ImageVerb),
    /// Bridges with addresses for containers.
    #[command(subcommand)]
    Network(NetworkVerb),
    /// Keep what a container has changed so far.
    #[command(after_help = args_kept::SNAPSHOT_EXAMPLES)]
    Snapshot(SnapshotArgs),
    /// Take a stopped container back to a snapshot.
    Restore(RestoreArgs),
    /// Define a container that begins with the files of another.
    Copy(CopyArgs),
    /// Give a stopped container another name.
    Rename(CopyArgs),
    /// List what a container has changed.
    Diff(DiffArgs),
    /// Write the files that a container sees as a tar archive.
    Export(ExportArgs),
    /// Restart containers whose template or host has newer files.
    Refresh(RefreshArgs),
    /// Remove frozen changes, image layers and template versions that nothing needs.
    Gc(GcArgs),
    /// Build and switch templates.
    #[command(after_help = args_kept::TEMPLATE_EXAMPLES)]
    Template(TemplateArgs),
    /// Called by the runtime as a hook, with the container's state as its input: what its network needs its process for.
    #[command(hide = true)]
    Connect {
        /// The container.
        name: String,
    },
}

/// `network`.
#[derive(Debug, Subcommand)]
#[command(defer = true)]
pub enum NetworkVerb {
    /// Define a network: its bridge comes up with the first container.
    #[command(after_help = NETWORK_EXAMPLES)]
    Create(NetworkArgs),
    /// List networks.
    List(Printed),
    /// Show a network and who has which address.
    Show {
        /// The network.
        name: String,
        /// How it is printed.
        #[command(flatten)]
        printed: Printed,
    },
    /// Remove networks that no container has.
    Remove {
        /// The networks.
        #[arg(required = true, value_name = "NAME")]
        names: Vec<String>,
    },
}

const NETWORK_EXAMPLES: &str = "\
Examples:
  skep network create web --subnet 10.20.0.0/24 --subnet fd00:20::/64
  skep create web1 --from app --network web --publish 8080:80
  skep network show web";

/// `network create`.
#[derive(Debug, Args)]
pub struct NetworkArgs {
    /// The network's name.
    pub name: String,
    /// Addresses for containers, once for each family; free ones without it.
    #[arg(long, value_name = "CIDR")]
    pub subnet: Vec<network::Prefix>,
    /// The host's address in a subnet; the first one without it.
    #[arg(long, value_name = "ADDRESS")]
    pub gateway: Vec<std::net::IpAddr>,
    /// Name of the bridge.
    #[arg(long, value_name = "NAME")]
    pub bridge: Option<String>,
    /// Most bytes of a packet.
    #[arg(long, value_name = "BYTES")]
    pub mtu: Option<u32>,
    /// Route the addresses as they are: the host does not stand in for its containers.
    #[arg(long)]
    pub no_nat: bool,
    /// Let containers of other networks reach these.
    #[arg(long)]
    pub no_isolate: bool,
    /// Let nothing in or out but to and from this host.
    #[arg(long)]
    pub internal: bool,
}

/// The option of everything that prints a list or a document.
#[derive(Debug, Clone, Copy, Args)]
pub struct Printed {
    /// How it is printed.
    #[arg(long, short = 'o', alias = "output", value_name = "FORMAT", value_enum, default_value_t)]
    format: Format,
    /// The same as --format json.
    #[arg(long, conflicts_with = "format")]
    json: bool,
}

impl Printed {
    /// The form that was asked for.
    #[must_use]
    pub fn format(self) -> Format {
        if self.json { Format::Json } else { self.format }
    }
}

/// `image`.
#[derive(Debug, Subcommand)]
#[command(defer = true)]
pub enum ImageVerb {
    /// Bring an image here: an OCI image layout, an archive of `docker save` or `docker export`, a folder.
    #[command(after_help = IMPORT_EXAMPLES)]
    Import(ImportArgs),
    /// Fetch an image from a registry, by the settings of /etc/containers (registries.conf, auth.json).
    #[command(after_help = PULL_EXAMPLES)]
    Pull(PullArgs),
    /// Make an image of Debian's packages, by mmdebstrap or debootstrap.
    #[command(after_help = BOOTSTRAP_EXAMPLES)]
    Bootstrap(BootstrapArgs),
    /// List images.
    List(Printed),
    /// Show what an image is made of and what it runs.
    Show {
        /// The image.
        name: String,
        /// How it is printed.
        #[command(flatten)]
        printed: Printed,
    },
    /// Forget images; `gc` frees the space.
    Remove {
        /// The images.
        #[arg(required = true, value_name = "NAME")]
        names: Vec<String>,
    },
    /// Remove layers that no image and no container needs.
    Gc,
}

const IMPORT_EXAMPLES: &str = "\
Examples:
  docker save alpine | skep image import - --name alpine
  skep image import ./layout --name app --reference v2
  skep image import rootfs.tar.zst --name base";

const BOOTSTRAP_EXAMPLES: &str = "\
Examples:
  skep image bootstrap bookworm --name debian:12
  skep image bootstrap bookworm --name web --option=--variant=minbase --option=--include=nginx";

/// `image bootstrap`.
#[derive(Debug, Args)]
pub struct BootstrapArgs {
    /// The release, such as bookworm.
    pub suite: String,
    /// What the image is called here.
    #[arg(long, value_name = "NAME")]
    pub name: String,
    /// Where its packages are: addresses, lines of a sources.list, files; may be repeated. The program's default without it.
    #[arg(long, value_name = "MIRROR")]
    pub mirror: Vec<String>,
    /// An option for the program; may be repeated.
    #[arg(long, value_name = "OPTION", allow_hyphen_values = true)]
    pub option: Vec<String>,
}

const PULL_EXAMPLES: &str = "\
Examples:
  skep image pull registry.example.org/team/app:2 --name app
  skep image pull localhost:5000/app --platform linux/arm64";

/// `image pull`.
#[derive(Debug, Args)]
pub struct PullArgs {
    /// [HOST[:PORT]/]NAME[:TAG][@DIGEST]; without a host registries.conf says where it is looked for.
    pub reference: String,
    /// What the image is called here; the reference as written without it.
    #[arg(long, value_name = "NAME")]
    pub name: Option<String>,
    /// For which machine, such as linux/arm64; this one without it.
    #[arg(long, value_name = "OS/ARCHITECTURE")]
    pub platform: Option<String>,
}

/// `image import`.
#[derive(Debug, Args)]
pub struct ImportArgs {
    /// A file, a folder, or - for standard input.
    #[arg(value_name = "PATH")]
    pub source: String,
    /// What the image is called here.
    #[arg(long, value_name = "NAME")]
    pub name: String,
    /// Which image of several: a name, a tag or a digest.
    #[arg(long, value_name = "REFERENCE")]
    pub reference: Option<String>,
    /// For which machine, such as linux/arm64; this one without it.
    #[arg(long, value_name = "OS/ARCHITECTURE")]
    pub platform: Option<String>,
}

const CREATE_EXAMPLES: &str = "\
Examples:
  skep create web1 --from /srv/base --memory 64M --cpus 0.5 -- /usr/sbin/httpd -f
  skep create web2 --from base --disk-size 2G --ids 100000:65536 -- /usr/sbin/httpd -f
  skep create web3 --from base --storage copy -- /usr/sbin/httpd -f
  skep create db1 --from host --volume /srv/db1:/var/lib/db -- /usr/bin/db
  skep create vpn1 --from base --network web --link phys:device=eth1,name=wan,address=192.0.2.7/24 -- /usr/sbin/vpn
  skep create pod1 --from base --network cni:lan --publish 8080:80 -- /usr/sbin/httpd -f
  skep create bulk --from base --network web --class device=eth0,rate=1mbit,ceil=20mbit,priority=7 -- /usr/bin/sync
  skep create old --lxc-config /var/lib/lxc/old/config --report text
  skep create job1 --from app --with-init -- sh -c 'worker & exec server'
  skep create deb1 --from debian:12 --init --network web --memory 1G
  skep start web1; skep ls; skep exec web1 sh; skep stop web1; skep destroy web1";

const STOP_EXAMPLES: &str = "\
Examples:
  skep stop web1
  skep stop --time 60 deb1; skep restart deb1
  skep stop --time 0 web1";

/// One or more containers.
#[derive(Debug, Args)]
pub struct Names {
    /// The containers.
    #[arg(required = true, value_name = "NAME")]
    pub names: Vec<String>,
}

/// Most old logs of a container.
pub const LOG_FILES_MAX: i64 = 1000;

/// `create`.
#[derive(Debug, Args)]
pub struct CreateArgs {
    /// The container's name: letters, digits, _ - and .
    pub name: String,
    /// What its files are: an image, a template, the path of a folder, or `host` for this machine's own.
    #[arg(long, value_name = "WHAT", required_unless_present = "lxc_config")]
    pub from: Option<String>,
    /// From a configuration of LXC.
    #[command(flatten)]
    pub lxc: LxcArgs,
    /// Program and arguments; without them those of the image or template.
    #[arg(last = true, value_name = "CMD")]
    pub command: Vec<String>,
    /// Boot a whole system: its /sbin/init, that of the template, or CMD, with a user namespace of its own.
    #[arg(long)]
    pub init: bool,
    /// With --init: no user namespace. Root inside is root outside then, held back by little; not for what you do not trust.
    #[arg(long, requires = "init", conflicts_with = "ids")]
    pub privileged: bool,
    /// With --init: prepare it for engines that run containers inside, with folders for their layers and all of /proc.
    #[arg(long, requires = "init")]
    pub nesting: bool,
    /// Show /proc/meminfo, /proc/stat and such of the whole machine, not of the container.
    #[arg(long)]
    pub no_view: bool,
    /// Put a small first process before the program, which reaps and passes signals on.
    #[arg(long, conflicts_with = "init")]
    pub with_init: bool,
    /// Network: `none`, `host`, the name of a managed one, or `cni:NAME`.
    #[arg(long, value_name = "NETWORK")]
    pub network: Option<String>,
    /// Address in that network; may be repeated, one for each family.
    #[arg(long = "ip", value_name = "ADDRESS", requires = "network")]
    pub addresses: Vec<String>,
    /// Lead a port of the host into the container; may be repeated.
    #[arg(long, short, value_name = "[ADDRESS:]HOST:PORT[/udp]")]
    pub publish: Vec<String>,
    /// Most that it sends, such as 10mbit.
    #[arg(long, value_name = "RATE", requires = "network")]
    pub egress: Option<network::Rate>,
    /// Most that it receives, such as 10mbit.
    #[arg(long, value_name = "RATE", requires = "network")]
    pub ingress: Option<network::Rate>,
    /// Links besides, and what its network needs.
    #[command(flatten)]
    pub connection: ConnectionArgs,
    /// Most memory, such as 512M.
    #[arg(long, short, value_name = "SIZE", value_parser = parse_memory)]
    pub memory: Option<u64>,
    /// Most processor time, in processors, such as 0.5.
    #[arg(long, value_name = "NUMBER", value_parser = parse_cpus)]
    pub cpus: Option<u64>,
    /// Most processes and threads.
    #[arg(long, value_name = "NUMBER", value_parser = clap::value_parser!(i64).range(1..))]
    pub pids: Option<i64>,
    /// Most space on disk for what it changes, such as 2G. Needs a file system with project quotas.
    #[arg(long, value_name = "SIZE", value_parser = parse_disk_size, conflicts_with = "ephemeral")]
    pub disk_size: Option<u64>,
    /// Make its cgroup below this one; with systemd the name of a slice.
    #[arg(long, value_name = "PATH")]
    pub cgroup_parent: Option<String>,
    /// Show a folder or file of the host inside; may be repeated.
    #[arg(long, short, value_name = "SOURCE:DESTINATION[:ro]", value_parser = parse_volume)]
    pub volume: Vec<Volume>,
    /// Set a variable; may be repeated. Without a value it is taken from the caller.
    #[arg(long, short, value_name = "KEY[=VALUE]")]
    pub env: Vec<String>,
    /// Run as USER[:GROUP], names or numbers.
    #[arg(long, short, value_name = "USER")]
    pub user: Option<String>,
    /// Begin in this folder.
    #[arg(long, short, value_name = "DIR")]
    pub workdir: Option<String>,
    /// Give it a device of the host; may be repeated.
    #[arg(long, value_name = "PATH[:PATH][:rwm]", value_parser = parse_device)]
    pub device: Vec<Device>,
    /// Name inside; the container's own without this.
    #[arg(long, value_name = "NAME")]
    pub hostname: Option<String>,
    /// What happens when it ends by itself.
    #[arg(long, value_name = "POLICY", value_enum, default_value_t)]
    pub restart: Restart,
    /// Give it a terminal, which `console` reaches.
    #[arg(long, short)]
    pub tty: bool,
    /// With --init: give it terminals besides the console, which `console --tty` reaches.
    #[arg(long, value_name = "NUMBER", default_value_t = 0, requires = "init", conflicts_with = "no_monitor", value_parser = clap::value_parser!(u16).range(..=i64::from(runtime_spec::ttys::MAX)))]
    pub ttys: u16,
    /// Put its log aside at this size, such as 10M; 0 for never.
    #[arg(long, value_name = "SIZE", value_parser = parse_size, default_value = "10M")]
    pub log_size: u64,
    /// Keep so many old logs.
    #[arg(long, value_name = "NUMBER", default_value_t = 3, value_parser = clap::value_parser!(u32).range(..=LOG_FILES_MAX))]
    pub log_files: u32,
    /// Whether and when it begins with the machine.
    #[command(flatten)]
    pub autostart: AutostartOptions,
    /// Let no monitor stay with it: its log has no bound then, and nobody sees how it ended.
    #[arg(long)]
    pub no_monitor: bool,
    /// Which system calls it may make.
    #[arg(long, value_name = "FILTER", value_enum, default_value_t)]
    pub seccomp: Seccomp,
    /// Signal that asks it to end.
    #[arg(long, value_name = "SIGNAL")]
    pub stop_signal: Option<String>,
    /// Give it a user namespace: the first id on the host, and how many.
    #[arg(long, value_name = "FIRST:COUNT", value_parser = parse_ids)]
    pub ids: Option<(u32, u32)>,
    /// Keep changes in memory, at most SIZE, until it ends.
    #[arg(long, value_name = "SIZE", value_parser = parse_size, num_args = 0..=1, default_missing_value = "0", require_equals = true)]
    pub ephemeral: Option<u64>,
    /// Stack layers, or copy all files; by default layers wherever the kernel takes them.
    #[arg(long, value_name = "WAY", value_enum)]
    pub storage: Option<Storage>,
    /// With --from host: hide this path too; may be repeated.
    #[arg(long, value_name = "PATH")]
    pub hide: Vec<String>,
    /// With --from host: show this path, which is hidden otherwise; may be repeated.
    #[arg(long, value_name = "PATH")]
    pub show: Vec<String>,
    /// Start it at once.
    #[arg(long)]
    pub start: bool,
}

/// `stop`.
#[derive(Debug, Args)]
pub struct StopArgs {
    /// The containers.
    #[arg(required = true, value_name = "NAME")]
    pub names: Vec<String>,
    /// Seconds until it is killed.
    #[arg(long, short, value_name = "SECONDS", default_value_t = 10, value_parser = clap::value_parser!(u64).range(..=WAIT_MAX))]
    pub time: u64,
}

/// `destroy`.
#[derive(Debug, Args)]
pub struct DestroyArgs {
    /// The containers.
    #[arg(required = true, value_name = "NAME")]
    pub names: Vec<String>,
    /// Stop what runs, and do not mind what is not there.
    #[arg(long, short)]
    pub force: bool,
}

fn parse_memory(text: &str) -> Result<u64, String> {
    parse_size(text).and_then(validate_memory)
}

fn parse_ids(text: &str) -> Result<(u32, u32), String> {
    let wrong = || format!("{text:?}: want two numbers such as 100000:65536");
    let (first, count) = text.split_once(':').ok_or_else(wrong)?;
    let (first, count): (u32, u32) = (first.parse().map_err(|_| wrong())?, count.parse().map_err(|_| wrong())?);
    match first.checked_add(count) {
        Some(end) if first > 0 && count > 0 && end < u32::MAX => Ok((first, count)),
        _ => Err(format!("{text:?}: ids go from 1 to {}", u32::MAX - 1)),
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_table_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn what_scripts_write_is_read() {
        let line = "skep create web1 --from host --network none --publish 80:80 --memory 64M --cpus 0.5 --pids 9 \
                    --volume /a:/b --env A=b --user web --device /dev/fuse --hostname w --restart always \
                    --ephemeral=1M -- /bin/sh -c true";
        let Cli { verb: Verb::Create(args), .. } = Cli::try_parse_from(line.split_whitespace()).unwrap() else {
            panic!("no create")
        };
        assert_eq!(
            (args.memory, args.cpus, args.pids, args.ephemeral),
            (Some(64 << 20), Some(500), Some(9), Some(1 << 20))
        );
        assert_eq!(args.command, ["/bin/sh", "-c", "true"]);
        Cli::try_parse_from(["skep", "destroy", "-f", "web1"]).unwrap();
        Cli::try_parse_from(["skep", "--root", "/r", "ls", "-o", "json"]).unwrap();
        for line in [
            "create web1 -- true",
            "create --from host",
            "ls -f color=red",
            "start",
            "create w --from host --ids 0:1",
            "create w --from host -m 4095",
            "create w --from host --disk-size 1",
            "create w --from host --disk-size 1G --ephemeral",
            "stop w --time 18446744073709551615",
        ] {
            assert!(Cli::try_parse_from(["skep"].into_iter().chain(line.split(' '))).is_err(), "{line}");
        }
    }
}

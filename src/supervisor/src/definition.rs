//! What a service is: one TOML document, read with all findings. Pure.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use toml::Table;

use crate::table::{Finding, Reader};

/// Most replicas of one service.
pub const REPLICAS_MAX: u32 = 1000;
/// Longest name of a service: with the number of a replica it is the name of a container, which has at most 64.
pub const NAME_MAX: usize = 56;
/// Longest time that a definition may say.
const LONG: Duration = Duration::from_secs(24 * 3600);
const SHORT: Duration = Duration::from_millis(1);
const NOTHING: Duration = Duration::ZERO;

/// A service.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Definition {
    /// Its name.
    pub name: String,
    /// For selectors.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    /// How many replicas there are.
    pub topology: Topology,
    /// What each replica is.
    pub unit: Unit,
    /// Services that are available before a replica starts, and that stop after the last one has.
    #[serde(default)]
    pub depends: Vec<String>,
    /// What follows an end that nobody asked for.
    pub restart: Restart,
    /// When a replica counts; without it as soon as it runs.
    pub ready: Option<Probe>,
    /// When a replica is given up and started again.
    pub live: Option<Probe>,
    /// How long a replica has to end by itself before it is killed.
    pub stop_timeout: Duration,
    /// Most replicas that a rolling restart takes at once.
    pub batch: u32,
}

/// How many replicas a service has.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase", tag = "kind")]
pub enum Topology {
    /// One that is active.
    Failover,
    /// Several that are.
    Flex {
        /// Fewest that make the service available.
        min: u32,
        /// How many there shall be until a scale says otherwise.
        target: u32,
        /// Most that there may be.
        max: u32,
    },
}

impl Topology {
    /// Fewest and most replicas, and how many there are where nobody has scaled.
    #[must_use]
    pub fn bounds(&self) -> (u32, u32, u32) {
        match *self {
            Topology::Failover => (1, 1, 1),
            Topology::Flex { min, target, max } => (min, target, max),
        }
    }
}

/// What a replica is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase", tag = "kind")]
pub enum Unit {
    /// A container that `skep create NAME.I --from` defines.
    Container {
        /// Its root file system: a template, an image, a folder.
        from: String,
        /// Its program; empty for that of the template.
        command: Vec<String>,
        /// Further options of `skep create`.
        options: Vec<String>,
    },
    /// An OCI bundle: `skep run --detach`.
    Bundle {
        /// Its folder; `{}` stands for the number of the replica.
        path: String,
    },
}

impl Unit {
    /// In a word, for people.
    #[must_use]
    pub fn word(&self) -> &'static str {
        match self {
            Unit::Container { .. } => "container",
            Unit::Bundle { .. } => "bundle",
        }
    }
}

/// What follows an end that nobody asked for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Restart {
    /// Restarts without a pause, before pauses begin.
    pub immediate: u32,
    /// The first pause; each further one is twice as long.
    pub backoff: Duration,
    /// The longest pause.
    pub backoff_max: Duration,
    /// A replica that ran this long begins again without a pause.
    pub settle: Duration,
    /// Part of a pause, in thousandths, by which it is drawn out at most: replicas that die together come back one by one.
    pub jitter: u32,
    /// Most restarts within the window; one more, and the replica has failed.
    pub burst: u32,
    /// That window.
    pub window: Duration,
}

impl Default for Restart {
    fn default() -> Restart {
        Restart {
            immediate: 3,
            backoff: Duration::from_millis(100),
            backoff_max: Duration::from_secs(30),
            settle: Duration::from_secs(10),
            jitter: 100,
            burst: 10,
            window: Duration::from_secs(300),
        }
    }
}

/// A question that is asked again and again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Probe {
    /// What is asked.
    pub ask: Ask,
    /// Pause between two.
    pub interval: Duration,
    /// An answer that takes longer is none.
    pub timeout: Duration,
    /// So many failures in a row count as one.
    pub failures: u32,
}

/// What a probe asks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Ask {
    /// A program in the container ends with 0.
    Exec(Vec<String>),
    /// Something accepts connections at `ADDRESS:PORT`, seen from the host.
    Tcp(String),
    /// `ADDRESS:PORT/PATH` answers with 2xx or 3xx.
    Http(String),
}

/// Checks the name of a service: a letter or digit, then letters, digits, `_` and `-`. A dot separates the number.
///
/// # Errors
/// What is wrong with it.
pub fn validate_name(name: &str) -> Result<(), String> {
    let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-');
    if name.is_empty() || name.len() > NAME_MAX {
        return Err(format!("{name:?} must have 1 to {NAME_MAX} characters"));
    }
    if !name.starts_with(|c: char| c.is_ascii_alphanumeric()) || !name.chars().all(fits) {
        return Err(format!("{name:?} must begin with a letter or digit and have only letters, digits, _ and -"));
    }
    Ok(())
}

/// Reads a definition.
///
/// # Errors
/// All that is wrong with it.
pub fn parse(text: &str) -> Result<Definition, Vec<Finding>> {
    let table: Table = match text.parse() {
        Ok(table) => table,
        Err(error) => {
            let error: toml::de::Error = error;
            return Err(vec![Finding { key: String::new(), text: error.to_string().trim_end().to_owned() }]);
        }
    };
    let mut findings = Vec::new();
    let mut reader = Reader::new(table, "", &mut findings);
    let definition = read(&mut reader);
    reader.finish();
    match definition {
        Some(definition) if findings.is_empty() => Ok(definition),
        _ => Err(findings),
    }
}

fn read(reader: &mut Reader<'_>) -> Option<Definition> {
    let name = read_name(reader);
    let labels = reader.map("labels").unwrap_or_default();
    let topology = read_topology(reader);
    let unit = read_unit(reader);
    let depends = read_depends(reader, name.as_deref());
    let restart = reader.within("restart", |table| Some(read_restart(table))).unwrap_or_default();
    let ready = reader.within("ready", read_probe);
    let live = reader.within("live", read_probe);
    let stop_timeout = reader.within("stop", |table| table.span("timeout", NOTHING, LONG));
    let batch = reader.within("rolling", |table| table.number("batch", 1, REPLICAS_MAX));
    Some(Definition {
        name: name?,
        labels,
        topology: topology?,
        unit: unit?,
        depends,
        restart,
        ready,
        live,
        stop_timeout: stop_timeout.unwrap_or(Duration::from_secs(10)),
        batch: batch.unwrap_or(1),
    })
}

fn read_name(reader: &mut Reader<'_>) -> Option<String> {
    if !reader.has("name") {
        reader.wrong("name", "is missing");
    }
    let name = reader.text("name")?;
    if let Err(error) = validate_name(&name) {
        reader.wrong("name", error);
    }
    Some(name)
}

fn read_depends(reader: &mut Reader<'_>, own: Option<&str>) -> Vec<String> {
    let depends = reader.texts("depends").unwrap_or_default();
    for name in &depends {
        if let Err(error) = validate_name(name) {
            reader.wrong("depends", error);
        } else if Some(name.as_str()) == own {
            reader.wrong("depends", "a service cannot wait for itself");
        }
    }
    depends
}

fn read_topology(reader: &mut Reader<'_>) -> Option<Topology> {
    let kind = reader.text("topology").unwrap_or_else(|| "failover".to_owned());
    match kind.as_str() {
        "failover" => Some(Topology::Failover),
        "flex" => {
            let flex = reader.within("flex", |table| {
                let target = table.number("target", 0, REPLICAS_MAX).unwrap_or(1);
                let min = table.number("min", 0, REPLICAS_MAX).unwrap_or(target.min(1));
                let max = table.number("max", 1, REPLICAS_MAX).unwrap_or(target.max(1));
                if min > target || target > max {
                    table.wrong("target", format!("want min <= target <= max, got {min}, {target}, {max}"));
                }
                Some(Topology::Flex { min, target, max })
            });
            Some(flex.unwrap_or(Topology::Flex { min: 1, target: 1, max: 1 }))
        }
        other => {
            reader.wrong("topology", format!("{other:?} is none: want failover or flex"));
            None
        }
    }
}

fn read_unit(reader: &mut Reader<'_>) -> Option<Unit> {
    let container = reader.has("container");
    if container == reader.has("bundle") {
        let text = if container { "either this or bundle, not both" } else { "a container or a bundle is missing" };
        reader.wrong("container", text);
    }
    let defined = reader.within("container", |table| {
        if !table.has("from") {
            table.wrong("from", "is missing");
        }
        let options = table.texts("options").unwrap_or_default();
        if options
            .iter()
            .any(|option| option == "--" || option.starts_with("--from") || option.starts_with("--restart"))
        {
            table.wrong("options", "--, --from and --restart are not for this list: from and restart are keys");
        }
        let command = table.texts("command").unwrap_or_default();
        Some(Unit::Container { from: table.text("from")?, command, options })
    });
    let bundle = reader.within("bundle", |table| {
        if !table.has("path") {
            table.wrong("path", "is missing");
        }
        let path = table.text("path")?;
        if !Path::new(&path).is_absolute() {
            table.wrong("path", format!("{path:?} must be an absolute path"));
        }
        Some(Unit::Bundle { path })
    });
    defined.or(bundle)
}

fn read_restart(table: &mut Reader<'_>) -> Restart {
    let usual = Restart::default();
    let restart = Restart {
        immediate: table.number("immediate", 0, 1000).unwrap_or(usual.immediate),
        backoff: table.span("backoff", SHORT, LONG).unwrap_or(usual.backoff),
        backoff_max: table.span("backoff-max", SHORT, LONG).unwrap_or(usual.backoff_max),
        settle: table.span("settle", NOTHING, LONG).unwrap_or(usual.settle),
        jitter: table.thousandths("jitter").unwrap_or(usual.jitter),
        burst: table.number("burst", 0, 10_000).unwrap_or(usual.burst),
        window: table.span("window", SHORT, LONG).unwrap_or(usual.window),
    };
    if restart.backoff > restart.backoff_max {
        table.wrong("backoff", "is longer than backoff-max");
    }
    restart
}

fn read_probe(table: &mut Reader<'_>) -> Option<Probe> {
    let asks = [table.texts("exec").map(Ask::Exec), table.text("tcp").map(Ask::Tcp), table.text("http").map(Ask::Http)];
    let mut asks: Vec<Ask> = asks.into_iter().flatten().collect();
    if asks.len() != 1 {
        table.wrong("", "want one of exec, tcp and http");
    }
    if let Some(Ask::Exec(command)) = asks.first()
        && command.is_empty()
    {
        table.wrong("exec", "a program is missing");
    }
    if let Some(Ask::Tcp(place)) = asks.first()
        && !has_port(place)
    {
        table.wrong("tcp", format!("{place:?} must be ADDRESS:PORT"));
    }
    if let Some(Ask::Http(place)) = asks.first()
        && !has_port(split_place(place).0)
    {
        table.wrong("http", format!("{place:?} must be ADDRESS:PORT/PATH, without a scheme"));
    }
    let interval = table.span("interval", Duration::from_millis(10), LONG).unwrap_or(Duration::from_secs(2));
    let timeout = table.span("timeout", SHORT, LONG).unwrap_or(Duration::from_secs(2));
    let failures = table.number("failures", 1, 1000).unwrap_or(3);
    Some(Probe { ask: asks.pop()?, interval, timeout, failures })
}

fn has_port(place: &str) -> bool {
    place
        .rsplit_once(':')
        .is_some_and(|(host, port)| !host.is_empty() && port.parse::<u16>().is_ok_and(|port| port > 0))
}

/// Address and path of an HTTP probe.
#[must_use]
pub fn split_place(place: &str) -> (&str, &str) {
    place.find('/').map_or((place, "/"), |at| place.split_at(at))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn findings(text: &str) -> Vec<String> {
        parse(text).unwrap_err().iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_short_definition_has_defaults() {
        let definition = parse("name = \"db\"\ncontainer.from = \"host\"").unwrap();
        assert_eq!(definition.topology, Topology::Failover);
        assert_eq!(definition.restart, Restart::default());
        assert_eq!((definition.ready, definition.stop_timeout), (None, Duration::from_secs(10)));
        let unit = Unit::Container { from: "host".to_owned(), command: Vec::new(), options: Vec::new() };
        assert_eq!(definition.unit, unit);
    }

    #[test]
    fn a_long_one_is_read_whole() {
        let text = r#"
            name = "web"
            labels = { tier = "front" }
            topology = "flex"
            flex = { min = 2, target = 3, max = 5 }
            depends = ["db"]
            bundle.path = "/srv/web-{}"
            restart = { immediate = 0, backoff = "50ms", backoff-max = "2s", jitter = 0.25, burst = 4, window = "1m" }
            ready = { http = "127.0.0.1:80/health", interval = "100ms", timeout = "50ms", failures = 1 }
            live = { exec = ["true"] }
            stop.timeout = "3s"
            rolling.batch = 2
        "#;
        let web = parse(text).unwrap();
        assert_eq!(web.topology.bounds(), (2, 3, 5));
        assert_eq!((web.restart.jitter, web.restart.burst, web.restart.immediate), (250, 4, 0));
        assert_eq!(web.ready.unwrap().ask, Ask::Http("127.0.0.1:80/health".to_owned()));
        assert_eq!((web.batch, web.stop_timeout), (2, Duration::from_secs(3)));
        assert_eq!(web.unit, Unit::Bundle { path: "/srv/web-{}".to_owned() });
    }

    #[test]
    fn all_that_is_wrong_is_told_with_its_key() {
        let text = "name = \"a.b\"\ntopology = \"ring\"\ncolour = 1\nrestart = { burst = -1, backof = \"1s\" }\n\
                    ready = { tcp = \"nowhere\", interval = \"1\" }";
        let expected = [
            "name: \"a.b\" must begin with a letter or digit and have only letters, digits, _ and -",
            "topology: \"ring\" is none: want failover or flex",
            "container: a container or a bundle is missing",
            "restart.burst: -1 is not from 0 to 10000",
            "restart.backof: is no key that is known here",
            "ready.tcp: \"nowhere\" must be ADDRESS:PORT",
            "ready.interval: \"1\" is no time: want a number and ms, s, m or h",
            "colour: is no key that is known here",
        ];
        assert_eq!(findings(text), expected);
    }

    #[test]
    fn replicas_have_an_order() {
        let text = "name = \"a\"\ntopology = \"flex\"\nflex = { min = 3, target = 2 }\ncontainer.from = \"x\"";
        assert_eq!(findings(text), ["flex.target: want min <= target <= max, got 3, 2, 2"]);
    }

    #[test]
    fn a_service_is_not_its_own_dependency() {
        let text = "name = \"a\"\ndepends = [\"a\"]\ncontainer.from = \"x\"\nflex.min = 1";
        let expected = ["depends: a service cannot wait for itself", "flex: is no key that is known here"];
        assert_eq!(findings(text), expected);
    }
}

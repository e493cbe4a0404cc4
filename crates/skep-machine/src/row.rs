//! What `ls` and `active` see of each machine: all are asked at once, and none for longer than the
//! time limit.

use std::rc::Rc;
use std::time::{Duration, Instant};

use gotemplate::{Struct, Value};
use skep_store::dm::{EngineOptions, HostOptions, SwarmOptions};
use tokio::task::JoinSet;

use super::call::variable;
use super::connect::{engine_version, swarm_url};
use super::driver::{Machine, NOT_RUNNING, State};

/// A machine as it is listed.
#[derive(Debug, Clone)]
pub struct Row {
    /// Its name.
    pub name: String,
    /// `*` if it is the active one.
    pub active: &'static str,
    /// Whether its engine is the active one.
    pub active_host: bool,
    /// Whether its old swarm is the active one.
    pub active_swarm: bool,
    /// Its driver's name.
    pub driver: String,
    /// Its state.
    pub state: State,
    /// Its engine's URL.
    pub url: String,
    /// The master of its old swarm.
    pub swarm: String,
    /// What it was made with.
    pub options: Option<HostOptions>,
    /// What is wrong.
    pub error: String,
    /// Its engine's version.
    pub version: String,
    /// How long it took to find out, in whole milliseconds.
    pub took: Duration,
}

impl Row {
    fn new(name: &str, driver: &str, state: State) -> Self {
        Self {
            name: name.to_owned(),
            active: "",
            active_host: false,
            active_swarm: false,
            driver: driver.to_owned(),
            state,
            url: String::new(),
            swarm: String::new(),
            options: None,
            error: String::new(),
            version: String::new(),
            took: Duration::ZERO,
        }
    }

    /// Creates the row of a machine that cannot be loaded.
    #[must_use]
    pub fn broken(name: &str, error: &str) -> Self {
        Self { error: error.replace('\n', ""), ..Self::new(name, "not found", State::Error) }
    }

    /// Returns the row for a template.
    #[must_use]
    pub fn to_value(&self) -> Value {
        let text = |text: &str| Value::Text(text.to_owned());
        let options = self.options.as_ref();
        let state = Value::Word("state.State", self.state as i64, self.state.word().to_owned());
        let nanos = i64::try_from(self.took.as_nanos()).unwrap_or(i64::MAX);
        let took = Value::Word("time.Duration", nanos, duration(self.took));
        let swarm = options.map(|options| swarm_value(&options.swarm_options));
        let engine = options.map(|options| engine_value(&options.engine_options));
        Value::Struct(Rc::new(Struct {
            name: "commands.HostListItem",
            fields: vec![
                ("Name", text(&self.name)),
                ("Active", text(self.active)),
                ("ActiveHost", Value::Bool(self.active_host)),
                ("ActiveSwarm", Value::Bool(self.active_swarm)),
                ("DriverName", text(&self.driver)),
                ("State", state),
                ("URL", text(&self.url)),
                ("SwarmOptions", swarm.unwrap_or(Value::NullPointer("*swarm.Options"))),
                ("Swarm", text(&self.swarm)),
                ("EngineOptions", engine.unwrap_or(Value::NullPointer("*engine.Options"))),
                ("Error", text(&self.error)),
                ("DockerVersion", text(&self.version)),
                ("ResponseTime", took),
            ],
        }))
    }
}

fn list(list: &Option<Vec<String>>) -> Value {
    Value::texts(list.as_deref().unwrap_or_default())
}

fn swarm_value(options: &SwarmOptions) -> Value {
    let text = |text: &String| Value::Text(text.clone());
    Value::Struct(Rc::new(Struct {
        name: "*swarm.Options",
        fields: vec![
            ("IsSwarm", Value::Bool(options.is_swarm)),
            ("Address", text(&options.address)),
            ("Discovery", text(&options.discovery)),
            ("Agent", Value::Bool(options.agent)),
            ("Master", Value::Bool(options.master)),
            ("Host", text(&options.host)),
            ("Image", text(&options.image)),
            ("Strategy", text(&options.strategy)),
            ("Heartbeat", Value::Int(options.heartbeat)),
            ("Overcommit", Value::Float(options.overcommit)),
            ("ArbitraryFlags", list(&options.arbitrary_flags)),
            ("ArbitraryJoinFlags", list(&options.arbitrary_join_flags)),
            ("Env", list(&options.env)),
            ("IsExperimental", Value::Bool(options.is_experimental)),
        ],
    }))
}

fn engine_value(options: &EngineOptions) -> Value {
    let text = |text: &String| Value::Text(text.clone());
    Value::Struct(Rc::new(Struct {
        name: "*engine.Options",
        fields: vec![
            ("ArbitraryFlags", list(&options.arbitrary_flags)),
            ("DNS", list(&options.dns)),
            ("GraphDir", text(&options.graph_dir)),
            ("Env", list(&options.env)),
            ("Ipv6", Value::Bool(options.ipv6)),
            ("InsecureRegistry", list(&options.insecure_registry)),
            ("Labels", list(&options.labels)),
            ("LogLevel", text(&options.log_level)),
            ("StorageDriver", text(&options.storage_driver)),
            ("SelinuxEnabled", Value::Bool(options.selinux_enabled)),
            ("TLSVerify", Value::Bool(options.tls_verify)),
            ("RegistryMirror", list(&options.registry_mirror)),
            ("InstallURL", text(&options.install_url)),
        ],
    }))
}

/// Returns a time as Go prints it, such as `13ms` or `1.204s`.
fn duration(time: Duration) -> String {
    let millis = time.as_millis();
    if millis == 0 {
        return "0s".to_owned();
    }
    if millis < 1000 {
        return format!("{millis}ms");
    }
    let (minutes, rest) = (millis / 60_000, millis % 60_000);
    let fraction = format!("{}.{:03}", rest / 1000, rest % 1000);
    let seconds = fraction.trim_end_matches('0').trim_end_matches('.');
    match (minutes / 60, minutes % 60) {
        (0, 0) => format!("{seconds}s"),
        (0, minutes) => format!("{minutes}m{seconds}s"),
        (hours, minutes) => format!("{hours}h{minutes}m{seconds}s"),
    }
}

/// Looks at all machines at once, each within the time limit, and asks their engines for their versions
/// if that is wanted. Rows come in the order of the machines.
pub async fn look(machines: &[Machine], limit: Duration, versions: bool) -> Vec<Row> {
    let mut looks = JoinSet::new();
    for (index, machine) in machines.iter().cloned().enumerate() {
        looks.spawn(async move {
            let began = Instant::now();
            let look = async {
                // No time is no look, also at what would answer at once.
                if limit.is_zero() {
                    std::future::pending::<()>().await;
                }
                look_at(&machine, versions).await
            };
            match tokio::time::timeout(limit, look).await {
                Ok(mut row) => {
                    row.took = Duration::from_millis(
                        u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX),
                    );
                    (index, row)
                }
                Err(_) => {
                    let row = Row::new(machine.name(), &driver_name(&machine), State::Timeout);
                    (index, Row { took: limit, ..row })
                }
            }
        });
    }
    let mut rows = looks.join_all().await;
    rows.sort_by_key(|(index, _)| *index);
    rows.into_iter().map(|(_, row)| row).collect()
}

fn driver_name(machine: &Machine) -> String {
    match machine.kind {
        super::driver::Kind::Absent => "not-found".to_owned(),
        _ => machine.config.driver_name.clone(),
    }
}

async fn look_at(machine: &Machine, versions: bool) -> Row {
    let mut row = Row::new(machine.name(), &driver_name(machine), State::None);
    row.version = "Unknown".to_owned();
    let mut problem = None;
    match machine.url().await {
        // With a URL it is known to run.
        Ok(url) if !url.is_empty() => {
            row.state = State::Running;
            if versions {
                match engine_version(machine, &url).await {
                    Ok(version) => row.version = format!("v{version}"),
                    Err(error) => problem = Some(error),
                }
            }
            row.url = url;
        }
        Ok(_) => match machine.state().await {
            Ok(state) => row.state = state,
            Err(error) => (row.state, problem) = (State::Error, Some(error)),
        },
        Err(error) => {
            row.state = machine.state().await.unwrap_or(State::Error);
            problem = Some(error);
        }
    }
    row.error = problem.filter(|text| text != NOT_RUNNING).unwrap_or_default();
    let swarm = &machine.config.host_options.swarm_options;
    if row.state == State::Running {
        let active = variable("DOCKER_HOST").unwrap_or_default();
        row.active_host = row.url == active && !active.is_empty();
        row.active_swarm = swarm.master && swarm_url(&row.url, &swarm.host) == active;
    }
    row.active = match (row.active_swarm, row.active_host) {
        (true, _) => "* (swarm)",
        (_, true) => "*",
        _ => "-",
    };
    row.options = Some(machine.config.host_options.clone());
    row
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_told_as_go_does() {
        for (millis, text) in
            [(0, "0s"), (13, "13ms"), (1204, "1.204s"), (10_000, "10s"), (61_500, "1m1.5s")]
        {
            assert_eq!(duration(Duration::from_millis(millis)), text);
        }
    }
}

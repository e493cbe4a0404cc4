//! `skep firewall`.

mod check;

use std::net::Ipv4Addr;

use ipnet::Ipv4Net;
use serde_json::{Value, json};
use skep_core::model::NodeName;
use skep_driver::Driver as _;
use skep_net::host_firewall::{
    Action, Backend, DETECT, Detected, Hook, Rule, Ruleset, SCRIPT, SHELL, Scope, Through, Traffic,
    run_here,
};
use skep_net::network;
use skep_print::{errln, out, outln, write_exact};
use skep_store::{ClusterDir, Machine};
use skep_sys::is_root;
use skep_sys::shell::NodeShell;
use skep_sys::tail;

use crate::cli::{
    FirewallCommand, FirewallFormat, FirewallPlaces, FirewallRules, FirewallShow, Output, Whose,
};
use crate::context::Context;
use crate::error::{CliError, Context as _};
use crate::render::table::table;
use crate::render::write_document;

pub(super) async fn run(context: &Context, command: FirewallCommand) -> Result<u8, CliError> {
    match command {
        FirewallCommand::Show(args) => show(context, &args).await?,
        FirewallCommand::Check(args) => return check::run(context, args).await,
        FirewallCommand::Apply(args) => apply(context, &args).await?,
        FirewallCommand::Remove(args) => remove(context, &args).await?,
    }
    Ok(0)
}

/// Where rules are, and what is done there.
struct Place {
    /// What it is called; none for this host.
    node: Option<NodeName>,
    shell: Option<Box<dyn NodeShell>>,
    /// Whom a node lets in if nothing is said.
    others: Vec<Ipv4Net>,
}

impl Place {
    fn name(&self) -> &str {
        self.node.as_ref().map_or("this host", NodeName::as_str)
    }

    /// Runs a script; returns what it prints, and what it has to say.
    async fn run(&self, script: &str) -> Result<(String, String), CliError> {
        let (stdout, stderr) = match &self.shell {
            Some(shell) => {
                let what = "the firewall's script";
                let run = shell.succeed(what, &SHELL, script.as_bytes(), SCRIPT).await;
                let output = run.context(self.name())?;
                (output.stdout, output.stderr)
            }
            None => {
                let output = run_here(script).await.context(self.name())?;
                (output.stdout, output.stderr)
            }
        };
        Ok((String::from_utf8_lossy(&stdout).trim().to_owned(), tail(&stderr)))
    }

    async fn backend(&self, args: &FirewallPlaces) -> Result<Backend, CliError> {
        if let Some(backend) = args.backend {
            return Ok(backend.into());
        }
        let (text, _) = self.run(DETECT).await?;
        Detected::parse(&text).map(|detected| detected.backend).ok_or_else(|| {
            CliError::failed(format!("{}: cannot determine the active firewall", self.name()))
                .hint("run the same command with --backend")
        })
    }

    fn ruleset(&self, args: &FirewallRules) -> Result<Ruleset, CliError> {
        if whose(&args.places) == Whose::Host {
            return Ok(Ruleset::host());
        }
        let mut sources: Vec<_> = args.source.iter().map(|source| source.0).collect();
        if sources.is_empty() && args.interface.is_none() {
            sources.clone_from(&self.others);
        }
        let scope = Scope { sources, interface: args.interface.clone() };
        Ruleset::node(&scope).map_err(|error| {
            CliError::usage(error.to_string())
                .hint("run the same command with --source SUBNET or --interface NAME")
                .hint("run the same command with --node NODE  # for a node of a cluster")
        })
    }
}

fn whose(args: &FirewallPlaces) -> Whose {
    let default = if args.node.is_empty() { Whose::Host } else { Whose::Node };
    args.whose.unwrap_or(default)
}

fn places(context: &Context, args: &FirewallPlaces) -> Result<Vec<Place>, CliError> {
    if whose(args) == Whose::Host && !args.node.is_empty() {
        return Err(only_for_nodes());
    }
    if args.node.is_empty() {
        return Ok(vec![Place { node: None, shell: None, others: Vec::new() }]);
    }
    let cluster = context.existing(args.cluster.cluster.as_ref())?;
    args.node.iter().map(|node| place_of(context, &cluster, node)).collect()
}

/// Returns the places of rules, unless these are for a host and say what concerns nodes.
fn scoped_places(context: &Context, args: &FirewallRules) -> Result<Vec<Place>, CliError> {
    let scoped = !args.source.is_empty() || args.interface.is_some();
    match whose(&args.places) == Whose::Host && scoped {
        true => Err(only_for_nodes()),
        false => places(context, &args.places),
    }
}

fn only_for_nodes() -> CliError {
    let message = "rules for a host concern the bridges of its clusters; --node, --source and \
                   --interface are for nodes";
    CliError::usage(message).hint("run the same command with --for node")
}

fn place_of(context: &Context, cluster: &ClusterDir, node: &NodeName) -> Result<Place, CliError> {
    let record = context.node(cluster, node)?;
    let nodes = cluster.nodes().context("cannot list nodes")?;
    let others = nodes.into_iter().filter_map(|(_, record)| record.ok());
    let mut others: Vec<Ipv4Addr> = others.map(|it| it.address).collect();
    others.extend(network::source_to(record.address));
    others.retain(|address| *address != record.address);
    let machine = Machine { dir: cluster.machine_dir(node), record };
    let shell = context.driver(None).shell(&machine);
    let others = others.into_iter().map(Ipv4Net::from).collect();
    Ok(Place { node: Some(node.clone()), shell: Some(shell), others })
}

async fn apply(context: &Context, args: &FirewallRules) -> Result<(), CliError> {
    let places = scoped_places(context, args)?;
    let ruleset = |place: &Place| place.ruleset(args);
    change(context, &args.places, &places, Action::Apply, ruleset).await
}

async fn remove(context: &Context, args: &FirewallPlaces) -> Result<(), CliError> {
    let places = places(context, args)?;
    let ruleset = |_: &Place| match whose(args) {
        Whose::Host => Ok(Ruleset::host()),
        Whose::Node => Ok(Ruleset::of_any_node()),
    };
    change(context, args, &places, Action::Remove, ruleset).await
}

async fn change(
    context: &Context,
    args: &FirewallPlaces,
    places: &[Place],
    action: Action,
    ruleset: impl Fn(&Place) -> Result<Ruleset, CliError>,
) -> Result<(), CliError> {
    // All that can be wrong is told before anything is changed anywhere.
    let mut scripts = Vec::new();
    for place in places {
        if place.node.is_none() && !is_root() {
            return Err(CliError::host("firewall rules need root")
                .hint("run the same command with sudo -H"));
        }
        let ruleset = ruleset(place)?;
        let backend = place.backend(args).await?;
        scripts.push((backend, script(&ruleset, backend, action)?));
    }
    for (place, (backend, script)) in places.iter().zip(scripts) {
        let (_, said) = place.run(&script).await?;
        said.lines().for_each(|line| errln!("{}: {line}", place.name()));
        let done = if action == Action::Apply { "are there" } else { "are gone" };
        if !context.is_quiet() {
            errln!("{}: the rules {done} ({backend})", place.name());
        }
    }
    Ok(())
}

fn script(ruleset: &Ruleset, backend: Backend, action: Action) -> Result<String, CliError> {
    let script = ruleset.render(backend, action);
    script.map_err(|error| {
        CliError::usage(error.to_string()).hint("run the same command with --source SUBNET")
    })
}

async fn show(context: &Context, args: &FirewallShow) -> Result<(), CliError> {
    let mut documents = Vec::new();
    for place in scoped_places(context, &args.rules)? {
        let ruleset = place.ruleset(&args.rules)?;
        let backend = place.backend(&args.rules.places).await?;
        match args.output {
            FirewallFormat::Script => {
                write_exact(script(&ruleset, backend, Action::Apply)?.as_bytes());
            }
            FirewallFormat::Removal => {
                write_exact(script(&ruleset, backend, Action::Remove)?.as_bytes());
            }
            format => {
                let is_there = is_there(&place, &ruleset, backend).await?;
                if format == FirewallFormat::Table {
                    print(&place, &ruleset, backend, is_there);
                }
                documents.push(json!({
                    "node": place.node,
                    "backend": backend.as_str(),
                    "name": format!("skep:{}", ruleset.name()),
                    "applied": is_there,
                    "rules": ruleset.rules.iter().map(document).collect::<Vec<_>>(),
                }));
            }
        }
    }
    match args.output {
        FirewallFormat::Json => {
            write_document(Output::Json, &json!({"format": 1, "places": documents}))
        }
        FirewallFormat::Yaml => {
            write_document(Output::Yaml, &json!({"format": 1, "places": documents}))
        }
        _ => (),
    }
    Ok(())
}

/// Tells whether the rules are there; none if that cannot be seen without root.
async fn is_there(
    place: &Place,
    ruleset: &Ruleset,
    backend: Backend,
) -> Result<Option<bool>, CliError> {
    if place.node.is_none() && !is_root() {
        return Ok(None);
    }
    let (word, _) = place.run(&script(ruleset, backend, Action::Look)?).await?;
    Ok(Some(word == "on"))
}

fn print(place: &Place, ruleset: &Ruleset, backend: Backend, is_there: Option<bool>) {
    let state = match is_there {
        Some(true) => "the rules are present",
        Some(false) => "the rules are missing",
        None => "only root can see whether the rules are present",
    };
    outln!("{}: {backend}, {state}", place.name());
    let cell = |value: &Value| match value {
        Value::Null => "any".to_owned(),
        Value::Array(ports) => ports.iter().map(ToString::to_string).collect::<Vec<_>>().join(","),
        value => value.as_str().unwrap_or_default().to_owned(),
    };
    let columns = ["direction", "in", "out", "from", "protocol", "ports"];
    let row = |rule: &Rule| {
        let document = document(rule);
        columns.iter().map(|column| cell(&document[column])).collect::<Vec<_>>()
    };
    let rows: Vec<_> = ruleset.rules.iter().map(row).collect();
    out!("{}", table(&["DIRECTION", "IN", "OUT", "FROM", "PROTOCOL", "PORTS"], &rows));
}

fn document(rule: &Rule) -> Value {
    let through = |through: &Option<Through>| match through {
        Some(Through::Name(name)) => json!(name),
        Some(Through::Prefix(prefix)) => json!(format!("{prefix}*")),
        None => Value::Null,
    };
    let (protocol, ports) = match rule.traffic {
        Traffic::All => (Value::Null, Value::Null),
        Traffic::Answers => (json!("answers"), Value::Null),
        Traffic::Tcp(ports) => (json!("tcp"), json!(ports)),
        Traffic::Udp(ports) => (json!("udp"), json!(ports)),
        Traffic::Esp => (json!("esp"), Value::Null),
    };
    json!({
        "direction": match rule.hook {
            Hook::Input => "in",
            Hook::Output => "out",
            Hook::Forward => "through",
        },
        "in": through(&rule.inward),
        "out": through(&rule.outward),
        "from": rule.source.map(|source| source.to_string()),
        "protocol": protocol,
        "ports": ports,
    })
}

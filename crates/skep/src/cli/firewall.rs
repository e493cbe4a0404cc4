//! `skep firewall`.

use std::net::Ipv4Addr;
use std::str::FromStr;
use std::time::Duration;

use clap::{Args, Subcommand, ValueEnum};
use ipnet::Ipv4Net;
use skep_core::model::NodeName;
use skep_host::host_firewall::{Backend, Interface};

use super::waiting::parse_duration;
use super::{ClusterArg, ClusterOption, Output};

/// `skep firewall`.
#[derive(Debug, Subcommand)]
pub enum FirewallCommand {
    /// Print the rules that are needed, and whether they are there.
    Show(FirewallShow),
    /// Send packets between all nodes of a cluster; exit code 1 unless all come through.
    Check(FirewallCheck),
    /// Make the rules; they stay when the firewall is loaded again.
    Apply(FirewallRules),
    /// Take the rules away.
    Remove(FirewallRules),
}

/// Which rules, and where.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  skep firewall apply                               virtual machines through this host's firewall
  skep firewall apply --node box1 --node box2       what these nodes of a cluster need, there
  skep firewall apply --for node --source 10.1.0.0/24     this host is a node, of others' swarm
  skep firewall show --for node --source 10.1.0.0/24 --backend ufw --format script | ssh box sudo sh")]
pub struct FirewallRules {
    /// Rules for a host of virtual machines, or for a node of a swarm; `host` if no node is named.
    #[arg(long = "for", value_enum, value_name = "WHAT")]
    pub whose: Option<Whose>,
    /// The firewall; the one that is on if not given.
    #[arg(long, value_enum)]
    pub backend: Option<BackendName>,
    /// Whom a node lets in: addresses or subnets; the cluster's other nodes and this host if --node is
    /// given.
    #[arg(long, value_name = "NET", value_delimiter = ',')]
    pub source: Vec<Source>,
    /// The interface that they come through.
    #[arg(long, value_name = "NAME")]
    pub interface: Option<Interface>,
    /// Do it on this node of the cluster, and not on this host.
    #[arg(long, value_name = "NODE")]
    pub node: Vec<NodeName>,
    #[command(flatten)]
    pub cluster: ClusterOption,
}

/// `skep firewall show`.
#[derive(Debug, Args)]
pub struct FirewallShow {
    #[command(flatten)]
    pub rules: FirewallRules,
    /// How it is printed.
    #[arg(long, short, value_enum, default_value_t)]
    pub format: FirewallFormat,
}

/// `skep firewall check`.
#[derive(Debug, Args)]
pub struct FirewallCheck {
    #[command(flatten)]
    pub cluster: ClusterArg,
    /// How it is printed.
    #[arg(long = "format", short = 'f', value_enum, default_value_t)]
    pub output: Output,
    /// How long a node may take for each part.
    #[arg(long, value_name = "TIME", value_parser = parse_duration, default_value = "30s")]
    pub timeout: Duration,
}

/// Whose rules.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Whose {
    /// A host whose virtual machines are nodes.
    Host,
    /// A node of a swarm.
    Node,
}

/// How rules are printed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub enum FirewallFormat {
    /// For people.
    #[default]
    Table,
    /// For programs.
    Json,
    /// For programs and people.
    Yaml,
    /// The script for sh(1) that makes the rules.
    Script,
    /// The script for sh(1) that takes them away.
    Removal,
}

/// A firewall.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum BackendName {
    /// Chains of nftables that the host's configuration makes.
    Nftables,
    /// iptables, of either kind.
    Iptables,
    /// firewalld.
    Firewalld,
    /// ufw.
    Ufw,
}

impl From<BackendName> for Backend {
    fn from(name: BackendName) -> Self {
        match name {
            BackendName::Nftables => Self::Nftables,
            BackendName::Iptables => Self::Iptables,
            BackendName::Firewalld => Self::Firewalld,
            BackendName::Ufw => Self::Ufw,
        }
    }
}

/// An address, or a subnet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Source(pub Ipv4Net);

impl FromStr for Source {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let net = match text.parse::<Ipv4Addr>() {
            Ok(address) => Ipv4Net::from(address),
            Err(_) => text.parse().map_err(|_| format!("{text:?} is no IPv4 address or subnet"))?,
        };
        if net != net.trunc() {
            return Err(format!("{text} is no subnet; {} would be one", net.trunc()));
        }
        if net.prefix_len() == 0 {
            return Err("that is everybody".to_owned());
        }
        Ok(Self(net))
    }
}

//! `skep firewall`.

use std::net::Ipv4Addr;
use std::str::FromStr;
use std::time::Duration;

use clap::{Args, Subcommand, ValueEnum};
use ipnet::Ipv4Net;
use skep_core::model::NodeName;
use skep_net::host_firewall::{Backend, Interface};

use super::waiting::parse_duration;
use super::{ClusterOption, ClusterWord, Output};

/// `skep firewall`.
#[derive(Debug, Subcommand)]
pub enum FirewallCommand {
    /// Print the required rules and whether they are present.
    Show(FirewallShow),
    /// Send packets between all nodes of a cluster; exit code 1 unless all arrive.
    Check(FirewallCheck),
    /// Add the rules, persistently.
    Apply(FirewallRules),
    /// Remove the rules.
    Remove(FirewallPlaces),
}

/// Which rules, where, and for which traffic.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  skep firewall apply                               on this host, for its virtual machines
  skep firewall apply --node box1 --node box2       add the rules on these nodes of a cluster
  skep firewall apply --for node --source 10.1.0.0/24     this host is a node of another swarm
  skep firewall show --for node --source 10.1.0.0/24 --backend ufw -o script | ssh box sudo sh")]
pub struct FirewallRules {
    #[command(flatten)]
    pub places: FirewallPlaces,
    /// Addresses or subnets that a node accepts traffic from [default with --node: the other
    /// nodes and this host].
    #[arg(long, value_name = "NET", value_delimiter = ',')]
    pub source: Vec<Source>,
    /// Interface that the traffic arrives on [default: any].
    #[arg(long, value_name = "NAME")]
    pub interface: Option<Interface>,
}

/// Which rules, and where.
#[derive(Debug, Args)]
pub struct FirewallPlaces {
    /// Rules for a host of virtual machines, or for a swarm node [default: host, or node with
    /// --node].
    #[arg(long = "for", value_enum, value_name = "WHAT")]
    pub whose: Option<Whose>,
    /// Firewall [default: the active one].
    #[arg(long, value_enum)]
    pub backend: Option<BackendName>,
    /// Apply to this node of the cluster, not to this host; repeatable.
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
    /// Output format.
    #[arg(long, short, value_name = "FORMAT", value_enum, default_value_t)]
    #[arg(alias = "format", short_alias = 'f')]
    pub output: FirewallFormat,
}

/// `skep firewall check`.
#[derive(Debug, Args)]
pub struct FirewallCheck {
    #[command(flatten)]
    pub cluster: ClusterWord,
    /// Output format.
    #[arg(long, short, value_name = "FORMAT", value_enum, default_value_t)]
    #[arg(alias = "format", short_alias = 'f')]
    pub output: Output,
    /// How long each part of the check may take on a node.
    #[arg(long, value_name = "DURATION", value_parser = parse_duration, default_value = "30s")]
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
    /// A table.
    #[default]
    Table,
    /// JSON.
    Json,
    /// YAML.
    Yaml,
    /// A shell script that adds the rules.
    Script,
    /// A shell script that removes the rules.
    Removal,
}

/// A firewall.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum BackendName {
    /// nftables, in the chains of the host's own configuration.
    Nftables,
    /// iptables (legacy or nft).
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
            Err(_) => text.parse().map_err(|_| {
                format!(
                    "{text:?} is not an IPv4 address or subnet, such as 192.0.2.7 or 10.1.0.0/24"
                )
            })?,
        };
        if net != net.trunc() {
            return Err(format!("{text} is not a subnet; use {}", net.trunc()));
        }
        if net.prefix_len() == 0 {
            return Err("that is every address: name a subnet, such as 10.1.0.0/24".to_owned());
        }
        Ok(Self(net))
    }
}

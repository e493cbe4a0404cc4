//! `skep setup`.

use clap::Args;
use ipnet::Ipv4Net;

use super::Output;

/// `skep setup`.
#[derive(Debug, Args)]
#[command(after_help = "\
It makes the group skep, puts a copy of skep in place that makes networks as root, lets members of the
group run that through sudo, and adds users to it. Each of them has clusters of his own from the next
login on, and skep and QEMU run as that user. What was changed is written down and listed; it can be
done again at any time, and has to be with a new version of skep.

Examples:
  sudo skep setup                       for whoever types it
  sudo skep setup --user alice --hosts  for alice too; users may have names in /etc/hosts
  sudo skep setup --undo                take it all back")]
pub struct Setup {
    /// Who may have clusters, beside those that may already; whoever ran sudo, if nobody is named.
    #[arg(long, value_name = "NAME")]
    pub user: Vec<String>,
    /// Where subnets of users may be; 10.193.0.0/16, if nothing was said.
    #[arg(long, value_name = "SUBNET")]
    pub subnets: Vec<Ipv4Net>,
    /// Let users have names in /etc/hosts, which all programs of this host go by.
    #[arg(long, conflicts_with = "no_hosts")]
    pub hosts: bool,
    /// Let them have none, as it is if nothing was said.
    #[arg(long)]
    pub no_hosts: bool,
    /// Take back what was changed.
    #[arg(long, conflicts_with_all = ["user", "subnets", "hosts", "no_hosts"])]
    pub undo: bool,
    /// With --undo: even if users have clusters, whose networks are taken away.
    #[arg(long, requires = "undo")]
    pub force: bool,
    /// Show what would be changed, and change nothing.
    #[arg(long)]
    pub dry_run: bool,
    /// How it is printed.
    #[arg(long, short, value_enum, default_value_t)]
    pub output: Output,
}

//! `skep setup`.

use clap::Args;
use ipnet::Ipv4Net;

use super::Output;

/// `skep setup`.
#[derive(Debug, Args)]
#[command(after_help = "\
Creates the group skep, installs a copy of skep that creates networks as root, and allows members
of the group to run it through sudo. Each of them has their own clusters from the next login on;
skep and QEMU run as that user. All changes are recorded and printed. Running it again is safe, and
necessary after an update of skep.

Examples:
  sudo skep setup                       allow the user who types it
  sudo skep setup --user alice --hosts  also allow alice; allow names in /etc/hosts
  sudo skep setup --undo                revert all changes")]
pub struct Setup {
    /// User to allow, in addition to those already allowed [default: the user who runs sudo];
    /// repeatable.
    #[arg(long, value_name = "NAME")]
    pub user: Vec<String>,
    /// Range that users' subnets are taken from [default: 10.193.0.0/16]; repeatable.
    #[arg(long, value_name = "SUBNET", value_parser = super::values::subnet)]
    pub subnets: Vec<Ipv4Net>,
    /// Allow users to add names to /etc/hosts, which affects all programs on this host.
    #[arg(long, conflicts_with = "no_hosts")]
    pub hosts: bool,
    /// Do not allow users to add names to /etc/hosts (the default).
    #[arg(long)]
    pub no_hosts: bool,
    /// Revert all changes.
    #[arg(long, conflicts_with_all = ["user", "subnets", "hosts", "no_hosts"])]
    pub undo: bool,
    /// With --undo: even if users have clusters; their networks are removed.
    #[arg(long, requires = "undo")]
    pub force: bool,
    /// Print what would change, and change nothing.
    #[arg(long)]
    pub dry_run: bool,
    /// Output format.
    #[arg(long, short, value_name = "FORMAT", value_enum, default_value_t)]
    pub output: Output,
}

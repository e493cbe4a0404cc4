//! The keys of a cluster file.

mod hostname;
mod image;
mod node;
mod registry;
mod stack;

use ipnet::Ipv4Net;
use skep_core::model::{AptSource, ClusterName, HostnameSpec, NodeName};

use super::kind::{
    Driver, FilePath, Flag, ImageName, Kind, LabelKey, LabelValue, ListOf, MapOf, OneOrMore,
    RegistryName, SizeFrom, Time, Url, User, Version, Whole, Word, text,
};
use super::problem::Problems;
use super::section::{Field, Section, field};
use super::spec::DRIVERS;
use super::tree::{Node, Value};
use super::{
    ClusterFile, ImageEntry, NodeDefaults, NodeEntry, RegistryEntry, StackEntry, TrustedEntry,
    VERSION,
};
use crate::context::DEFAULT_CLUSTER;

type Labels = MapOf<LabelKey, LabelValue>;
// Far more than a host can run, and few enough to be counted out.
type Managers = Whole<0, 99>;
type Workers = Whole<0, 999>;
type Port = Whole<1, 65535>;

impl Section for ClusterFile {
    const FIELDS: &'static [Field<Self>] = &[
        field!(
            "version": Version,
            default(VERSION),
            "Version of the file's format. A skep that does not know the version refuses the file."
        ),
        field!(
            "name": ClusterName => name,
            default(DEFAULT_CLUSTER),
            "Name of the cluster. A name on the command line takes precedence."
        ),
        field!(
            "driver": Driver => driver,
            default(DRIVERS[0]),
            "Kind of nodes: `ssh` for existing hosts, which `nodes` lists. All other values mean QEMU \
             on this host."
        ),
        field!(
            "node": NodeDefaults => node,
            default({}),
            "Settings of every node; `nodes` overrides them node by node."
        ),
        field!("managers": Managers => managers, default(1), "Number of managers. Use an odd number."),
        field!("workers": Workers => workers, default(1), "Number of workers."),
        field!(
            "nodes": MapOf<NodeName, NodeEntry> => nodes,
            default({}),
            "Settings of single nodes: node0, node1 and so on, managers first. Another name adds a node."
        ),
        field!(
            "subnet": Ipv4Net => subnet,
            otherwise("a free subnet"),
            "Subnet of the nodes."
        ),
        field!(
            "hostnames": ListOf<HostnameSpec> => hostnames,
            default([]),
            "Names for this host's /etc/hosts. NAME points to the first manager, NAME@NODE to that node, \
             NAME@* to any node that is up."
        ),
        field!(
            "ports": ListOf<Port> => ports,
            default([]),
            "TCP ports of this host's loopback, each forwarded to the same port of a node that is up."
        ),
        field!(
            "peers": ListOf<ClusterName> => peers,
            default([]),
            "Other clusters of the same user and store. Their nodes and this cluster's reach each other on every port if \
             both clusters name each other."
        ),
        field!(
            "context": Flag => context,
            default(true),
            "Whether to create a docker context for the cluster, skep-NAME."
        ),
        field!("image": ImageEntry => image, default({}), "Contents of the nodes' disk image."),
        field!(
            "images": ListOf<ImageName> => images,
            default([]),
            "Container images to load on every node: references in this host's docker or podman store, \
             archives or OCI layouts, relative to this file's directory."
        ),
        field!(
            "registry": RegistryEntry => registry,
            otherwise("as `skep registry` left it"),
            "A registry that a node serves and all nodes trust. `registry: {}` is enough."
        ),
        field!(
            "registries": ListOf<TrustedEntry> => registries,
            otherwise("as `skep registry` left them"),
            "Existing registries that all nodes trust."
        ),
        field!(
            "stacks": ListOf<StackEntry> => stacks,
            default([]),
            "Stacks that `skep up -f` deploys in this order once the swarm is ready, waiting for each to \
             converge."
        ),
    ];
    const EXTENSIONS: bool = true;
}

//! What a user wants ([`ClusterSpec`]) and what is written down before it is made
//! ([`ClusterRecord`], [`NodeRecord`]).
//!
//! Invariant: a value of one of these types is valid; text becomes a value only through a parser
//! that says what is allowed.

mod access;
mod defaults;
mod filter;
mod image_spec;
mod images;
mod name;
mod node;
mod record;
mod registry;
mod size;
mod spec;

pub use access::{Access, Admits, ENGINE_PORT, Publication};
pub use filter::{FilterError, NodeFilter};
pub use image_spec::{AptSource, ImageSpec};
pub use images::{ContainerImage, EngineImages, ImageSet};
pub use name::{ClusterName, Hostname, NameError, NodeName};
pub use node::{Availability, HostSpec, NodeKind, NodeSpec, Role, Shape};
pub use record::{ClusterRecord, Mac, NetworkRecord, NodeRecord, first_manager};
pub use registry::{Registries, RegistryPart, RegistrySpec, TrustedRegistry};
pub use size::{Size, SizeError};
pub(crate) use spec::node_room;
pub use spec::{ClusterSpec, HostnameSpec, SpecError};

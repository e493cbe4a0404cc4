//! The keys of registries.

use serde_json::Value as Json;
use skep_core::model::RegistrySpec;

use super::{
    Field, FilePath, Flag, Kind, Node, Problems, RegistryEntry, RegistryName, Section,
    TrustedEntry, Url, Whole, field,
};

type RegistryPort = Whole<1024, 65534>;

impl Section for RegistryEntry {
    const FIELDS: &'static [Field<Self>] = &[
        field!("port": RegistryPort => port, default(RegistrySpec::DEFAULT_PORT), "Port of the registry."),
        field!(
            "mirror": Url => mirror,
            otherwise("none"),
            "Registry to cache: images that nodes pull without naming a registry come from there through a \
             pull-through cache, at the next port."
        ),
    ];
}

#[derive(Default)]
struct TrustedFields {
    at: Option<String>,
    ca: Option<String>,
    insecure: Option<bool>,
}

impl Section for TrustedFields {
    const FIELDS: &'static [Field<Self>] = &[
        field!(
            "at": RegistryName => at,
            required,
            "Name of the registry in image references, such as hub.example:5000."
        ),
        field!(
            "ca": FilePath => ca,
            otherwise("none"),
            "CA certificates to verify the registry with, in PEM: a file, relative to this file's directory."
        ),
        field!(
            "insecure": Flag => insecure,
            default(false),
            "Skip TLS verification and allow HTTP; instead of `ca`."
        ),
    ];
}

impl Kind for TrustedEntry {
    type Value = Self;

    fn schema() -> Json {
        TrustedFields::schema()
    }

    fn read(node: &Node, problems: &mut Problems) -> Option<Self> {
        let TrustedFields { at, ca, insecure } = TrustedFields::read(node, problems)?;
        if ca.is_some() == (insecure == Some(true)) {
            problems.report(node.at, "use either `ca` or `insecure: true` for a registry");
        }
        Some(Self { at: at?, ca: ca.map(Into::into) })
    }
}

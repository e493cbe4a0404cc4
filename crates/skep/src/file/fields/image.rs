//! The keys of the nodes' disk image.

use serde_json::Value as Json;
use skep_core::model::ImageSpec;

use super::{
    AptSource, Field, FilePath, ImageEntry, Kind, ListOf, Node, Problems, Section, Url, Word, field,
};
use crate::file::kind::AptLine;

impl Section for ImageEntry {
    const FIELDS: &'static [Field<Self>] = &[
        field!("suite": Word => suite, default((ImageSpec::default().suite)), "Debian suite."),
        field!("mirror": Url => mirror, otherwise("deb.debian.org"), "Debian mirror."),
        field!(
            "sources": ListOf<AptSource> => sources,
            default([]),
            "Additional apt sources, such as Docker's."
        ),
        field!("packages": ListOf<Word> => packages, default([]), "Additional packages."),
    ];
}

#[derive(Default)]
struct SourceEntry {
    line: Option<String>,
    key: Option<String>,
}

impl Section for SourceEntry {
    const FIELDS: &'static [Field<Self>] = &[
        field!("line": AptLine => line, required, "The source as a line of sources.list(5)."),
        field!(
            "key": FilePath => key,
            otherwise("Debian's keys"),
            "OpenPGP key that signs the source: a file, relative to this file's directory."
        ),
    ];
}

impl Kind for AptSource {
    type Value = Self;

    fn schema() -> Json {
        SourceEntry::schema()
    }

    fn read(node: &Node, problems: &mut Problems) -> Option<Self> {
        let SourceEntry { line, key } = SourceEntry::read(node, problems)?;
        Some(Self { line: line?, key })
    }
}

//! `skep schema`.

use crate::file::json_schema;
use crate::outln;

pub(super) fn run() {
    outln!("{:#}", json_schema());
}

//! `skep schema`.

use crate::file::json_schema;
use skep_print::write_exact;

pub(super) fn run() {
    write_exact(format!("{:#}\n", json_schema()).as_bytes());
}

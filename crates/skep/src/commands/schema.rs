//! `skep schema`.

use skep_print::write_exact;

use crate::file::json_schema;

pub(super) fn run() {
    write_exact(format!("{:#}\n", json_schema()).as_bytes());
}

//! Processes, files and locks. The only module that starts a program, renames a file or takes a
//! lock.

mod attached;
mod chain;
mod checksum;
mod cmd;
mod descriptors;
mod exec;
mod file;
mod jsonline;
mod lock;
mod process;
mod program_output;
mod random;
mod socket;

pub use attached::{find_program, run_attached};
pub use chain::chain;
pub use checksum::{Checksum, checksum};
pub use cmd::{Cmd, CmdError, Output, tail};
pub use descriptors::close_inherited_on_exec;
pub use exec::exec;
pub use file::{
    FileError, UNFINISHED, ensure_link, free_space, make_new_dir, make_private_dir, read,
    remove_file, remove_tree, rename, sync_dir, write_atomic, write_new,
};
pub use jsonline::{JsonLines, WireError};
pub use lock::{Lock, LockError};
pub use process::{ProcessId, boot_id};
pub use program_output::{ProgramOutput, standard_input};
pub use random::fill_random;
pub use socket::connect_in;

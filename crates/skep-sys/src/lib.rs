//! Processes, files, sockets and locks of this host, and the trait through which commands run in a node.
//!
//! The only crate that starts a program, renames a file or takes a lock: `clippy.toml` and `cargo xtask tidy`
//! keep the others from it. Nothing here prints or reads the environment.

#![cfg_attr(not(test), warn(clippy::disallowed_methods, clippy::disallowed_types))]
#![cfg_attr(not(test), warn(clippy::print_stderr, clippy::print_stdout))]

mod attached;
mod bounded_log;
pub mod bundle;
mod chain;
mod checksum;
mod cmd;
mod command_log;
mod daemon;
mod descriptors;
mod dial;
mod environment;
mod exec;
mod fd_rpc;
mod file;
mod hex;
mod holder;
mod jsonline;
mod lock;
mod memory;
mod owned;
mod parents;
mod process;
mod program_output;
mod quote;
mod random;
mod scope;
mod seclude;
pub mod shell;
mod socket;
mod sync_time;
#[cfg(any(test, feature = "test-support"))]
pub mod umasks;

pub use attached::{find_program, find_programs, run_attached, run_with_our_input};
pub use bounded_log::BoundedLog;
pub use chain::chain;
pub use checksum::{Checksum, checksum};
pub use cmd::{Cmd, CmdError, Output, tail};
pub use command_log::COMMANDS;
pub use daemon::Daemon;
pub use descriptors::{close_inherited_on_exec, open_tap, receive, send_descriptor};
pub use dial::{Dial, Dialer, HostDialer};
pub use environment::{Variable, change_environment, search_in, search_path};
pub use exec::exec;
pub use fd_rpc::{RpcError, answer, call_program};
pub use file::{
    FileError, REMOVING, UNFINISHED, can_write, create_new, ensure_link, exchange, file_system,
    free_space, make_new_dir, make_private_dir, present, publish, read, read_own, remove_file,
    remove_tree, rename, replace, set_mode, sweep, sweep_all, sync_dir, write_atomic,
};
pub use hex::hex;
pub use holder::Holder;
pub use jsonline::{JsonLines, WireError};
pub use lock::{Lock, LockError};
pub use memory::{forget_peak_memory, peak_memory_kib};
pub use owned::{Distrust, Why, check_dir, check_owner, check_root, user_name};
pub use parents::make_parents;
pub use process::{BootId, ProcessId, boot_id, is_root, stat_fields, value_of};
pub use program_output::{ProgramOutput, standard_input};
pub use quote::{shell_quoted, ssh_path, ssh_word};
pub use random::fill_random;
pub use scope::{Lasting, lasting, leave as leave_session};
pub use seclude::Bind;
pub use socket::{connect_in, socket_in};
pub use sync_time::sync_time;

//! Fakes and the real-VM harness for the tests of skep.

pub mod archive;
pub mod clock;
pub mod daemons;
pub mod damage;
pub mod fakes;
pub mod home;
pub mod host;
pub mod records;
pub mod schema;
pub mod traces;
pub mod users;

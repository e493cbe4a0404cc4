//! Tests of the planner: its plans as they are printed, and what comes of carrying them out.

mod access;
mod aftermath;
mod carry_out;
mod certs;
mod diff;
mod errors;
mod goldens;
mod gone;
mod graph;
mod images;
mod machines;
mod properties;
mod registry;
mod specs;
mod world;

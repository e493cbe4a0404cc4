//! Tests of the planner: its plans as they are printed, and what comes of carrying them out.

mod carry_out;
mod errors;
mod goldens;
mod graph;
mod machines;
mod properties;
mod specs;
mod world;

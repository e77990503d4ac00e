//! The language engine through its front door: files in, numbers and text out.

mod adapters;
mod families;
mod files;
mod forms;
mod generation;
mod smollm2;
mod tiny;
mod training;

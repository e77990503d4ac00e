//! The training pipeline: training sets from the feature store, LoRA fine-tuning, evaluation, registration.
//!
//! It reads features and writes model versions, and knows neither how posts are collected nor how answers are served.

pub mod curve;
pub mod dataset;
mod durable;
pub mod evaluate;
pub mod gate;
pub mod registration;
pub mod run;
pub mod schedule;

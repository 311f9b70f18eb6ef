//! The template that a golden is captured from, and the capture.

pub mod capture;
pub mod template;

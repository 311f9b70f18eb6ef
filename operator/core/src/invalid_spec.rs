//! The error of a spec that cannot be carried out. Every validation of core returns it.

/// The field that is wrong, and its mistake.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{path}: {problem}")]
pub struct InvalidSpec {
    /// Path of the field, as in `spec.files[2].path`.
    pub path: String,
    pub problem: String,
}

impl InvalidSpec {
    pub fn new(path: impl Into<String>, problem: impl Into<String>) -> Self {
        Self { path: path.into(), problem: problem.into() }
    }
}

//! The reasons why a bench ended without figures.

use std::error::Error;

/// A failed step.
#[derive(Debug, thiserror::Error)]
pub enum BenchError {
    #[error("interrupted; the bench has removed all its parts")]
    Interrupted,
    #[error("the bench could not {what}")]
    Step {
        what: String,
        #[source]
        why: Box<dyn Error + Send + Sync>,
    },
    #[error("{0}")]
    Found(String),
}

/// `.map_err(step("boot the baseline"))`
pub fn step<E: Error + Send + Sync + 'static>(
    what: impl Into<String>,
) -> impl FnOnce(E) -> BenchError {
    let what = what.into();
    move |why| BenchError::Step { what, why: Box::new(why) }
}

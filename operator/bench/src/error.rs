//! Why a bench ended without figures.

use std::error::Error;

/// One step went wrong.
#[derive(Debug, thiserror::Error)]
pub enum BenchError {
    #[error("interrupted; nothing of the bench is left")]
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

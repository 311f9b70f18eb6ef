//! One line of text for an error and all of its causes.

use std::error::Error;

/// The error, then its causes, with a colon between each.
pub fn report(why: &dyn Error) -> String {
    let causes = std::iter::successors(why.source(), |cause: &&dyn Error| (*cause).source());
    causes.fold(why.to_string(), |text, cause| format!("{text}: {cause}"))
}

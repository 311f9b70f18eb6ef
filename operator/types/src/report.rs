//! One line of text for an error and all of its causes.

use std::error::Error;

/// The causes of an error, the nearest one first.
pub fn causes(why: &dyn Error) -> impl Iterator<Item = &dyn Error> {
    std::iter::successors(why.source(), |cause| (*cause).source())
}

/// The error, then its causes, with a colon between each.
pub fn report(why: &dyn Error) -> String {
    causes(why).fold(why.to_string(), |text, cause| format!("{text}: {cause}"))
}

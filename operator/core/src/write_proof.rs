//! The conclusion from a live read after a write that has no clear answer.
//!
//! A status is written by compare-and-swap on the version of its object. Therefore an object with
//! another version refuses the write, also when the request still travels.

/// An object, and one of its versions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Version {
    pub uid: String,
    pub resource_version: String,
}

/// The fate of the write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// The object has the content of the write.
    Written,
    /// The object is gone, or it has moved on without the content: the write cannot happen.
    NotWritten { gone: bool },
    /// The object is as it was. The write may still happen.
    Open,
}

/// Concludes. `base` is the version that the write replaces; `live` is the object now, and whether
/// it has the content of the write.
pub fn fate(base: &Version, live: Option<(&Version, bool)>) -> Fate {
    match live {
        None => Fate::NotWritten { gone: true },
        Some((live, _)) if live.uid != base.uid => Fate::NotWritten { gone: true },
        Some((_, true)) => Fate::Written,
        Some((live, false)) if live.resource_version != base.resource_version => {
            Fate::NotWritten { gone: false }
        }
        Some(_) => Fate::Open,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn version(uid: &str, resource_version: &str) -> Version {
        Version { uid: uid.to_owned(), resource_version: resource_version.to_owned() }
    }

    #[test]
    fn only_an_object_that_has_moved_on_proves_that_nothing_was_written() {
        let base = version("a", "7");
        let at = |live: &Version, has: bool| fate(&base, Some((live, has)));
        assert_eq!(at(&version("a", "8"), true), Fate::Written);
        assert_eq!(at(&version("a", "8"), false), Fate::NotWritten { gone: false });
        assert_eq!(at(&version("a", "7"), false), Fate::Open, "it may still arrive");
        assert_eq!(at(&version("b", "9"), true), Fate::NotWritten { gone: true });
        assert_eq!(fate(&base, None), Fate::NotWritten { gone: true });
    }
}

//! Names that Kubernetes gives to objects: each kind has a type of its own.
//!
//! The API server has checked these texts already; nothing is parsed here.

use std::borrow::Borrow;

/// Makes a type of a text that stands for one thing. Each crate adds the constructors that fit.
#[macro_export]
macro_rules! text_type {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(
            Clone,
            Debug,
            PartialEq,
            Eq,
            Hash,
            PartialOrd,
            Ord,
            ::serde::Serialize,
            ::serde::Deserialize,
        )]
        #[serde(transparent)]
        pub struct $name(String);

        impl $name {
            /// The text, as it stands in objects, records, paths and logs.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl ::std::fmt::Display for $name {
            fn fmt(&self, f: &mut ::std::fmt::Formatter<'_>) -> ::std::fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

macro_rules! identity {
    ($(#[$doc:meta])* $name:ident) => {
        text_type!($(#[$doc])* $name);

        impl $name {
            /// Takes the text as the API server or our own records have it.
            pub fn new(text: impl Into<String>) -> Self {
                Self(text.into())
            }
        }

        /// Maps that have this identity as their key can be asked with a text from an object.
        impl Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }
    };
}

identity!(
    /// The UID of an `AgentRun`.
    RunUid
);
identity!(
    /// The UID of an `AgentVMPool`.
    PoolUid
);
identity!(
    /// The UID of the object that owns a machine: its pool, or the `GoldenSnapshot` of a template.
    OwnerUid
);
identity!(
    /// The name of the node that this operator works for. It is a label: see [`NodeId`].
    NodeName
);
identity!(
    /// The id of a node. It is drawn once and kept in the state folder of its operator.
    NodeId
);

impl From<PoolUid> for OwnerUid {
    fn from(pool: PoolUid) -> Self {
        Self(pool.0)
    }
}

impl From<&PoolUid> for OwnerUid {
    fn from(pool: &PoolUid) -> Self {
        Self(pool.0.clone())
    }
}

/// The owner of a machine of kind `Pool` is a pool.
impl From<&OwnerUid> for PoolUid {
    fn from(owner: &OwnerUid) -> Self {
        Self(owner.0.clone())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn an_identity_is_its_text_in_records_and_in_maps() {
        let run = RunUid::new("a-1");
        assert_eq!(serde_json::to_string(&run).unwrap(), "\"a-1\"");
        assert_eq!(serde_json::from_str::<RunUid>("\"a-1\"").unwrap(), run);
        assert_eq!(run.to_string(), "a-1");
        assert_eq!(BTreeMap::from([(run, 1)]).get("a-1"), Some(&1));
    }

    #[test]
    fn a_pool_owns_its_machines_under_the_same_uid() {
        let pool = PoolUid::new("p");
        assert_eq!(PoolUid::from(&OwnerUid::from(&pool)), pool);
    }
}

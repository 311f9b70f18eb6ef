//! Paths that a user names and a machine or a folder of ours resolves: relative, within, plain.

/// The longest path, in bytes.
const MAX_PATH: usize = 1024;
/// The longest name within a path, in bytes: the limit of every file system in use.
const MAX_NAME: usize = 255;

/// The fault of a path that has to stay below its folder.
pub fn check_relative_path(path: &str) -> Result<(), String> {
    if path.is_empty() {
        return Err("must not be empty".to_owned());
    }
    if path.len() > MAX_PATH {
        return Err(format!("must be at most {MAX_PATH} bytes long, is {}", path.len()));
    }
    if path.starts_with('/') {
        return Err(format!("must be relative, is {path:?}"));
    }
    if path.chars().any(char::is_control) {
        return Err(format!("must not contain control characters or NUL, is {path:?}"));
    }
    for name in path.split('/') {
        match name {
            "" => {
                return Err(format!(
                    "must not contain empty names (`//`, or `/` at the end), is {path:?}"
                ));
            }
            "." | ".." => return Err(format!("must not contain `{name}`, is {path:?}")),
            _ if name.len() > MAX_NAME => {
                return Err(format!("has a name of more than {MAX_NAME} bytes"));
            }
            _ => {}
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_leads_out_or_nowhere_is_refused() {
        for bad in ["", "/a", "..", "a/../b", "a//b", "a/", "./a", "a\0b", "a\nb"] {
            assert!(check_relative_path(bad).is_err(), "{bad:?}");
        }
        for good in ["a", "a/b.py", ".hidden", "..a", "ä ö/ü"] {
            assert_eq!(check_relative_path(good), Ok(()), "{good:?}");
        }
    }

    proptest! {
        #[test]
        fn what_is_accepted_stays_below_its_folder(path in "[a./]{0,12}") {
            if check_relative_path(&path).is_ok() {
                let joined = std::path::Path::new("/base").join(&path);
                prop_assert!(joined.components().all(|c| !matches!(c,
                    std::path::Component::ParentDir)));
                prop_assert!(joined.starts_with("/base") &&
                    joined != std::path::Path::new("/base"));
            }
        }
    }
}

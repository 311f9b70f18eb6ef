//! The files that a run finds in its machine: each path once, none below another file.

use std::collections::BTreeSet;

use agentvm_crds::{InputFileSpec, Place};
use base64::{Engine, engine::general_purpose::STANDARD};

use super::{
    env::{KeyOf, key_of},
    paths::check_relative_path,
};
use crate::invalid_spec::InvalidSpec;

/// The content of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Content {
    Bytes(Vec<u8>),
    From(KeyOf),
}

/// A file that the run finds in the machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileItem {
    pub path: String,
    pub mode: u32,
    pub place: Place,
    pub content: Content,
}

/// `script`: the name of the file that has the text of `code`.
pub(super) fn files(
    files: &[InputFileSpec],
    script: Option<&str>,
) -> Result<Vec<FileItem>, InvalidSpec> {
    let mut seen = BTreeSet::new();
    let items: Vec<FileItem> = files
        .iter()
        .enumerate()
        .map(|(index, file)| self::file(index, file))
        .collect::<Result<_, _>>()?;
    for (index, item) in items.iter().enumerate() {
        let place = item.place == Place::Secrets;
        let first = item.path.split('/').next();
        if let Some(script) = script.filter(|name| !place && first == Some(*name)) {
            return Err(InvalidSpec::new(
                format!("spec.files[{index}].path"),
                format!("{script} is the file of `code`; give this one another name"),
            ));
        }
        if !seen.insert((place, item.path.as_str())) {
            return Err(InvalidSpec::new(
                format!("spec.files[{index}].path"),
                format!("{:?} is there twice", item.path),
            ));
        }
    }
    // A file can't be the folder of another one.
    for (index, item) in items.iter().enumerate() {
        let mut folder = item.path.as_str();
        while let Some((parent, _)) = folder.rsplit_once('/') {
            if seen.contains(&(item.place == Place::Secrets, parent)) {
                let problem =
                    format!("{parent:?} is a file already, so {:?} can't be below it", item.path);
                return Err(InvalidSpec::new(format!("spec.files[{index}].path"), problem));
            }
            folder = parent;
        }
    }
    Ok(items)
}

fn file(index: usize, file: &InputFileSpec) -> Result<FileItem, InvalidSpec> {
    let at = |field: &str| format!("spec.files[{index}].{field}");
    check_relative_path(&file.path).map_err(|problem| InvalidSpec::new(at("path"), problem))?;
    let mode = u32::try_from(file.mode).ok().filter(|mode| *mode <= 0o777).ok_or_else(|| {
        InvalidSpec::new(
            at("mode"),
            format!("must be 0 to 0777 (511), is {} (0{:o})", file.mode, file.mode),
        )
    })?;
    let content = match (&file.content, &file.content_base64, &file.content_from) {
        (Some(text), None, None) => Content::Bytes(text.clone().into_bytes()),
        (None, Some(text), None) => {
            Content::Bytes(STANDARD.decode(text.split_whitespace().collect::<String>()).map_err(
                |error| InvalidSpec::new(at("contentBase64"), format!("isn't base64: {error}")),
            )?)
        }
        (None, None, Some(source)) => Content::From(key_of(source, &at("contentFrom"))?),
        _ => {
            let problem = "exactly one of content, contentBase64 and contentFrom must be set";
            return Err(InvalidSpec::new(format!("spec.files[{index}]"), problem));
        }
    };
    if matches!(content, Content::From(KeyOf::Secret { .. })) && file.place != Place::Secrets {
        return Err(InvalidSpec::new(
            at("place"),
            "must be Secrets for a Secret: it may not touch the host's disk",
        ));
    }
    Ok(FileItem { path: file.path.clone(), mode, place: file.place, content })
}

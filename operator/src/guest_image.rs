//! Finds the default guest image: a folder with `image.json`. A flag names it, or a build put it
//! into the cache.

use std::fs;
use std::path::{Path, PathBuf};

use serde::Deserialize;

const DEFAULT_CACHE: &str = "/var/cache/agentvm";
const DESCRIPTION: &str = "image.json";

/// The parts of `image.json` that are shown to people.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Description {
    pub name: String,
    pub agent_version: String,
    pub kernel: Part,
}

/// A file of an image.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Part {
    /// Its name within the folder.
    pub file: String,
}

/// A guest image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GuestImage {
    pub dir: PathBuf,
    pub description: Description,
}

impl GuestImage {
    /// The kernel that the machines of this image boot.
    pub fn kernel(&self) -> PathBuf {
        self.dir.join(&self.description.kernel.file)
    }
}

/// The reason why there is no guest image.
#[derive(Debug, thiserror::Error)]
pub enum ImageError {
    /// No image was built, or the named folder holds no image.
    #[error("there is no guest image in {}; build one with `make image`, or name its folder with \
             --image-dir", .0.display())]
    Absent(PathBuf),
    /// The folder exists, but its description can't be used.
    #[error("{}: not a guest image: {detail}; build it anew with `make image`", file.display())]
    Broken { file: PathBuf, detail: String },
}

/// The places of guest images.
#[derive(Clone, Debug, Default)]
pub struct Images {
    /// The folder of the default guest image; without it, the newest in the build cache.
    pub image_dir: Option<PathBuf>,
    /// The only folder whose files `spec.source.rootfs.path` may name.
    pub images_folder: Option<PathBuf>,
}

/// The image in `dir` if it is given (`--image-dir`), or else the newest in the cache.
pub fn find(dir: Option<&Path>) -> Result<GuestImage, ImageError> {
    if let Some(dir) = dir {
        return open(dir);
    }
    let cache = std::env::var_os("AGENTVM_CACHE").filter(|value| !value.is_empty());
    find_newest(&cache.map_or_else(|| DEFAULT_CACHE.into(), PathBuf::from).join("guest-image"))
}

fn find_newest(cache: &Path) -> Result<GuestImage, ImageError> {
    let finished =
        fs::read_dir(cache).into_iter().flatten().filter_map(Result::ok).filter(|entry| {
            // A leading dot marks an unfinished build.
            !entry.file_name().as_encoded_bytes().starts_with(b".")
                && entry.path().join(DESCRIPTION).is_file()
        });
    let newest =
        finished.max_by_key(|entry| entry.metadata().and_then(|meta| meta.modified()).ok());
    open(&newest.ok_or_else(|| ImageError::Absent(cache.to_owned()))?.path())
}

fn open(dir: &Path) -> Result<GuestImage, ImageError> {
    let file = dir.join(DESCRIPTION);
    let text = match fs::read_to_string(&file) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            return Err(ImageError::Absent(dir.to_owned()));
        }
        Err(error) => return Err(ImageError::Broken { file, detail: error.to_string() }),
    };
    match serde_json::from_str(&text) {
        Ok(description) => Ok(GuestImage { dir: dir.to_owned(), description }),
        Err(error) => Err(ImageError::Broken { file, detail: error.to_string() }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn put(dir: &Path, version: &str, age_seconds: u64) {
        fs::create_dir_all(dir).unwrap();
        let description = serde_json::json!({
            "name": "debian", "agentVersion": version, "kernel": {"file": "vmlinuz"}, "more": 1
        });
        fs::write(dir.join(DESCRIPTION), description.to_string()).unwrap();
        let time = std::time::SystemTime::from(crate::clock::Clock::system().now())
            - std::time::Duration::from_secs(age_seconds);
        fs::File::open(dir).unwrap().set_modified(time).unwrap();
    }

    #[test]
    fn the_newest_finished_build_is_taken() {
        let cache = tempfile::tempdir().unwrap();
        assert!(matches!(find_newest(cache.path()), Err(ImageError::Absent(_))));
        put(&cache.path().join("old"), "1", 100);
        put(&cache.path().join("new"), "2", 10);
        put(&cache.path().join(".part"), "3", 0);
        fs::create_dir(cache.path().join("empty")).unwrap();
        let found = find_newest(cache.path()).unwrap();
        assert_eq!(found.dir, cache.path().join("new"));
        assert_eq!(found.description.agent_version, "2");
        assert_eq!(found.kernel(), cache.path().join("new/vmlinuz"));
    }

    #[test]
    fn a_folder_that_was_named_is_the_only_one() {
        let dir = tempfile::tempdir().unwrap();
        assert!(find(Some(dir.path())).unwrap_err().to_string().contains("--image-dir"));
        fs::write(dir.path().join(DESCRIPTION), "{").unwrap();
        assert!(matches!(find(Some(dir.path())), Err(ImageError::Broken { .. })));
    }
}

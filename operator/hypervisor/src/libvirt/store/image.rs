//! The guest image as its builder leaves it: `image.json` and the files that it names.

use std::path::{Path, PathBuf};

use serde::Deserialize;

use crate::HvError;

#[derive(Clone, Debug, Deserialize)]
struct Manifest {
    format: u32,
    rootfs: Part,
    kernel: Part,
    initrd: Part,
    cmdline: String,
}

#[derive(Clone, Debug, Deserialize)]
struct Part {
    file: String,
    sha256: String,
}

/// An image whose files exist.
#[derive(Clone, Debug)]
pub struct Image {
    pub rootfs: PathBuf,
    pub rootfs_sha256: String,
    pub kernel: PathBuf,
    pub initrd: PathBuf,
    pub cmdline: String,
}

impl Image {
    pub fn open(folder: &Path) -> Result<Self, HvError> {
        let bad = |detail: String| HvError::BadImage { path: folder.display().to_string(), detail };
        let text = std::fs::read(folder.join("image.json")).map_err(|e| {
            bad(format!(
                "image.json can't be read ({e}); build the image with guest-agent/image/build"
            ))
        })?;
        let manifest: Manifest =
            serde_json::from_slice(&text).map_err(|e| bad(format!("image.json: {e}")))?;
        if manifest.format != 1 {
            return Err(bad(format!(
                "image.json has format {}, this version reads 1",
                manifest.format
            )));
        }
        let file = |part: &Part| {
            let path = folder.join(&part.file);
            let here = !part.file.contains('/') && path.is_file();
            here.then_some(path)
                .ok_or_else(|| bad(format!("there is no file {:?} in it", part.file)))
        };
        Ok(Self {
            rootfs: file(&manifest.rootfs)?,
            kernel: file(&manifest.kernel)?,
            initrd: file(&manifest.initrd)?,
            rootfs_sha256: manifest.rootfs.sha256,
            cmdline: manifest.cmdline,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_wrong_with_an_image_is_said() {
        let dir = tempfile::tempdir().unwrap();
        let part = r#"{"file":"x","sha256":"0","bytes":1}"#;
        let manifest = |format: u32, rootfs: &str| {
            format!(
                r#"{{"format":{format},"rootfs":{rootfs},"kernel":{part},"initrd":{part},"cmdline":"c"}}"#
            )
        };
        let says = |text: &str| {
            std::fs::write(dir.path().join("image.json"), text).unwrap();
            Image::open(dir.path()).unwrap_err().to_string()
        };
        assert!(Image::open(dir.path()).unwrap_err().to_string().contains("build the image"));
        assert!(says("{").contains("image.json"));
        assert!(says(&manifest(2, part)).contains("format 2"));
        assert!(says(&manifest(1, part)).contains("no file \"x\""));
        std::fs::write(dir.path().join("x"), "").unwrap();
        assert!(says(&manifest(1, r#"{"file":"../x","sha256":"0"}"#)).contains("../x"));
        std::fs::write(dir.path().join("image.json"), manifest(1, part)).unwrap();
        assert!(Image::open(dir.path()).is_ok());
    }
}

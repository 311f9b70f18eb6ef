//! The files that a template boots from: the default guest image, or a user's root filesystem that
//! is checked before use.

use std::{
    fs::File,
    io::Read,
    path::{Path, PathBuf},
};

use agentvm_core::golden::{Recipe, SourceKind};
use agentvm_types::hex;
use sha2::{Digest, Sha256};

/// Why there is nothing to boot from. The text reveals nothing outside the images folder.
#[derive(Debug, thiserror::Error)]
pub enum ImageError {
    #[error(
        "{} can't be read: the default guest image isn't there; build it with `make image`, or \
         name its folder with --image-dir",
        .0.display()
    )]
    Default(PathBuf, #[source] std::io::Error),
    #[error(
        "spec.source.rootfs: this operator has no images folder; start it with --images-folder"
    )]
    NoFolder,
    #[error("spec.source.rootfs.path: there is no such file in the operator's images folder")]
    Missing,
    #[error(
        "spec.source.rootfs.sha256: the file has another digest ({0}): it is truncated or not the \
         one that was meant"
    )]
    Digest(String),
    #[error("spec.source.rootfs.path: the file could not be read")]
    Read(#[source] std::io::Error),
}

/// The digest of the default image. It is the digest of the manifest, which names the digests of
/// the parts.
pub fn image_digest(folder: &Path) -> Result<String, ImageError> {
    let manifest = folder.join("image.json");
    let text = std::fs::read(&manifest).map_err(|why| ImageError::Default(manifest, why))?;
    Ok(hex(&Sha256::digest(&text)))
}

/// The root filesystem in place of the image's own, where the recipe names one. This call blocks:
/// it reads all of the file.
pub fn rootfs(
    recipe: &Recipe,
    images_folder: Option<&Path>,
) -> Result<Option<PathBuf>, ImageError> {
    let SourceKind::Rootfs { path, sha256 } = &recipe.source else { return Ok(None) };
    let folder = images_folder
        .ok_or(ImageError::NoFolder)?
        .canonicalize()
        .map_err(|_| ImageError::Missing)?;
    // A link that leads out of the folder is answered like a file that isn't there.
    let file = folder.join(path).canonicalize().map_err(|_| ImageError::Missing)?;
    if !file.starts_with(&folder) || !file.is_file() {
        return Err(ImageError::Missing);
    }
    let digest = file_digest(&file).map_err(ImageError::Read)?;
    if digest != *sha256 {
        return Err(ImageError::Digest(digest));
    }
    Ok(Some(file))
}

fn file_digest(path: &Path) -> std::io::Result<String> {
    let mut file = File::open(path)?;
    let mut hash = Sha256::new();
    let mut chunk = vec![0; 1 << 20];
    loop {
        let read = file.read(&mut chunk)?;
        if read == 0 {
            return Ok(hex(&hash.finalize()));
        }
        hash.update(chunk.get(..read).unwrap_or_default());
    }
}

#[cfg(test)]
mod tests {
    use agentvm_types::Resources;

    use super::*;

    fn recipe(path: &str, sha256: &str) -> Recipe {
        Recipe {
            source: SourceKind::Rootfs { path: path.into(), sha256: sha256.into() },
            size: Resources { vcpus: 1, memory_mib: 512, disk_gib: 4, cpu_shares: 1024 },
            steps: vec![],
            setup_network: agentvm_crds::SetupNetworkMode::NatFiltered,
        }
    }

    #[test]
    fn a_root_filesystem_is_within_the_folder_and_has_the_digest() {
        let folder = tempfile::tempdir().unwrap();
        let images = folder.path().join("images");
        std::fs::create_dir(&images).unwrap();
        std::fs::write(images.join("a.img"), b"abc").unwrap();
        std::fs::write(folder.path().join("secret"), b"abc").unwrap();
        std::os::unix::fs::symlink(folder.path().join("secret"), images.join("link")).unwrap();
        let abc = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert!(rootfs(&recipe("a.img", abc), Some(&images)).unwrap().is_some());
        assert!(matches!(rootfs(&recipe("b.img", abc), Some(&images)), Err(ImageError::Missing)));
        assert!(matches!(rootfs(&recipe("link", abc), Some(&images)), Err(ImageError::Missing)));
        assert!(matches!(
            rootfs(&recipe("a.img", &"0".repeat(64)), Some(&images)),
            Err(ImageError::Digest(_))
        ));
        assert!(matches!(
            rootfs(&recipe("a.img", abc), Some(&folder.path().join("none"))),
            Err(ImageError::Missing)
        ));
    }
}

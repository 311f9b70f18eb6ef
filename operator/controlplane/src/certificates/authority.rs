//! A certificate authority: a key, and its own certificate.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose};

use super::validity::{self, AUTHORITY};
use super::{PkiError, read, write};

/// Signs certificates. Their readers trust this authority.
#[derive(Debug)]
pub struct Authority {
    name: &'static str,
    key: KeyPair,
    certificate: String,
    certificate_file: PathBuf,
}

impl Authority {
    /// The authority of this name in `folder`. A new one, if the old one is missing or expires too
    /// soon.
    pub fn load_or_create(
        folder: &Path,
        name: &'static str,
        now: SystemTime,
    ) -> Result<Self, PkiError> {
        let file = folder.join(format!("{name}.pem"));
        let certificate_file = folder.join(format!("{name}.crt"));
        let sign =
            |why| PkiError::Sign { what: "a certificate authority", path: file.clone(), why };
        let kept = read(&file)?.filter(|text| validity::is_fresh(text, AUTHORITY, now));
        let text = if let Some(text) = kept {
            text
        } else {
            // Remove the old authority's certificates first, so that a crash in between leaves no
            // certificate that is trusted by mistake.
            forget_signed(folder, name)?;
            let text = create(name, now).map_err(sign)?;
            write(&file, &text)?;
            text
        };
        let key = KeyPair::from_pem(key_of(&text)).map_err(sign)?;
        let certificate = certificate_of(&text).to_owned();
        // etcd refuses a file of trusted certificates with other content.
        write(&certificate_file, &certificate)?;
        Ok(Self { name, key, certificate, certificate_file })
    }

    pub fn certificate(&self) -> &str {
        &self.certificate
    }

    /// The certificate alone, for clients that trust it.
    pub fn certificate_file(&self) -> &Path {
        &self.certificate_file
    }

    pub fn sign(&self, params: &CertificateParams, key: &KeyPair) -> Result<String, rcgen::Error> {
        let issuer = Issuer::new(params_of(self.name), &self.key);
        Ok(params.signed_by(key, &issuer)?.pem())
    }

    /// The folder of its signed certificates.
    pub fn folder(&self, root: &Path) -> PathBuf {
        signed_folder(root, self.name)
    }
}

fn create(name: &str, now: SystemTime) -> Result<String, rcgen::Error> {
    let key = KeyPair::generate()?;
    let mut params = params_of(name);
    let stamp = validity::stamp(&mut params, AUTHORITY, now);
    Ok(format!("{stamp}{}{}", params.self_signed(&key)?.pem(), key.serialize_pem()))
}

/// Depends on the name alone, so that a loaded authority signs exactly like the one that was
/// created.
fn params_of(name: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, format!("agentvm {name}"));
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::DigitalSignature];
    params
}

fn signed_folder(root: &Path, name: &str) -> PathBuf {
    root.join(format!("signed-by-{name}"))
}

fn forget_signed(root: &Path, name: &str) -> Result<(), PkiError> {
    let path = signed_folder(root, name);
    match fs::remove_dir_all(&path) {
        Err(why) if why.kind() != io::ErrorKind::NotFound => Err(PkiError::File { path, why }),
        _ => Ok(()),
    }
}

const KEY: &str = "-----BEGIN PRIVATE KEY-----";
const CERTIFICATE: &str = "-----BEGIN CERTIFICATE-----";

/// The private key in a file that holds a certificate and its key.
pub fn key_of(text: &str) -> &str {
    text.find(KEY).map_or("", |at| &text[at..])
}

/// The certificate in a file that holds a certificate and its key.
pub fn certificate_of(text: &str) -> &str {
    let end = text.find(KEY).unwrap_or(text.len());
    text.find(CERTIFICATE).filter(|start| *start < end).map_or("", |start| &text[start..end])
}

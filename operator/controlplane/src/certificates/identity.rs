//! A certificate and its key, in one file, so that a crash can't separate the pair.

use std::path::{Path, PathBuf};
use std::time::SystemTime;

use rcgen::{
    CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, KeyPair, KeyUsagePurpose,
};

use super::authority::{Authority, certificate_of, key_of};
use super::validity::{self, IDENTITY};
use super::{PkiError, read, write};
use crate::private_files;

/// The content of a certificate.
#[derive(Debug)]
pub struct Profile {
    pub name: &'static str,
    pub common_name: &'static str,
    /// Kubernetes reads it as the user's group.
    pub organization: Option<&'static str>,
    /// Names and addresses of a server.
    pub names: &'static [&'static str],
    pub usages: &'static [ExtendedKeyUsagePurpose],
}

impl Profile {
    pub fn client(name: &'static str, user: &'static str, group: Option<&'static str>) -> Self {
        Self { name, common_name: user, organization: group, names: &[], usages: &[super::CLIENT] }
    }
}

/// A certificate with its key.
#[derive(Debug)]
pub struct Identity {
    file: PathBuf,
    text: String,
}

impl Identity {
    /// The identity that `authority` signed before. A new one, if the old one is missing or expires
    /// too soon.
    pub fn load_or_issue(
        folder: &Path,
        authority: &Authority,
        profile: &Profile,
        now: SystemTime,
    ) -> Result<Self, PkiError> {
        let folder = authority.folder(folder);
        private_files::private_dir(&folder)
            .map_err(|why| PkiError::File { path: folder.clone(), why })?;
        let file = folder.join(format!("{}.pem", profile.name));
        if let Some(text) = read(&file)?.filter(|text| validity::is_fresh(text, IDENTITY, now)) {
            return Ok(Self { file, text });
        }
        let text = issue(authority, profile, now).map_err(|why| PkiError::Sign {
            what: "a certificate",
            path: file.clone(),
            why,
        })?;
        write(&file, &text)?;
        Ok(Self { file, text })
    }

    /// Contains certificate and key. Kubernetes and etcd take the same file for both.
    pub fn file(&self) -> &Path {
        &self.file
    }

    pub fn certificate(&self) -> &str {
        certificate_of(&self.text)
    }

    pub fn key(&self) -> &str {
        key_of(&self.text)
    }
}

fn issue(
    authority: &Authority,
    profile: &Profile,
    now: SystemTime,
) -> Result<String, rcgen::Error> {
    let names: Vec<String> = profile.names.iter().map(ToString::to_string).collect();
    let mut params = CertificateParams::new(names)?;
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, profile.common_name);
    if let Some(organization) = profile.organization {
        params.distinguished_name.push(DnType::OrganizationName, organization);
    }
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = profile.usages.to_vec();
    params.use_authority_key_identifier_extension = true;
    let stamp = validity::stamp(&mut params, IDENTITY, now);
    let key = KeyPair::generate()?;
    Ok(format!("{stamp}{}{}", authority.sign(&params, &key)?, key.serialize_pem()))
}

use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
};

use anyhow::{Context as _, bail};
use purista_conformance::{BrokerCertificate, ClientCertificate};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, date_time_ymd,
};
use tempfile::TempDir;

/// The certificates of one secured broker and its bridges, as PEM files that are removed with the last clone.
#[derive(Clone, Debug)]
pub struct Certificates {
    folder: Arc<TempDir>,
    broker: BrokerCertificate,
    client: ClientCertificate,
}

/// A certificate and its private key.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct PemFiles {
    /// The file of the certificate.
    pub certificate: PathBuf,
    /// The file of the private key.
    pub key: PathBuf,
}

impl Certificates {
    /// Creates an authority, and what the broker and its bridges show. The broker's host is `127.0.0.1`, `::1` or
    /// `localhost`.
    ///
    /// # Errors
    ///
    /// If the files cannot be written.
    pub fn create(broker: BrokerCertificate, client: ClientCertificate) -> anyhow::Result<Self> {
        let folder = TempDir::with_prefix("purista-certificates-").context("temporary folder")?;
        let certificates = Self { folder: Arc::new(folder), broker, client };
        certificates.renew()?;
        Ok(certificates)
    }

    /// Writes other certificates of the same kinds into the same files, of other authorities.
    ///
    /// # Errors
    ///
    /// If the files cannot be written.
    pub fn renew(&self) -> anyhow::Result<()> {
        let (certificates, broker, client) = (self, self.broker, self.client);
        let trusted = Authority::new("trusted authority")?;
        let other = Authority::new("other authority")?;
        fs::write(certificates.authority(), &trusted.pem)?;

        let mut params = leaf(&["127.0.0.1", "::1", "localhost"], ExtendedKeyUsagePurpose::ServerAuth)?;
        let files = certificates.broker();
        match broker {
            BrokerCertificate::Trusted => trusted.sign(&params, &files)?,
            BrokerCertificate::OtherAuthority => other.sign(&params, &files)?,
            BrokerCertificate::OtherHost => {
                let params = leaf(&["elsewhere.invalid"], ExtendedKeyUsagePurpose::ServerAuth)?;
                trusted.sign(&params, &files)?;
            }
            BrokerCertificate::Expired => {
                params.not_after = date_time_ymd(2020, 1, 1);
                trusted.sign(&params, &files)?;
            }
            BrokerCertificate::SelfSigned => {
                let key = KeyPair::generate()?;
                files.write(&params.self_signed(&key)?.pem(), &key)?;
            }
            unknown => bail!("no certificate for {unknown:?}"),
        }

        let params = leaf(&["bridge"], ExtendedKeyUsagePurpose::ClientAuth)?;
        match (client, certificates.client()) {
            (ClientCertificate::Right, Some(files)) => trusted.sign(&params, &files)?,
            (ClientCertificate::OtherAuthority, Some(files)) => other.sign(&params, &files)?,
            (ClientCertificate::NotAsked | ClientCertificate::Missing, None) => {}
            (unknown, _) => bail!("no certificate for {unknown:?}"),
        }
        Ok(())
    }

    /// Returns the file of the authority that bridges trust.
    #[must_use]
    pub fn authority(&self) -> PathBuf {
        self.file("authority.pem")
    }

    /// Returns the file of the authority whose certificates the broker wants to see, if it asks for them.
    #[must_use]
    pub fn client_authority(&self) -> Option<PathBuf> {
        (self.client != ClientCertificate::NotAsked).then(|| self.authority())
    }

    /// Returns what the broker shows.
    #[must_use]
    pub fn broker(&self) -> PemFiles {
        PemFiles { certificate: self.file("broker.pem"), key: self.file("broker.key") }
    }

    /// Returns what the bridges show, if they show anything.
    #[must_use]
    pub fn client(&self) -> Option<PemFiles> {
        matches!(self.client, ClientCertificate::Right | ClientCertificate::OtherAuthority)
            .then(|| PemFiles { certificate: self.file("bridge.pem"), key: self.file("bridge.key") })
    }

    fn file(&self, name: &str) -> PathBuf {
        Path::new(self.folder.path()).join(name)
    }
}

impl PemFiles {
    fn write(&self, certificate: &str, key: &KeyPair) -> anyhow::Result<()> {
        fs::write(&self.certificate, certificate)?;
        Ok(fs::write(&self.key, key.serialize_pem())?)
    }
}

struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pem: String,
}

impl Authority {
    fn new(name: &str) -> anyhow::Result<Self> {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        let key = KeyPair::generate()?;
        let pem = params.self_signed(&key)?.pem();
        Ok(Self { issuer: Issuer::new(params, key), pem })
    }

    fn sign(&self, params: &CertificateParams, files: &PemFiles) -> anyhow::Result<()> {
        let key = KeyPair::generate()?;
        files.write(&params.signed_by(&key, &self.issuer)?.pem(), &key)
    }
}

fn leaf(hosts: &[&str], purpose: ExtendedKeyUsagePurpose) -> anyhow::Result<CertificateParams> {
    let hosts: Vec<_> = hosts.iter().map(|&host| host.to_owned()).collect();
    let mut params = CertificateParams::new(hosts)?;
    params.distinguished_name.push(DnType::CommonName, "purista test");
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![purpose];
    Ok(params)
}

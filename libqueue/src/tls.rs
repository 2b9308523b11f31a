//! TLS 1.3 with raw public keys (RFC 7250): every end is an Ed25519 key, and whom it must meet is a key or
//! left to the caller, who then compares with a host certificate. Knows keys; must not know hosts or users.
//!
//! Session resumption is off: a resumed session would skip the check of the peer's key against the
//! revocation list.

use rustls::client::AlwaysResolvesClientRawPublicKeys;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, aws_lc_rs, verify_tls13_signature_with_raw_key};
use rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer, ServerName, SubjectPublicKeyInfoDer, UnixTime};
use rustls::server::AlwaysResolvesServerRawPublicKeys;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::sign::CertifiedKey;
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, DistinguishedName, Error, ServerConfig,
    SignatureScheme,
};
use std::sync::{Arc, OnceLock};

/// DER of an Ed25519 SubjectPublicKeyInfo up to the 32 bytes of the key (RFC 8410).
const SPKI_PREFIX: [u8; 12] = [
    0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00,
];

/// An Ed25519 key for TLS.
#[derive(Clone)]
pub struct KeyPair {
    pkcs8: Vec<u8>,
    public: [u8; 32],
    certified: Arc<CertifiedKey>,
}

impl std::fmt::Debug for KeyPair {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("KeyPair")
            .field("public", &self.public)
            .finish_non_exhaustive()
    }
}

impl KeyPair {
    /// A new random key.
    ///
    /// # Errors
    /// If the operating system gives no randomness.
    pub fn generate() -> Result<Self, Error> {
        let key = ::aws_lc_rs::signature::Ed25519KeyPair::generate()
            .map_err(|_| Error::General("no randomness for a key".into()))?;
        let pkcs8 = key
            .to_pkcs8()
            .map_err(|_| Error::General("key has no encoding".into()))?;
        Self::from_pkcs8(pkcs8.as_ref())
    }

    /// Reads a PKCS#8 Ed25519 key.
    ///
    /// # Errors
    /// If it is none.
    pub fn from_pkcs8(pkcs8: &[u8]) -> Result<Self, Error> {
        let signer = aws_lc_rs::sign::any_eddsa_type(&PrivatePkcs8KeyDer::from(pkcs8))?;
        let spki = signer
            .public_key()
            .ok_or(Error::General("key has no public half".into()))?
            .to_vec();
        let public = public_of(&spki).ok_or(Error::General("not an Ed25519 key".into()))?;
        let certified = Arc::new(CertifiedKey::new(vec![CertificateDer::from(spki)], signer));
        Ok(Self {
            pkcs8: pkcs8.to_vec(),
            public,
            certified,
        })
    }

    /// The key as PKCS#8 DER: secret.
    pub fn pkcs8(&self) -> &[u8] {
        &self.pkcs8
    }

    /// The public half, raw.
    pub fn public(&self) -> [u8; 32] {
        self.public
    }
}

/// Whom a connection must meet.
#[derive(Debug, Clone)]
pub enum Peer {
    /// Exactly this key.
    Pinned([u8; 32]),
    /// One of these keys: the caller then looks which.
    OneOf(Vec<[u8; 32]>),
    /// The key that somebody puts in before the peer's flight is processed; none there: refused.
    Later(Arc<OnceLock<[u8; 32]>>),
    /// Whoever proves to have the key he shows: the caller then looks at [`peer_key`].
    Any,
}

/// The raw key out of a SubjectPublicKeyInfo.
fn public_of(spki: &[u8]) -> Option<[u8; 32]> {
    spki.strip_prefix(&SPKI_PREFIX)?.try_into().ok()
}

/// The peer's key after the handshake, from `peer_certificates()`.
pub fn peer_key(certs: Option<&[CertificateDer<'_>]>) -> Option<[u8; 32]> {
    public_of(certs?.first()?)
}

/// AES-128-GCM first (fastest here and everywhere with AES instructions), TLS 1.3 only.
fn provider() -> Arc<CryptoProvider> {
    static PROVIDER: OnceLock<Arc<CryptoProvider>> = OnceLock::new();
    PROVIDER
        .get_or_init(|| {
            Arc::new(CryptoProvider {
                cipher_suites: vec![
                    aws_lc_rs::cipher_suite::TLS13_AES_128_GCM_SHA256,
                    aws_lc_rs::cipher_suite::TLS13_AES_256_GCM_SHA384,
                    aws_lc_rs::cipher_suite::TLS13_CHACHA20_POLY1305_SHA256,
                ],
                kx_groups: vec![aws_lc_rs::kx_group::X25519],
                ..aws_lc_rs::default_provider()
            })
        })
        .clone()
}

#[derive(Debug)]
struct Verifier {
    peer: Peer,
    provider: Arc<CryptoProvider>,
}

impl Verifier {
    fn check(&self, cert: &CertificateDer<'_>) -> Result<(), Error> {
        let shown = public_of(cert).ok_or(Error::InvalidCertificate(CertificateError::BadEncoding))?;
        let is_wanted = match &self.peer {
            Peer::Any => true,
            Peer::Pinned(k) => *k == shown,
            Peer::OneOf(keys) => keys.contains(&shown),
            Peer::Later(k) => k.get() == Some(&shown),
        };
        if is_wanted {
            Ok(())
        } else {
            Err(Error::InvalidCertificate(
                CertificateError::ApplicationVerificationFailure,
            ))
        }
    }

    fn signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let spki = SubjectPublicKeyInfoDer::from(cert.as_ref());
        let algs = &self.provider.signature_verification_algorithms;
        verify_tls13_signature_with_raw_key(message, &spki, dss, algs)
    }
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        self.check(end_entity).map(|()| ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(Error::General("TLS 1.2 is not spoken".into()))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![SignatureScheme::ED25519]
    }

    fn requires_raw_public_keys(&self) -> bool {
        true
    }
}

impl ClientCertVerifier for Verifier {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        self.check(end_entity).map(|()| ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(Error::General("TLS 1.2 is not spoken".into()))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![SignatureScheme::ED25519]
    }

    fn requires_raw_public_keys(&self) -> bool {
        true
    }
}

/// The configuration of a connecting end.
///
/// # Errors
/// If the provider lacks TLS 1.3 (a build fault).
pub fn client_config(key: &KeyPair, peer: Peer) -> Result<Arc<ClientConfig>, Error> {
    let provider = provider();
    let verifier = Arc::new(Verifier {
        peer,
        provider: provider.clone(),
    });
    let mut c = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .dangerous()
        .with_custom_certificate_verifier(verifier)
        .with_client_cert_resolver(Arc::new(AlwaysResolvesClientRawPublicKeys::new(
            key.certified.clone(),
        )));
    c.resumption = rustls::client::Resumption::disabled();
    c.enable_sni = false;
    Ok(Arc::new(c))
}

/// The configuration of an accepting end; the peer must show a key as well.
///
/// # Errors
/// If the provider lacks TLS 1.3 (a build fault).
pub fn server_config(key: &KeyPair, peer: Peer) -> Result<Arc<ServerConfig>, Error> {
    let provider = provider();
    let verifier = Arc::new(Verifier {
        peer,
        provider: provider.clone(),
    });
    let mut c = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_client_cert_verifier(verifier)
        .with_cert_resolver(Arc::new(AlwaysResolvesServerRawPublicKeys::new(
            key.certified.clone(),
        )));
    c.send_tls13_tickets = 0;
    c.session_storage = Arc::new(rustls::server::NoServerSessionStorage {});
    Ok(Arc::new(c))
}

/// The name that goes where TLS wants one. It is not sent (SNI is off) and not compared: keys are.
pub fn server_name() -> ServerName<'static> {
    ServerName::IpAddress(std::net::IpAddr::from([0, 0, 0, 0]).into())
}

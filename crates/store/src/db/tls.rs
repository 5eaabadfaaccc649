//! TLS to PostgreSQL: what `sslmode` and `sslrootcert` of a connection string mean, and the handshake.
//!
//! Invariant: a connection string that asks for TLS gets it or an error, never less. `require` encrypts and believes any
//! certificate, as it does elsewhere; with `sslrootcert` it is `verify-ca`. Who says nothing is encrypted where the
//! server offers it, and not on the loopback interface or a unix socket
//! (docs/adr/0011-let-the-url-say-how-postgresql-is-trusted.md).

use std::io;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use lantern_types::Secret;
use lantern_types::edge::BoxFuture;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::verify_server_cert_signed_by_trust_anchor;
use rustls::crypto::{
    CryptoProvider, WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature,
};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_postgres::config::{Host, SslMode};
use tokio_postgres::tls::{ChannelBinding, MakeTlsConnect, TlsConnect, TlsStream};
use tokio_postgres::{Client, Config, Connection, Socket};
use tokio_rustls::{TlsConnector, client};

use super::url::{self, Parts};
use crate::error::{Error, Result, Source};

/// The longest that a handshake may take.
const HANDSHAKE_MAX: Duration = Duration::from_secs(10);
/// What `sslrootcert` says for the roots that are built in.
const SYSTEM: &str = "system";
/// Nothing is asked of a certificate; who is asked is decided by [`trust`].
type Roots = Option<Arc<RootCertStore>>;

/// How a role connects: where to, and how far the other side is trusted.
#[derive(Clone)]
pub(super) struct Way {
    pub(super) config: Config,
    pub(super) tls: Connector,
    /// Whether a server elsewhere may be spoken to in the clear because nobody said anything.
    unsaid: bool,
}

impl Way {
    /// `Misuse` when the connection string is none, or asks for what there is not.
    pub(super) fn parse(text: &Secret<String>) -> Result<Self> {
        let Parts { rest, mode, root } = url::split(text.expose()).map_err(Error::Misuse)?;
        let mut config: Config =
            rest.parse().map_err(|e: tokio_postgres::Error| Error::Misuse(super::postgres::describe(&e)))?;
        let mode = mode.as_deref().unwrap_or("prefer");
        let unsaid = mode == "prefer" && !is_local(&config);
        let (ssl, tls) = match mode {
            "disable" => (SslMode::Disable, None),
            "prefer" if !unsaid => (SslMode::Disable, None),
            "prefer" => (SslMode::Prefer, Some(Trust::Anybody)),
            mode => (SslMode::Require, Some(trust(mode, root.as_deref())?)),
        };
        config.ssl_mode(ssl);
        Ok(Self { config, tls: Connector(tls.map(client_config).transpose()?), unsaid })
    }

    /// A connection of its own.
    pub(super) async fn connect(
        &self,
    ) -> Result<(Client, Connection<Socket, Stream>), tokio_postgres::Error> {
        self.config.connect(self.tls.clone()).await
    }

    /// Says it when what nobody asked to be encrypted is not.
    pub(super) async fn warn(&self, client: &Client) {
        if !self.unsaid {
            return;
        }
        let sql = "SELECT count(*) FROM pg_stat_ssl WHERE pid = pg_backend_pid() AND NOT ssl";
        let open = client.query_one(sql, &[]).await.and_then(|row| row.try_get::<_, i64>(0));
        if open.is_ok_and(|count| count > 0) {
            tracing::warn!(
                "the connection to PostgreSQL is not encrypted, because the server does not offer it; say \
                 sslmode=verify-full in its URL once it does, or sslmode=disable if that is as you want it"
            );
        }
    }
}

/// Whether every server that is named is on this machine.
fn is_local(config: &Config) -> bool {
    let named = config.get_hosts().iter().all(|host| match host {
        Host::Unix(_) => true,
        Host::Tcp(name) => {
            name == "localhost" || name.parse().is_ok_and(|address: IpAddr| address.is_loopback())
        }
    });
    named && config.get_hostaddrs().iter().all(IpAddr::is_loopback)
}

/// Whom to believe.
enum Trust {
    /// Whoever answers.
    Anybody,
    /// Whoever these vouch for, under whatever name.
    Vouched(RootCertStore),
    /// Whoever these vouch for, under the name that was dialled.
    Named(RootCertStore),
}

fn trust(mode: &str, root: Option<&str>) -> Result<Trust> {
    match (mode, root) {
        ("verify-full", None | Some(SYSTEM)) => Ok(Trust::Named(lantern_net::http::roots())),
        (_, Some(SYSTEM)) => Err(Error::Misuse("sslrootcert=system needs sslmode=verify-full".to_owned())),
        ("verify-full", Some(path)) => Ok(Trust::Named(roots(path)?)),
        ("verify-ca" | "require", Some(path)) => Ok(Trust::Vouched(roots(path)?)),
        ("require", None) => Ok(Trust::Anybody),
        ("verify-ca", None) => {
            let advice =
                "sslmode=verify-ca needs sslrootcert: anybody can get a certificate from a public authority";
            Err(Error::Misuse(advice.to_owned()))
        }
        _ => Err(Error::Misuse(
            "sslmode is none of disable, prefer, require, verify-ca and verify-full".to_owned(),
        )),
    }
}

/// The certificates of a PEM file.
fn roots(path: &str) -> Result<RootCertStore> {
    let wrong = |what: String| Error::Misuse(format!("sslrootcert: {path}: {what}"));
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_file_iter(path).map_err(|e| wrong(e.to_string()))? {
        let certificate = certificate.map_err(|e| wrong(e.to_string()))?;
        roots.add(certificate).map_err(|e| wrong(e.to_string()))?;
    }
    if roots.is_empty() { Err(wrong("there is no certificate in it".to_owned())) } else { Ok(roots) }
}

fn client_config(trust: Trust) -> Result<Arc<ClientConfig>> {
    // Named, as the HTTP client does it: nothing depends on what the process installed.
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let unnamed = |roots| Arc::new(Unnamed::new(&provider, roots));
    let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(Error::internal)?;
    let mut config = match trust {
        Trust::Named(roots) => builder.with_root_certificates(roots).with_no_client_auth(),
        Trust::Vouched(roots) => {
            let verifier = unnamed(Some(Arc::new(roots)));
            builder.dangerous().with_custom_certificate_verifier(verifier).with_no_client_auth()
        }
        Trust::Anybody => {
            builder.dangerous().with_custom_certificate_verifier(unnamed(None)).with_no_client_auth()
        }
    };
    config.alpn_protocols = vec![b"postgresql".to_vec()];
    Ok(Arc::new(config))
}

/// Checks who vouches for a certificate, if anybody must, and not its name.
#[derive(Debug)]
struct Unnamed {
    roots: Roots,
    algorithms: WebPkiSupportedAlgorithms,
}

impl Unnamed {
    fn new(provider: &CryptoProvider, roots: Roots) -> Self {
        Self { roots, algorithms: provider.signature_verification_algorithms }
    }
}

impl ServerCertVerifier for Unnamed {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _name: &ServerName<'_>,
        _ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        if let Some(roots) = &self.roots {
            let certificate = ParsedCertificate::try_from(end_entity)?;
            verify_server_cert_signed_by_trust_anchor(
                &certificate,
                roots,
                intermediates,
                now,
                self.algorithms.all,
            )?;
        }
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, certificate, signed, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signed, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

/// Makes handshakes for the driver; none where there is no TLS.
#[derive(Clone)]
pub(super) struct Connector(Option<Arc<ClientConfig>>);

impl MakeTlsConnect<Socket> for Connector {
    type Stream = Stream;
    type TlsConnect = Handshake;
    type Error = Source;

    fn make_tls_connect(&mut self, domain: &str) -> Result<Handshake, Source> {
        Ok(Handshake { config: self.0.clone(), name: domain.to_owned() })
    }
}

/// One handshake to come.
pub(super) struct Handshake {
    config: Option<Arc<ClientConfig>>,
    name: String,
}

impl TlsConnect<Socket> for Handshake {
    type Stream = Stream;
    type Error = Source;
    type Future = BoxFuture<'static, Result<Stream, Source>>;

    fn connect(self, socket: Socket) -> Self::Future {
        Box::pin(async move {
            let config = self.config.ok_or("no TLS was asked for")?;
            let name = ServerName::try_from(self.name)?;
            let shaken = TlsConnector::from(config).connect(name, socket);
            let stream = tokio::time::timeout(HANDSHAKE_MAX, shaken).await??;
            Ok(Stream(Box::new(stream)))
        })
    }
}

/// An encrypted connection.
pub(super) struct Stream(Box<client::TlsStream<Socket>>);

impl TlsStream for Stream {
    fn channel_binding(&self) -> ChannelBinding {
        ChannelBinding::none()
    }
}

impl AsyncRead for Stream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        to: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, to)
    }
}

impl AsyncWrite for Stream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, from: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, from)
    }
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }
    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Way> {
        Way::parse(&Secret::new(text.to_owned()))
    }

    #[test]
    fn what_each_mode_does() {
        let far = "postgresql://u:p@db.example/x";
        for (text, want) in [
            (far.to_owned(), Some((SslMode::Prefer, true))),
            (format!("{far}?sslmode=prefer"), Some((SslMode::Prefer, true))),
            (format!("{far}?sslmode=disable"), Some((SslMode::Disable, false))),
            (format!("{far}?sslmode=require"), Some((SslMode::Require, true))),
            (format!("{far}?sslmode=verify-full"), Some((SslMode::Require, true))),
            (format!("{far}?sslmode=verify-full&sslrootcert=system"), Some((SslMode::Require, true))),
            // What is on this machine is as it always was.
            ("postgresql://u@localhost/x".to_owned(), Some((SslMode::Disable, false))),
            ("postgresql://u@127.0.0.1/x".to_owned(), Some((SslMode::Disable, false))),
            ("postgresql://u@[::1]/x".to_owned(), Some((SslMode::Disable, false))),
            ("host=/run/postgresql user=u".to_owned(), Some((SslMode::Disable, false))),
            ("host=localhost,db.example user=u".to_owned(), Some((SslMode::Prefer, true))),
            ("host=localhost hostaddr=10.0.0.1 user=u".to_owned(), Some((SslMode::Prefer, true))),
            ("host=localhost sslmode=require".to_owned(), Some((SslMode::Require, true))),
            // Less than was asked for is an error.
            (format!("{far}?sslmode=allow"), None),
            (format!("{far}?sslmode=Require"), None),
            (format!("{far}?sslmode=verify-ca"), None),
            (format!("{far}?sslmode=verify-ca&sslrootcert=system"), None),
            (format!("{far}?sslmode=require&sslrootcert=system"), None),
            (format!("{far}?sslmode=verify-full&sslrootcert=/no/such/file"), None),
            (format!("{far}?sslmode=verify-full&sslcert=/a"), None),
        ] {
            let way = parse(&text);
            let got = way.as_ref().ok().map(|way| (way.config.get_ssl_mode(), way.tls.0.is_some()));
            assert_eq!(got, want, "{text}");
            assert!(way.is_ok() || matches!(way, Err(Error::Misuse(_))), "{text}");
        }
    }
}

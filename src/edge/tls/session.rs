//! [`SessionTls`]: the TLS of one control session, which its data connections are made with.

use std::{net::IpAddr, sync::Arc, time::Duration};

use rustls::{ServerConnection, pki_types::CertificateDer, server::Acceptor};
use tokio::{net::TcpStream, time::timeout};
use tokio_rustls::{LazyConfigAcceptor, server::TlsStream};

use super::{
    Flow, Handshake, HandshakeError, client,
    policy::Configs,
    resumption::{Resumption, Tags, Token},
};
use crate::config::Resumption as Mode;

/// What the data connections of one control session share with it. Dropped with the session, it ends
/// the session's place among those whose tickets count.
#[derive(Debug)]
pub struct SessionTls {
    /// Those the control connection was made with, whatever was reloaded since.
    configs: Arc<Configs>,
    resumption: Arc<Resumption>,
    token: Token,
    /// The session that the control connection resumed.
    parent: Option<Token>,
    /// What the client said in SNI.
    server_name: Option<String>,
    /// The client's own certificate, verified.
    certificate: Option<CertificateDer<'static>>,
}

impl SessionTls {
    pub(super) fn new(
        configs: Arc<Configs>,
        resumption: &Arc<Resumption>,
        tags: &Tags,
        connection: &ServerConnection,
    ) -> Self {
        let resumed = connection.handshake_kind() == Some(rustls::HandshakeKind::Resumed);
        Self {
            configs,
            resumption: Arc::clone(resumption),
            token: tags.token(),
            parent: tags.offered().filter(|_| resumed),
            server_name: connection.server_name().map(str::to_owned),
            certificate: leaf(connection).cloned(),
        }
    }

    /// The session is this account's from now on.
    pub fn log_in(&self, account: &str, address: IpAddr) {
        self.resumption.log_in(self.token, account, address);
    }

    /// What the client said in SNI.
    pub fn server_name(&self) -> Option<&str> {
        self.server_name.as_deref()
    }

    /// What the users file may name of the client's certificate; empty without one.
    pub fn identities(&self) -> Vec<String> {
        match (&self.certificate, self.configs.map_by) {
            (Some(certificate), Some(map_by)) => client::identities(certificate, map_by),
            _ => Vec::new(),
        }
    }

    /// Accepts TLS on a data connection and makes sure that it belongs to the session.
    ///
    /// # Cancel safety
    /// Dropping the future closes the connection.
    pub async fn accept_data(
        &self,
        stream: TcpStream,
        flow: Flow,
        deadline: Duration,
    ) -> Result<(TlsStream<TcpStream>, Handshake), HandshakeError> {
        let tags = self.resumption.for_data(self.token, self.parent);
        let accept = async {
            let start = LazyConfigAcceptor::new(Acceptor::default(), stream).await?;
            let config = self.configs.for_data(flow, start.client_hello().alpn())?;
            Ok(start.into_stream(tags.apply(config)).await?)
        };
        let stream = timeout(deadline, accept)
            .await
            .map_err(|_| HandshakeError::Timeout(deadline))
            .flatten()?;
        let handshake = Handshake::of(&stream);
        if !handshake.resumed && tags.was_foreign() {
            return Err(HandshakeError::ForeignSession);
        }
        if !handshake.resumed && self.resumption.mode() == Mode::Enforced {
            return Err(HandshakeError::NotResumed);
        }
        let presented = leaf(stream.get_ref().1);
        if presented.is_some() && presented != self.certificate.as_ref() {
            return Err(HandshakeError::OtherCertificate);
        }
        Ok((stream, handshake))
    }
}

impl Drop for SessionTls {
    fn drop(&mut self) {
        self.resumption.end(self.token);
    }
}

fn leaf(connection: &ServerConnection) -> Option<&CertificateDer<'static>> {
    connection.peer_certificates()?.first()
}

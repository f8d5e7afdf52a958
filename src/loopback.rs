//! [`pair`]: a connection within this process, for libraries that take a socket and nothing else.

use std::{io, net::Ipv4Addr};

use tokio::net::{TcpListener, TcpStream};

/// Two ends of one TCP connection inside this process. The accepted end is checked to be ours:
/// anybody on the machine can connect to a loopback port.
pub(crate) async fn pair() -> io::Result<(TcpStream, TcpStream)> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
    let ours = TcpStream::connect(listener.local_addr()?).await?;
    let expected = ours.local_addr()?;
    loop {
        let (theirs, peer) = listener.accept().await?;
        if peer == expected {
            ours.set_nodelay(true)?;
            theirs.set_nodelay(true)?;
            return Ok((ours, theirs));
        }
    }
}

//! A link that can break: control and data connections relayed byte by byte, counted and cut.

use std::{
    io::{self, Read, Write},
    net::{Shutdown, SocketAddr, TcpListener, TcpStream},
    ops::RangeInclusive,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread,
};

use serde_json::json;

use super::{Builder, Server};

/// Where servers behind a relay listen, so that the relay can have the same ports on 127.0.0.1.
const BEHIND: [u8; 4] = [127, 0, 0, 2];

/// Relays 127.0.0.1 to a server on 127.0.0.2. Its threads end with the test's process.
pub(crate) struct Relay {
    /// Where clients connect to.
    pub(crate) address: SocketAddr,
    wires: Arc<Wires>,
}

#[derive(Default)]
struct Wires {
    /// Bytes from the client on one data connection before the link breaks; 0 never.
    cut: AtomicU64,
    /// Nobody gets through.
    broken: AtomicBool,
    /// Bytes from the client, by data connection.
    moved: Mutex<Vec<Arc<AtomicU64>>>,
    live: Mutex<Vec<TcpStream>>,
}

impl Relay {
    /// Makes the explicit listener one that a relay can stand before; the range goes to
    /// [`Relay::start`].
    pub(crate) fn prepare(builder: Builder) -> (Builder, RangeInclusive<u16>) {
        let ports = Server::free_ports();
        let range = format!("{}-{}", ports.start(), ports.end());
        let builder = builder.set("/listeners/0/address", "127.0.0.2:0").set(
            "/listeners/0/passive",
            json!({"ports": range, "ports_per_user": 10, "address": "127.0.0.1"}),
        );
        (builder, ports)
    }

    /// Relays to the explicit listener of `server` and to its passive ports.
    pub(crate) fn start(server: &Server, ports: RangeInclusive<u16>) -> Self {
        let wires = Arc::new(Wires::default());
        let control = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = control.local_addr().unwrap();
        accept(control, server.explicit, Arc::clone(&wires), false);
        for port in ports {
            let listener = TcpListener::bind(("127.0.0.1", port)).unwrap();
            let target = SocketAddr::from((BEHIND, port));
            accept(listener, target, Arc::clone(&wires), true);
        }
        Self { address, wires }
    }

    /// Breaks the whole link, until it is mended, when a data connection has carried this much from the client.
    pub(crate) fn cut_after(&self, bytes: u64) {
        self.wires.cut.store(bytes, Ordering::SeqCst);
    }

    /// Lets new connections through again.
    pub(crate) fn mend(&self) {
        self.wires.broken.store(false, Ordering::SeqCst);
    }

    /// Bytes from the client on all data connections so far.
    pub(crate) fn moved(&self) -> u64 {
        let moved = self.wires.moved.lock().unwrap();
        moved.iter().map(|bytes| bytes.load(Ordering::SeqCst)).sum()
    }
}

impl Wires {
    fn break_all(&self) {
        for stream in self.live.lock().unwrap().drain(..) {
            // A FIN: what was sent before still arrives. Gone already is as good.
            let _ = stream.shutdown(Shutdown::Both);
        }
    }
}

fn accept(listener: TcpListener, target: SocketAddr, wires: Arc<Wires>, data: bool) {
    thread::spawn(move || {
        for client in listener.incoming() {
            let client = client.unwrap();
            if wires.broken.load(Ordering::SeqCst) {
                continue;
            }
            // Nobody waits on that port: the client sees its connection closed.
            let Ok(server) = TcpStream::connect(target) else {
                continue;
            };
            let wires = Arc::clone(&wires);
            thread::spawn(move || relay(&client, &server, &wires, data));
        }
    });
}

fn relay(client: &TcpStream, server: &TcpStream, wires: &Arc<Wires>, data: bool) {
    let pair = || io::Result::Ok([client.try_clone()?, server.try_clone()?]);
    wires.live.lock().unwrap().extend(pair().unwrap());
    let count = Arc::new(AtomicU64::new(0));
    if data {
        wires.moved.lock().unwrap().push(Arc::clone(&count));
    }
    thread::scope(|scope| {
        scope.spawn(|| pump(server, client, |_| true));
        pump(client, server, |bytes| {
            let moved = count.fetch_add(bytes, Ordering::SeqCst) + bytes;
            let cut = wires.cut.load(Ordering::SeqCst);
            let whole = !data || cut == 0 || moved < cut;
            if !whole {
                wires.cut.store(0, Ordering::SeqCst);
                wires.broken.store(true, Ordering::SeqCst);
            }
            whole
        });
    });
    // Only once the server has seen the end: what was sent before the link broke has arrived.
    if wires.broken.load(Ordering::SeqCst) {
        wires.break_all();
    }
}

/// Moves bytes until the end or until `go_on` says no.
fn pump(mut from: &TcpStream, mut to: &TcpStream, mut go_on: impl FnMut(u64) -> bool) {
    let mut chunk = vec![0; 16 << 10];
    while let Ok(count @ 1..) = from.read(&mut chunk) {
        if to.write_all(&chunk[..count]).is_err() || !go_on(count as u64) {
            break;
        }
    }
    let _ = to.shutdown(Shutdown::Write);
}

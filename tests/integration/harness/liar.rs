//! [`Liar`]: a directory that answers as a test tells it to, true or not.

use std::{
    io::{Read, Write},
    net::{Shutdown, TcpListener, TcpStream},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread,
    time::Duration,
};

/// What of a request matters.
#[derive(Clone, Copy)]
pub(crate) struct Asked {
    pub(crate) id: u8,
    /// The tag of its operation.
    pub(crate) operation: u8,
}

pub(crate) const BIND: u8 = 0x60;
pub(crate) const SEARCH: u8 = 0x63;

/// What follows a request.
pub(crate) enum Answer {
    Bytes(Vec<u8>),
    /// These again and again, until the client has enough.
    Endless(Vec<u8>),
    /// These, and the end of the connection.
    Last(Vec<u8>),
}

pub(crate) type Script = fn(Asked) -> Answer;

/// A server on loopback, ended with the test.
pub(crate) struct Liar {
    port: u16,
    script: Arc<Mutex<Script>>,
    connections: Arc<AtomicUsize>,
    ended: Arc<AtomicBool>,
}

impl Liar {
    pub(crate) fn start(script: Script) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let liar = Self {
            port,
            script: Arc::new(Mutex::new(script)),
            connections: Arc::default(),
            ended: Arc::default(),
        };
        let (script, connections, ended) = (
            Arc::clone(&liar.script),
            Arc::clone(&liar.connections),
            Arc::clone(&liar.ended),
        );
        thread::spawn(move || {
            for stream in listener.incoming() {
                if ended.load(Ordering::Relaxed) {
                    return;
                }
                connections.fetch_add(1, Ordering::Relaxed);
                let script = Arc::clone(&script);
                // A client that goes away ends it.
                thread::spawn(move || serve(stream.unwrap(), &script));
            }
        });
        liar
    }

    pub(crate) fn url(&self) -> String {
        format!("ldap://127.0.0.1:{}", self.port)
    }

    /// From the next request on.
    pub(crate) fn play(&self, script: Script) {
        *self.script.lock().unwrap() = script;
    }

    /// Made so far.
    pub(crate) fn connections(&self) -> usize {
        self.connections.load(Ordering::Relaxed)
    }
}

impl Drop for Liar {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::Relaxed);
        let _ = TcpStream::connect(("127.0.0.1", self.port));
    }
}

fn serve(mut stream: TcpStream, script: &Mutex<Script>) {
    let patience = Some(Duration::from_mins(1));
    stream.set_read_timeout(patience).unwrap();
    stream.set_write_timeout(patience).unwrap();
    while let Some(asked) = request(&mut stream) {
        let script = *script.lock().unwrap();
        let sent = match script(asked) {
            Answer::Bytes(bytes) => stream.write_all(&bytes),
            Answer::Endless(bytes) => loop {
                if let Err(error) = stream.write_all(&bytes) {
                    break Err(error);
                }
            },
            Answer::Last(bytes) => {
                let _ = stream.write_all(&bytes);
                stream.shutdown(Shutdown::Both)
            }
        };
        if sent.is_err() {
            return;
        }
    }
}

/// `30 length 02 01 id operation …`
fn request(stream: &mut TcpStream) -> Option<Asked> {
    let mut header = [0; 2];
    stream.read_exact(&mut header).ok()?;
    let mut length = usize::from(header[1]);
    if length >= 0x80 {
        let mut digits = vec![0; length - 0x80];
        stream.read_exact(&mut digits).ok()?;
        length = digits
            .iter()
            .fold(0, |sum, &byte| sum << 8 | usize::from(byte));
    }
    let mut body = vec![0; length];
    stream.read_exact(&mut body).ok()?;
    Some(Asked {
        id: *body.get(2)?,
        operation: *body.get(3)?,
    })
}

/// Tag, length, content.
pub(crate) fn tlv(tag: u8, content: &[u8]) -> Vec<u8> {
    let length = content.len();
    let mut value = vec![tag];
    if length < 0x80 {
        value.push(u8::try_from(length).unwrap());
    } else {
        value.push(0x84);
        value.extend(u32::try_from(length).unwrap().to_be_bytes());
    }
    value.extend(content);
    value
}

/// One message.
pub(crate) fn message(id: u8, operation: &[u8]) -> Vec<u8> {
    tlv(0x30, &[&[2, 1, id], operation].concat())
}

/// Result code 0, no DN, no text.
pub(crate) const SUCCESS: &[u8] = &[0x0A, 1, 0, 4, 0, 4, 0];

/// An entry with one attribute.
pub(crate) fn entry(id: u8, dn: &[u8], attribute: &str, value: &[u8]) -> Vec<u8> {
    let values = tlv(0x31, &tlv(4, value));
    let attribute = [tlv(4, attribute.as_bytes()), values].concat();
    let attributes = tlv(0x30, &tlv(0x30, &attribute));
    message(id, &tlv(0x64, &[tlv(4, dn), attributes].concat()))
}

/// A directory of one user, `carol`, with any password.
pub(crate) fn honest(asked: Asked) -> Answer {
    let Asked { id, operation } = asked;
    Answer::Bytes(match operation {
        SEARCH => {
            let found = entry(id, b"uid=carol,dc=example", "uid", b"carol");
            [found, message(id, &tlv(0x65, SUCCESS))].concat()
        }
        // The response to an operation has the next tag; an unbind has none.
        0x42 => Vec::new(),
        _ => message(id, &tlv(operation + 1, SUCCESS)),
    })
}

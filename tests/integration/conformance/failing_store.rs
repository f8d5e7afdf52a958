//! An S3 server that lists one home directory and fails each write.

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    thread,
};

/// Starts one that answers writes with this status and S3 error code, for the life of the process.
pub(super) fn start(status: &'static str, code: &'static str) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let stream = stream.unwrap();
            thread::spawn(move || serve(stream, status, code));
        }
    });
    address
}

fn serve(stream: TcpStream, status: &str, code: &str) {
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    let mut writer = stream;
    loop {
        let (mut line, mut length) = (String::new(), 0);
        if !matches!(reader.read_line(&mut line), Ok(1..)) {
            return;
        }
        let request = line.clone();
        loop {
            line.clear();
            if !matches!(reader.read_line(&mut line), Ok(1..)) {
                return;
            }
            if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
                length = value.trim().parse().unwrap();
            }
            if line.trim().is_empty() {
                break;
            }
        }
        if std::io::copy(&mut (&mut reader).take(length), &mut std::io::sink()).is_err() {
            return;
        }
        let (status, body) = answer(&request, status, code);
        let length = if request.starts_with("HEAD") {
            0
        } else {
            body.len()
        };
        let head = format!("HTTP/1.1 {status}\r\nContent-Length: {length}\r\n\r\n");
        if writer.write_all(head.as_bytes()).is_err()
            || writer.write_all(&body.as_bytes()[..length]).is_err()
        {
            return;
        }
    }
}

fn answer(request: &str, status: &str, code: &str) -> (String, String) {
    let is_home = request.contains("prefix=alice/&");
    let content = if is_home {
        "<Contents><Key>alice/</Key><Size>0</Size><ETag>\"e\"</ETag>\
         <LastModified>2026-01-01T00:00:00.000Z</LastModified></Contents>"
    } else {
        ""
    };
    if request.starts_with("GET") {
        let body = format!(
            "<?xml version=\"1.0\"?><ListBucketResult><IsTruncated>false</IsTruncated>{content}\
             </ListBucketResult>"
        );
        ("200 OK".to_owned(), body)
    } else if request.starts_with("HEAD") {
        ("404 Not Found".to_owned(), String::new())
    } else if request.starts_with("POST") && request.contains("?uploads") {
        let body = "<?xml version=\"1.0\"?><InitiateMultipartUploadResult><UploadId>u</UploadId>\
                    </InitiateMultipartUploadResult>";
        ("200 OK".to_owned(), body.to_owned())
    } else if request.starts_with("DELETE") {
        ("204 No Content".to_owned(), String::new())
    } else {
        let body = format!("<?xml version=\"1.0\"?><Error><Code>{code}</Code></Error>");
        (status.to_owned(), body)
    }
}

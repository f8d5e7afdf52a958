//! A part as the body of a request: chunks that go out as they came, neither copied nor joined.

use std::{
    collections::VecDeque,
    convert::Infallible,
    pin::Pin,
    task::{Context, Poll},
};

use aws_sdk_s3::primitives::{ByteStream, SdkBody};
use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};

use crate::store::length;

/// Chunks still to be sent.
struct Chunks {
    rest: VecDeque<Bytes>,
    bytes: u64,
}

/// A body that can be sent again: a repeated try clones the handles, not the bytes.
pub(super) fn body(chunks: Vec<Bytes>) -> ByteStream {
    if chunks.iter().all(Bytes::is_empty) {
        return ByteStream::from_static(b"");
    }
    ByteStream::new(SdkBody::retryable(move || {
        SdkBody::from_body_1_x(Chunks {
            rest: chunks.iter().cloned().collect(),
            bytes: length(&chunks),
        })
    }))
}

impl Body for Chunks {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let chunk = self.rest.pop_front();
        if let Some(chunk) = &chunk {
            self.bytes -= chunk.len() as u64;
        }
        Poll::Ready(chunk.map(|chunk| Ok(Frame::data(chunk))))
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.bytes)
    }
}

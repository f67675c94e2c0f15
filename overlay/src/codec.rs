//! How questions and answers travel: their length in four bytes, big-endian, then themselves.

use libp2p::futures::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use libp2p::{StreamProtocol, request_response};
use margay_core::overlay::OVERLAY_BYTES_MAX;
use std::io;
use std::time::Duration;

/// What came through a stream. What the other side does wrong is told like a message, for libp2p
/// tells nobody of streams that fail before a question is read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Carried {
    /// A message, of at most [`OVERLAY_BYTES_MAX`] bytes.
    Whole(Vec<u8>),
    /// The announcement of a longer one.
    TooLong,
    /// A part of a question, and nothing more in time.
    Stalled,
}

/// Reads and writes one message a stream and direction.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Codec {
    /// How long a question is waited for.
    pub(crate) question_timeout: Duration,
}

impl request_response::Codec for Codec {
    type Protocol = StreamProtocol;
    type Request = Carried;
    type Response = Carried;

    async fn read_request<T>(&mut self, _: &StreamProtocol, io: &mut T) -> io::Result<Carried>
    where
        T: AsyncRead + Unpin + Send,
    {
        let read = tokio::time::timeout(self.question_timeout, read(io));
        read.await.unwrap_or(Ok(Carried::Stalled))
    }

    async fn read_response<T>(&mut self, _: &StreamProtocol, io: &mut T) -> io::Result<Carried>
    where
        T: AsyncRead + Unpin + Send,
    {
        read(io).await
    }

    async fn write_request<T>(
        &mut self,
        _: &StreamProtocol,
        io: &mut T,
        request: Carried,
    ) -> io::Result<()>
    where
        T: AsyncWrite + Unpin + Send,
    {
        write(io, request).await
    }

    async fn write_response<T>(
        &mut self,
        _: &StreamProtocol,
        io: &mut T,
        response: Carried,
    ) -> io::Result<()>
    where
        T: AsyncWrite + Unpin + Send,
    {
        write(io, response).await
    }
}

async fn read<T: AsyncRead + Unpin + Send>(io: &mut T) -> io::Result<Carried> {
    let mut length = [0; 4];
    io.read_exact(&mut length).await?;
    let length = u32::from_be_bytes(length) as usize;
    if length > OVERLAY_BYTES_MAX {
        return Ok(Carried::TooLong);
    }
    let mut bytes = vec![0; length];
    io.read_exact(&mut bytes).await?;
    Ok(Carried::Whole(bytes))
}

async fn write<T: AsyncWrite + Unpin + Send>(io: &mut T, message: Carried) -> io::Result<()> {
    let Carried::Whole(bytes) = message else {
        return Err(io::ErrorKind::InvalidInput.into());
    };
    let length = u32::try_from(bytes.len()).map_err(|_| io::ErrorKind::InvalidInput)?;
    io.write_all(&length.to_be_bytes()).await?;
    io.write_all(&bytes).await?;
    io.flush().await
}

#[cfg(test)]
mod tests {
    use super::*;
    use libp2p::futures::io::Cursor;

    async fn carried(length: usize) -> io::Result<Carried> {
        let mut stream = Cursor::new(Vec::new());
        write(&mut stream, Carried::Whole(vec![7; length])).await?;
        stream.set_position(0);
        read(&mut stream).await
    }

    #[tokio::test]
    async fn messages_up_to_the_bound_read_back_and_longer_ones_are_not_read() {
        for length in [0, 1, OVERLAY_BYTES_MAX] {
            let expected = Carried::Whole(vec![7; length]);
            assert!(carried(length).await.unwrap() == expected, "{length}");
        }
        let longer = carried(OVERLAY_BYTES_MAX + 1).await;
        assert_eq!(longer.unwrap(), Carried::TooLong);
    }

    #[tokio::test]
    async fn a_stream_that_ends_early_carries_nothing() {
        let mut cut = Cursor::new(vec![0, 0, 0, 2, 7]);
        read(&mut cut).await.unwrap_err();
    }
}

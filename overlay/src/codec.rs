//! How questions and answers travel: their length in four bytes, big-endian, then themselves.

use libp2p::futures::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use libp2p::{StreamProtocol, request_response};
use margay_core::overlay::OVERLAY_BYTES_MAX;
use std::io;

/// Reads and writes one message a stream and direction, of at most [`OVERLAY_BYTES_MAX`] bytes.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Codec;

impl request_response::Codec for Codec {
    type Protocol = StreamProtocol;
    type Request = Vec<u8>;
    type Response = Vec<u8>;

    async fn read_request<T>(&mut self, _: &StreamProtocol, io: &mut T) -> io::Result<Vec<u8>>
    where
        T: AsyncRead + Unpin + Send,
    {
        read(io).await
    }

    async fn read_response<T>(&mut self, _: &StreamProtocol, io: &mut T) -> io::Result<Vec<u8>>
    where
        T: AsyncRead + Unpin + Send,
    {
        read(io).await
    }

    async fn write_request<T>(
        &mut self,
        _: &StreamProtocol,
        io: &mut T,
        request: Vec<u8>,
    ) -> io::Result<()>
    where
        T: AsyncWrite + Unpin + Send,
    {
        write(io, &request).await
    }

    async fn write_response<T>(
        &mut self,
        _: &StreamProtocol,
        io: &mut T,
        response: Vec<u8>,
    ) -> io::Result<()>
    where
        T: AsyncWrite + Unpin + Send,
    {
        write(io, &response).await
    }
}

/// Whether a stream carried what is no message, rather than ending or failing.
pub(crate) fn is_nonsense(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::InvalidData
}

async fn read<T: AsyncRead + Unpin + Send>(io: &mut T) -> io::Result<Vec<u8>> {
    let mut length = [0; 4];
    io.read_exact(&mut length).await?;
    let length = u32::from_be_bytes(length) as usize;
    if length > OVERLAY_BYTES_MAX {
        let why = format!("{length} bytes are announced, {OVERLAY_BYTES_MAX} are allowed");
        return Err(io::Error::new(io::ErrorKind::InvalidData, why));
    }
    let mut bytes = vec![0; length];
    io.read_exact(&mut bytes).await?;
    Ok(bytes)
}

async fn write<T: AsyncWrite + Unpin + Send>(io: &mut T, bytes: &[u8]) -> io::Result<()> {
    let length = u32::try_from(bytes.len())
        .map_err(|_| io::Error::new(io::ErrorKind::InvalidInput, "longer than its length says"))?;
    io.write_all(&length.to_be_bytes()).await?;
    io.write_all(bytes).await?;
    io.flush().await
}

#[cfg(test)]
mod tests {
    use super::*;
    use libp2p::futures::io::Cursor;

    #[tokio::test]
    async fn messages_up_to_the_bound_read_back() {
        for length in [0, 1, OVERLAY_BYTES_MAX] {
            let mut stream = Cursor::new(Vec::new());
            write(&mut stream, &vec![7; length]).await.unwrap();
            stream.set_position(0);
            assert_eq!(read(&mut stream).await.unwrap(), vec![7; length]);
        }
    }

    #[tokio::test]
    async fn longer_ones_are_nonsense_and_shorter_ones_end_early() {
        let mut long = Cursor::new(Vec::new());
        write(&mut long, &vec![7; OVERLAY_BYTES_MAX + 1])
            .await
            .unwrap();
        long.set_position(0);
        assert!(is_nonsense(&read(&mut long).await.unwrap_err()));

        let mut cut = Cursor::new(vec![0, 0, 0, 2, 7]);
        assert!(!is_nonsense(&read(&mut cut).await.unwrap_err()));
    }
}

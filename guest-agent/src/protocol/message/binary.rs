//! The two payloads that are not JSON, because they carry bulk.
//!
//! ```text
//!   OUTPUT (stream id in the frame's header):  offset u64 | bytes
//!   FILE:   mode u32 | size u64 | offset u64 | path length u16 | path | bytes
//! ```

use super::{FileChunk, MessageError, OutputChunk, StreamId};
use crate::protocol::frame::{Frame, FrameType};

pub(super) fn output_frame(output: &OutputChunk) -> Frame {
    let mut payload = Vec::with_capacity(8 + output.data.len());
    payload.extend_from_slice(&output.offset.to_be_bytes());
    payload.extend_from_slice(&output.data);
    Frame { kind: FrameType::Output, flags: 0, stream: output.stream as u32, payload }
}

pub(super) fn output(frame: &Frame) -> Result<OutputChunk, MessageError> {
    let malformed = || MessageError::Binary(FrameType::Output);
    let stream = [StreamId::Stdout, StreamId::Stderr]
        .into_iter()
        .find(|stream| *stream as u32 == frame.stream)
        .ok_or_else(malformed)?;
    let (offset, data) = frame.payload.split_first_chunk().ok_or_else(malformed)?;
    let offset = u64::from_be_bytes(*offset);
    // An offset near the end of the number space would overflow in every reader.
    offset.checked_add(data.len() as u64).ok_or_else(malformed)?;
    Ok(OutputChunk { stream, offset, data: data.to_vec() })
}

pub(super) fn file_frame(chunk: &FileChunk) -> Result<Frame, MessageError> {
    let length =
        u16::try_from(chunk.path.len()).map_err(|_| MessageError::Binary(FrameType::File))?;
    let mut payload = Vec::with_capacity(22 + chunk.path.len() + chunk.data.len());
    payload.extend_from_slice(&chunk.mode.to_be_bytes());
    payload.extend_from_slice(&chunk.size.to_be_bytes());
    payload.extend_from_slice(&chunk.offset.to_be_bytes());
    payload.extend_from_slice(&length.to_be_bytes());
    payload.extend_from_slice(chunk.path.as_bytes());
    payload.extend_from_slice(&chunk.data);
    Ok(Frame { kind: FrameType::File, flags: 0, stream: 0, payload })
}

pub(super) fn file(frame: &Frame) -> Result<FileChunk, MessageError> {
    parse_file(&frame.payload).ok_or(MessageError::Binary(FrameType::File))
}

fn parse_file(bytes: &[u8]) -> Option<FileChunk> {
    let (mode, rest) = bytes.split_first_chunk()?;
    let (size, rest) = rest.split_first_chunk()?;
    let (offset, rest) = rest.split_first_chunk()?;
    let (length, rest) = rest.split_first_chunk()?;
    let (path, data) = rest.split_at_checked(usize::from(u16::from_be_bytes(*length)))?;
    Some(FileChunk {
        path: std::str::from_utf8(path).ok()?.to_owned(),
        mode: u32::from_be_bytes(*mode),
        size: u64::from_be_bytes(*size),
        offset: u64::from_be_bytes(*offset),
        data: data.to_vec(),
    })
}

//! Elements to request bodies: `{"n":17}`, the number of the element, under the key that is its turn.

use super::Elements;
use crate::bench::encode::arrow::write_stream;
use crate::bench::encode::{KEY_BYTES, key_bytes, push_decimal};
use crate::bench::plan::Format;
use arrow_array::{BinaryArray, Int64Array};
use arrow_buffer::{Buffer, OffsetBuffer};
use arrow_schema::{ArrowError, DataType};
use std::ops::Range;
use std::sync::Arc;

/// The request under way, in buffers that stay.
pub(super) struct Body {
    format: Format,
    keys: u64,
    timestamp_ms: i64,
    head_begin: Vec<u8>,
    head: Vec<u8>,
    bytes: Vec<u8>,
}

impl Body {
    /// For one run, whose elements happen at this time.
    pub(super) fn new(plan: &Elements, authority: &str, timestamp_ms: i64) -> Self {
        let content_type = match plan.format {
            Format::Arrow => "application/vnd.apache.arrow.stream",
            Format::Ndjson | Format::Single => "application/x-ndjson",
        };
        let head_begin = format!(
            "POST /v1/namespaces/{}/elements?ack=synced HTTP/1.1\r\nHost: {authority}\r\n\
             Content-Type: {content_type}\r\nContent-Length: ",
            plan.namespace
        );
        Self {
            format: plan.format,
            keys: plan.keys,
            timestamp_ms,
            head_begin: head_begin.into_bytes(),
            head: Vec::new(),
            bytes: Vec::new(),
        }
    }

    /// Replaces it by that of these elements.
    pub(super) fn write(&mut self, numbers: Range<u64>) -> Result<(), String> {
        self.bytes.clear();
        if self.format == Format::Arrow {
            let written = self.write_arrow(numbers);
            return written.map_err(|error| format!("no Arrow stream can be made: {error}"));
        }
        for number in numbers {
            self.bytes.extend_from_slice(b"{\"key\":\"");
            self.bytes.extend_from_slice(&key_bytes(number % self.keys));
            self.bytes.extend_from_slice(b"\",\"timestamp\":");
            push_decimal(&mut self.bytes, self.timestamp_ms);
            self.bytes.extend_from_slice(b",\"value\":{\"n\":");
            push_decimal(&mut self.bytes, number as i64);
            self.bytes.extend_from_slice(b"}}\n");
        }
        Ok(())
    }

    /// A column for the field of the values, as whoever has columns would send them.
    fn write_arrow(&mut self, numbers: Range<u64>) -> Result<(), ArrowError> {
        let rows = (numbers.end - numbers.start) as usize;
        let mut keys = Vec::with_capacity(rows * KEY_BYTES);
        for number in numbers.clone() {
            keys.extend_from_slice(&key_bytes(number % self.keys));
        }
        let offsets = OffsetBuffer::from_repeated_length(KEY_BYTES, rows);
        let keys = BinaryArray::new(offsets, Buffer::from_vec(keys), None);
        let timestamps = Int64Array::from(vec![self.timestamp_ms; rows]);
        let values = Int64Array::from_iter_values(numbers.map(|number| number as i64));
        write_stream(
            &mut self.bytes,
            vec![
                ("key", DataType::Binary, Arc::new(keys)),
                ("timestamp", DataType::Int64, Arc::new(timestamps)),
                ("n", DataType::Int64, Arc::new(values)),
            ],
        )
    }

    /// The request: its head, made anew, since the connection adds to it, and its body.
    pub(super) fn request(&mut self) -> (&mut Vec<u8>, &[u8]) {
        self.head.clear();
        self.head.extend_from_slice(&self.head_begin);
        push_decimal(&mut self.head, self.bytes.len() as i64);
        self.head.extend_from_slice(b"\r\n\r\n");
        (&mut self.head, &self.bytes)
    }
}

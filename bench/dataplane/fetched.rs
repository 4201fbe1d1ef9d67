//! A fetch reply walked by its lengths, without decoding or copying: where each partition's records end.

/// Where a batch's last offset delta is, and how long its header (class DefaultRecordBatch).
const LAST_OFFSET_DELTA: usize = 23;
const BATCH_HEADER: usize = 61;

/// Partition and next offset of every partition that has records, of a reply in version 16. Errors are told by code.
pub fn ends(frame: &[u8]) -> Result<Vec<(i32, i64)>, String> {
    let mut at = Walk { rest: frame };
    // Correlation id and the header's tags; throttle time.
    at.skip(4)?;
    at.tags()?;
    at.skip(4)?;
    at.no_error("the fetch")?;
    // Session id.
    at.skip(4)?;
    let mut found = Vec::new();
    for _ in 0..at.array()? {
        at.skip(16)?;
        for _ in 0..at.array()? {
            let partition = at.int()?;
            at.no_error(&format!("partition {partition}"))?;
            // High watermark, last stable offset, log start offset.
            at.skip(24)?;
            for _ in 0..at.array()? {
                at.skip(16)?;
                at.tags()?;
            }
            // Preferred read replica.
            at.skip(4)?;
            let records = at.array()?;
            if let Some(end) = batches_end(at.skip(records)?) {
                found.push((partition, end));
            }
            at.tags()?;
        }
        at.tags()?;
    }
    at.tags()?;
    if at.rest.is_empty() { Ok(found) } else { Err(format!("{} bytes are left", at.rest.len())) }
}

/// The end of the last whole batch in a partition's records: `None` without one.
fn batches_end(mut records: &[u8]) -> Option<i64> {
    let mut end = None;
    while records.len() >= BATCH_HEADER {
        let number = |at: usize| i32::from_be_bytes([records[at], records[at + 1], records[at + 2], records[at + 3]]);
        let size = usize::try_from(number(8)).ok()?.checked_add(12)?;
        if size > records.len() {
            break;
        }
        let base = i64::from(number(0)) << 32 | i64::from(number(4) as u32);
        end = Some(base + i64::from(number(LAST_OFFSET_DELTA)) + 1);
        records = &records[size..];
    }
    end
}

struct Walk<'a> {
    rest: &'a [u8],
}

impl<'a> Walk<'a> {
    fn skip(&mut self, count: usize) -> Result<&'a [u8], String> {
        let (head, rest) = self.rest.split_at_checked(count).ok_or("the reply is too short")?;
        self.rest = rest;
        Ok(head)
    }

    fn int(&mut self) -> Result<i32, String> {
        let bytes = self.skip(4)?.try_into().map_err(|_| "an int has 4 bytes")?;
        Ok(i32::from_be_bytes(bytes))
    }

    fn no_error(&mut self, of: &str) -> Result<(), String> {
        match self.skip(2)? {
            [0, 0] => Ok(()),
            code => Err(format!("{of} failed: error {}", i16::from_be_bytes([code[0], code[1]]))),
        }
    }

    fn varint(&mut self) -> Result<usize, String> {
        let mut value = 0;
        for shift in (0..35).step_by(7) {
            let byte = usize::from(self.skip(1)?[0]);
            value |= (byte & 0x7f) << shift;
            if byte < 0x80 {
                return Ok(value);
            }
        }
        Err("a varint is too long".into())
    }

    /// A compact length: 0 is null, which is as good as empty here.
    fn array(&mut self) -> Result<usize, String> {
        Ok(self.varint()?.saturating_sub(1))
    }

    fn tags(&mut self) -> Result<(), String> {
        for _ in 0..self.varint()? {
            self.varint()?;
            let size = self.varint()?;
            self.skip(size)?;
        }
        Ok(())
    }
}

// A bench is built with its unit tests' helpers, but without the tests: those run in the integration tests' binary.
#[cfg(test)]
#[allow(dead_code, unused_imports)]
mod tests {
    use bytes::{Bytes, BytesMut};
    use kafka_protocol::messages::FetchResponse;
    use kafka_protocol::messages::fetch_response::{AbortedTransaction, FetchableTopicResponse, PartitionData};
    use kafka_protocol::protocol::Encodable;
    use kafka_standby::records::{Codec, NewRecord, Stamp, build};

    use super::*;

    fn reply(partitions: Vec<PartitionData>) -> BytesMut {
        let mut frame = BytesMut::zeroed(5);
        let topic = FetchableTopicResponse::default().with_partitions(partitions);
        FetchResponse::default().with_responses(vec![topic]).encode(&mut frame, 16).expect("a reply");
        frame
    }

    #[test]
    fn ends_are_those_of_the_last_whole_batches() {
        let record = NewRecord { value: Some(b"value"), ..NewRecord::default() };
        let one = build(&vec![record; 7], Codec::None, Stamp::NONE).expect("a batch");
        let mut two = BytesMut::from(&one[..]);
        two.extend_from_slice(&one);
        let second = one.len();
        two[second..second + 8].copy_from_slice(&100i64.to_be_bytes());
        let cut = Bytes::copy_from_slice(&two[..two.len() - 1]);
        let aborted = Some(vec![AbortedTransaction::default()]);
        let data = |p, records| PartitionData::default().with_partition_index(p).with_records(Some(records));
        let frame = reply(vec![
            data(0, two.freeze()),
            data(1, cut).with_aborted_transactions(aborted),
            data(2, Bytes::new()),
            data(3, one),
        ]);
        assert_eq!(ends(&frame), Ok(vec![(0, 107), (1, 7), (3, 7)]));
    }

    #[test]
    fn errors_and_short_replies_are_told() {
        let frame = reply(vec![PartitionData::default().with_partition_index(5).with_error_code(6)]);
        assert_eq!(ends(&frame), Err("partition 5 failed: error 6".into()));
        let short = reply(vec![PartitionData::default()]);
        assert!(ends(&short[..short.len() - 1]).is_err());
    }
}

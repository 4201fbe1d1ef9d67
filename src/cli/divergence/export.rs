//! Writes one range to a directory of its own: the batches as stored, their records as JSON lines, and a manifest with
//! checksums and an index. The directory gets its name when all of it is on disk; what is there is never overwritten.

use std::fs::{self, File};
use std::io::{BufRead, BufWriter, Read, Write};
use std::path::{Path, PathBuf};

use bytes::Bytes;
use serde::Serialize;

use super::super::client::{Client, quoted};
use super::super::{Exit, Failure};
use crate::admin::types::{DivergentRange, ExportFrame, UtcMillis};
use crate::divergence::lines::lines;
use crate::records::{Batch, crc_ok};

const FORMAT: &str = "kafka-standby divergence 1";
const BATCHES: &str = "batches";
const RECORDS: &str = "records.jsonl";
const MANIFEST: &str = "manifest.json";
/// Bytes between two entries of the index: it stays small whatever is exported.
const INDEX_EVERY: u64 = 1 << 20;
/// No line of an export is longer; no batch is larger than what a broker could send.
const MAX_LINE: u64 = 64 << 10;
const MAX_BATCH: u64 = 1 << 30;

/// First line of the file of batches, so that it says by itself what follows.
#[derive(Serialize)]
struct Head<'a> {
    format: &'static str,
    cluster: &'a str,
    topic: &'a str,
    partition: i32,
    generation: u32,
    from_offset: i64,
    to_offset: i64,
    logical_from: i64,
}

#[derive(Serialize)]
struct Manifest {
    format: &'static str,
    exported_at: UtcMillis,
    range: DivergentRange,
    batches: u64,
    files: Vec<Written>,
    /// Where batches begin in the file of batches, about one entry per MiB.
    index: Vec<Place>,
}

#[derive(Serialize)]
struct Written {
    name: &'static str,
    bytes: u64,
    /// CRC-32C of the whole file, hexadecimal.
    crc32c: String,
}

#[derive(Serialize)]
struct Place {
    offset: i64,
    position: u64,
}

/// A file that knows its length and checksum.
struct Sink {
    name: &'static str,
    file: BufWriter<File>,
    bytes: u64,
    crc32c: u32,
}

impl Sink {
    fn create(directory: &Path, name: &'static str) -> std::io::Result<Sink> {
        let file = BufWriter::new(File::create_new(directory.join(name))?);
        Ok(Sink { name, file, bytes: 0, crc32c: 0 })
    }

    fn write(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        self.file.write_all(bytes)?;
        self.bytes += bytes.len() as u64;
        self.crc32c = crc32c::crc32c_append(self.crc32c, bytes);
        Ok(())
    }

    fn finish(self) -> std::io::Result<Written> {
        let Sink { name, file, bytes, crc32c } = self;
        file.into_inner().map_err(|e| e.into_error())?.sync_all()?;
        Ok(Written { name, bytes, crc32c: format!("{crc32c:08x}") })
    }
}

/// Exports one range under `dir`; the directory that holds it.
pub(super) fn export(client: &Client, range: &DivergentRange, dir: &Path) -> Result<PathBuf, Failure> {
    // A generation leaves one range behind on the cluster that it retired; there may be several that the active one has lost.
    let from = range.truncated.then_some(range.from_offset);
    let name = format!(
        "{}-{}.generation-{}{}.{}",
        quoted(&range.topic),
        range.partition,
        range.generation,
        from.map_or_else(String::new, |from| format!(".from-{from}")),
        quoted(&range.cluster)
    );
    let target = dir.join(&name);
    if target.exists() {
        return Err(Failure::new(Exit::Failed, format!("{} is there already; nothing was written", target.display())));
    }
    fs::create_dir_all(dir)?;
    let part = dir.join(format!(".{name}.{}.part", std::process::id()));
    fs::create_dir(&part)?;
    let (topic, from) = (quoted(&range.topic), from.map_or_else(String::new, |from| format!("&from_offset={from}")));
    let query = format!("topic={topic}&partition={}&generation={}{from}", range.partition, range.generation);
    let written = client
        .stream(&format!("/v1/divergence/export?{query}"))
        .and_then(|mut source| receive(&mut source, &part))
        .and_then(|()| {
            File::open(&part)?.sync_all()?;
            // A directory that is not empty is not replaced.
            fs::rename(&part, &target)?;
            Ok(File::open(dir)?.sync_all()?)
        });
    if let Err(failure) = written {
        // What is left of a failed attempt helps nobody.
        let _ = fs::remove_dir_all(&part);
        return Err(failure);
    }
    Ok(target)
}

fn receive(source: &mut dyn BufRead, directory: &Path) -> Result<(), Failure> {
    let ExportFrame::Range(range) = frame(source)? else { return Err(broken("no range came first")) };
    let head = Head {
        format: FORMAT,
        cluster: &range.cluster,
        topic: &range.topic,
        partition: range.partition,
        generation: range.generation,
        from_offset: range.from_offset,
        to_offset: range.to_offset,
        logical_from: range.logical_from,
    };
    let (mut batches, mut records) = (Sink::create(directory, BATCHES)?, Sink::create(directory, RECORDS)?);
    batches.write(format!("{}\n", json(&head)).as_bytes())?;
    let (mut index, mut count, mut bytes, mut crc32c) = (Vec::<Place>::new(), 0u64, 0u64, 0u32);
    loop {
        match frame(source)? {
            ExportFrame::Batch { base_offset, bytes: size, kind } => {
                let batch = batch(source, size)?;
                if batch.header().base_offset != base_offset || !crc_ok(&batch) {
                    return Err(broken(&format!("the batch at offset {base_offset} is damaged")));
                }
                if index.last().is_none_or(|last| batches.bytes - last.position >= INDEX_EVERY) {
                    index.push(Place { offset: base_offset, position: batches.bytes });
                }
                batches.write(batch.bytes())?;
                count += 1;
                bytes += size;
                crc32c = crc32c::crc32c_append(crc32c, batch.bytes());
                // What cannot be read is exported all the same: as the bytes that it is.
                let text = lines(kind, &batch, range.from_offset, range.logical_from).unwrap_or_else(|e| {
                    format!("{}\n", serde_json::json!({"offset": base_offset, "error": e.to_string()}))
                });
                records.write(text.as_bytes())?;
            }
            ExportFrame::End { batches: all, bytes: whole, crc32c: sum } => {
                if (all, whole, sum) != (count, bytes, crc32c) {
                    return Err(broken("what came is not what was sent"));
                }
                break;
            }
            ExportFrame::Error(problem) => return Err(Failure::new(Exit::Failed, problem.detail)),
            ExportFrame::Range(_) => return Err(broken("a second range came")),
        }
    }
    let files = vec![batches.finish()?, records.finish()?];
    let exported_at = UtcMillis::now();
    let manifest = Manifest { format: FORMAT, exported_at, range: *range, batches: count, files, index };
    let mut file = Sink::create(directory, MANIFEST)?;
    file.write(format!("{}\n", json(&manifest)).as_bytes())?;
    file.finish()?;
    Ok(())
}

fn frame(source: &mut dyn BufRead) -> Result<ExportFrame, Failure> {
    let mut line = Vec::new();
    source.take(MAX_LINE).read_until(b'\n', &mut line).map_err(|e| broken(&e.to_string()))?;
    if line.last() != Some(&b'\n') {
        return Err(broken("it ended early"));
    }
    serde_json::from_slice(&line).map_err(|e| broken(&e.to_string()))
}

fn batch(source: &mut dyn BufRead, size: u64) -> Result<Batch, Failure> {
    if size > MAX_BATCH {
        return Err(broken(&format!("a batch of {size} bytes")));
    }
    let mut bytes = Vec::new();
    source.take(size).read_to_end(&mut bytes).map_err(|e| broken(&e.to_string()))?;
    Batch::new(Bytes::from(bytes)).map_err(|e| broken(&e.to_string()))
}

fn json(value: &impl Serialize) -> String {
    // Plain structs with string keys always serialize.
    serde_json::to_string(value).unwrap_or_default()
}

fn broken(why: &str) -> Failure {
    Failure::new(Exit::Failed, format!("the export broke off ({why}); nothing was written"))
}

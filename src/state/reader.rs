//! Reads one cluster's state topic.

use std::time::Duration;

use super::Image;
use crate::catalog::STATE_TOPIC;
use crate::model::TopicPartition;
use crate::records::{Batch, Batches, Section};
use crate::upstream::{Cluster, FetchFrom, FetchOptions, OffsetSpec};

/// Bytes asked for at a time.
const READ_BYTES: i32 = 4 << 20;
/// Pause after an error of the partition's leader.
const RETRY: Duration = Duration::from_millis(50);

/// All of the topic up to its end now, within the client's time limit. A missing topic is an empty image.
pub async fn read(client: &Cluster) -> Result<Image, String> {
    let mut image = Image::default();
    let snapshot = client.refresh().await.map_err(|e| e.to_string())?;
    if snapshot.topic(STATE_TOPIC).is_none() {
        return Ok(image);
    }
    let tp = TopicPartition::new(STATE_TOPIC, 0);
    let mut next = offset(client, &tp, OffsetSpec::Earliest).await?;
    let end = offset(client, &tp, OffsetSpec::Latest).await?;
    let options = FetchOptions { max_wait: Duration::from_millis(100), max_bytes: READ_BYTES, ..Default::default() };
    let deadline = tokio::time::Instant::now() + client.timeout();
    while next < end {
        if tokio::time::Instant::now() > deadline {
            return Err(format!("offset {next} of {end} was reached within the time limit"));
        }
        let from = FetchFrom { tp: tp.clone(), offset: next, max_bytes: READ_BYTES, current_leader_epoch: None };
        let mut fetched = client.fetch(&[from], &options).await.map_err(|e| e.to_string())?;
        let Some(part) = fetched.remove(&tp) else { continue };
        if part.error != 0 {
            tokio::time::sleep(RETRY).await;
            continue;
        }
        for batch in Batches::new(part.records) {
            let batch = batch.map_err(|e| e.to_string())?;
            next = next.max(batch.header().next_offset());
            apply(&mut image, &batch)?;
        }
    }
    Ok(image)
}

fn apply(image: &mut Image, batch: &Batch) -> Result<(), String> {
    if batch.header().is_control() {
        return Ok(());
    }
    let section = Section::open(batch).map_err(|e| e.to_string())?;
    for record in section.records() {
        let record = record.map_err(|e| e.to_string())?;
        if let Some(key) = record.key {
            image.apply(key, record.value)?;
        }
    }
    Ok(())
}

async fn offset(client: &Cluster, tp: &TopicPartition, spec: OffsetSpec) -> Result<i64, String> {
    let mut found = client.list_offsets(std::slice::from_ref(tp), spec).await.map_err(|e| e.to_string())?;
    match found.remove(tp) {
        Some(Ok(offset)) => Ok(offset),
        Some(Err(e)) => Err(e.to_string()),
        None => Err("no answer for the partition".into()),
    }
}

//! One answer to "which versions does this cluster have" out of its brokers' answers.

use kafka_protocol::messages::ApiVersionsResponse;
use kafka_protocol::messages::api_versions_response::{ApiVersion, SupportedFeatureKey};

/// The intersection of several brokers' ApiVersions replies; `None` for no reply at all.
///
/// Finalized features belong to the cluster, not to the broker: the reply with the highest epoch is the newest.
pub(super) fn intersect<'a>(replies: impl IntoIterator<Item = &'a ApiVersionsResponse>) -> Option<ApiVersionsResponse> {
    let mut replies = replies.into_iter();
    let mut merged = replies.next()?.clone();
    for reply in replies {
        merged.api_keys = merged.api_keys.iter().filter_map(|k| common_api(k, &reply.api_keys)).collect();
        merged.supported_features =
            merged.supported_features.iter().filter_map(|f| common_feature(f, &reply.supported_features)).collect();
        if reply.finalized_features_epoch > merged.finalized_features_epoch {
            merged.finalized_features_epoch = reply.finalized_features_epoch;
            merged.finalized_features = reply.finalized_features.clone();
        }
    }
    Some(merged)
}

fn common_api(ours: &ApiVersion, theirs: &[ApiVersion]) -> Option<ApiVersion> {
    let theirs = theirs.iter().find(|k| k.api_key == ours.api_key)?;
    let min = ours.min_version.max(theirs.min_version);
    let max = ours.max_version.min(theirs.max_version);
    (min <= max).then(|| ours.clone().with_min_version(min).with_max_version(max))
}

fn common_feature(ours: &SupportedFeatureKey, theirs: &[SupportedFeatureKey]) -> Option<SupportedFeatureKey> {
    let theirs = theirs.iter().find(|f| f.name == ours.name)?;
    let min = ours.min_version.max(theirs.min_version);
    let max = ours.max_version.min(theirs.max_version);
    (min <= max).then(|| ours.clone().with_min_version(min).with_max_version(max))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reply(keys: &[(i16, i16, i16)], epoch: i64) -> ApiVersionsResponse {
        let keys = keys.iter().map(|&(key, min, max)| {
            ApiVersion::default().with_api_key(key).with_min_version(min).with_max_version(max)
        });
        ApiVersionsResponse::default().with_api_keys(keys.collect()).with_finalized_features_epoch(epoch)
    }

    #[test]
    fn only_what_every_broker_has_is_left() {
        let old = reply(&[(0, 0, 11), (1, 4, 16), (36, 0, 2), (99, 0, 1)], 7);
        let new = reply(&[(0, 3, 13), (1, 4, 18), (36, 3, 4)], 9);
        let merged = intersect([&old, &new]).unwrap();
        let keys: Vec<_> = merged.api_keys.iter().map(|k| (k.api_key, k.min_version, k.max_version)).collect();
        assert_eq!(keys, [(0, 3, 11), (1, 4, 16)]);
        assert_eq!(merged.finalized_features_epoch, 9);
        assert_eq!(intersect([]), None);
    }
}

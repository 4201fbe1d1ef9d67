//! What the proxy advertises: the intersection of the clusters, the table and the codec, so that no client loses a
//! version or a feature at a cutover.

use super::apis::{self, How, Row, meet};
use super::header::API_VERSIONS;
use super::schema::{Versions, contains};
use kafka_protocol::messages::ApiVersionsResponse;
use kafka_protocol::messages::api_versions_response::{ApiVersion, FinalizedFeatureKey, SupportedFeatureKey};
use kafka_protocol::protocol::StrBytes;
use std::collections::BTreeMap;
use thiserror::Error;

/// `finalized_features_epoch` of every answer. Clients take features only from a higher epoch than the last one they saw
/// (Java's `ApiVersions.update`) and the clusters' own epochs are unrelated numbers, so one constant for ever: features
/// must not change under a living client, and this cannot go backwards at a cutover.
pub const FINALIZED_FEATURES_EPOCH: i64 = 1;

/// Lowest Produce version that is advertised, although versions 0 to 2 are not served: old librdkafka disables compression
/// if it is not 0 (Kafka's `ApiKeys.toApiVersion` does the same on a broker listener).
pub const PRODUCE_ADVERTISED_MIN: i16 = 0;

/// Features whose APIs are refused, so that no client counts on them.
pub const FEATURES_NOT_SERVED: [&str; 1] = ["streams.version"];

/// Without this feature in force a cluster lists the APIs of share groups (KIP-932) and refuses them.
const SHARE_FEATURE: &str = "share.version";
const SHARE_APIS: [i16; 7] = [76, 77, 78, 79, 90, 91, 92];

const PRODUCE: i16 = 0;
const UNSUPPORTED_VERSION: i16 = 35;
/// First ApiVersions version in which a supported feature may have minimum 0; older clients fail on it (KAFKA-17011), so
/// brokers leave such features out, and so does the proxy.
const ZERO_MINIMUM_FROM: i16 = 4;

/// What one cluster offers: the ApiVersions answer of a broker, or of several merged by [`ClusterVersions::merge`].
#[derive(Debug, Default, PartialEq, Eq, Clone)]
pub struct ClusterVersions {
    /// API key -> versions.
    pub apis: BTreeMap<i16, Versions>,
    /// Feature -> levels that the brokers could have.
    pub supported: BTreeMap<String, Versions>,
    /// Feature -> (lowest, highest) level in force.
    pub finalized: BTreeMap<String, Versions>,
}

impl From<&ApiVersionsResponse> for ClusterVersions {
    fn from(response: &ApiVersionsResponse) -> Self {
        let not_empty = |versions: &Versions| versions.0 <= versions.1;
        let apis = response.api_keys.iter().map(|api| (api.api_key, (api.min_version, api.max_version)));
        let supported =
            response.supported_features.iter().map(|f| (f.name.to_string(), (f.min_version, f.max_version)));
        let finalized = response
            .finalized_features
            .iter()
            .map(|f| (f.name.to_string(), (f.min_version_level, f.max_version_level)));
        ClusterVersions {
            apis: apis.filter(|(_, versions)| not_empty(versions)).collect(),
            supported: supported.filter(|(_, versions)| not_empty(versions)).collect(),
            finalized: finalized.filter(|(_, levels)| not_empty(levels)).collect(),
        }
    }
}

impl ClusterVersions {
    /// What both have: of two brokers of a cluster, or of two clusters. A feature in force on one of them only is at level
    /// 0 on the other, and level 0 is not listed.
    pub fn merge(&self, other: &ClusterVersions) -> ClusterVersions {
        ClusterVersions {
            apis: in_both(&self.apis, &other.apis, meet),
            supported: in_both(&self.supported, &other.supported, meet),
            finalized: in_both(&self.finalized, &other.finalized, |a, b| (a.0.min(b.0), a.1.min(b.1))),
        }
    }
}

/// Entries of both maps, joined; without those whose range is empty.
fn in_both<K: Ord + Clone>(
    a: &BTreeMap<K, Versions>,
    b: &BTreeMap<K, Versions>,
    join: impl Fn(Versions, Versions) -> Versions,
) -> BTreeMap<K, Versions> {
    let joined = a.iter().filter_map(|(key, &left)| Some((key.clone(), join(left, *b.get(key)?))));
    joined.filter(|(_, versions)| versions.0 <= versions.1).collect()
}

/// Why a request is not served. All but the last close the connection.
#[derive(Debug, Error, PartialEq, Eq, Clone, Copy)]
pub enum Refusal {
    #[error("unknown API {key}")]
    UnknownApi { key: i16 },
    #[error("{name} is not served: {why}")]
    NotServed { name: &'static str, why: &'static str },
    #[error("{name} is not served: a cluster lacks it")]
    NotInCluster { name: &'static str },
    #[error("{name} version {version} is not served ({min} to {max} are)")]
    Version { name: &'static str, version: i16, min: i16, max: i16 },
    /// To be answered with [`Advertised::unsupported_version`] in layout version 0 (KIP-511).
    #[error("ApiVersions version {version} is not served")]
    ApiVersionsVersion { version: i16 },
}

/// What the proxy serves and tells clients so.
#[derive(Debug, PartialEq, Eq, Clone)]
pub struct Advertised {
    apis: BTreeMap<i16, Versions>,
    supported: BTreeMap<String, Versions>,
    finalized: BTreeMap<String, Versions>,
}

impl Advertised {
    /// From what each cluster offers; with one cluster its word alone counts, with none only what the proxy answers itself.
    ///
    /// Clients that are connected keep the versions and features that they were told: a later intersection must not be
    /// smaller while they live, so serve only once the clusters that count are known.
    pub fn of(clusters: &[&ClusterVersions]) -> Self {
        let common = clusters.iter().copied().cloned().reduce(|a, b| a.merge(&b)).unwrap_or_default();
        let share = common.finalized.get(SHARE_FEATURE).is_some_and(|levels| levels.1 > 0);
        let rows = apis::rows().iter().filter(|row| share || !SHARE_APIS.contains(&row.key));
        let apis = rows.filter_map(|row| Some((row.key, served(row, &common)?))).collect();
        let shown = |map: &BTreeMap<String, Versions>| {
            let shown = map.iter().filter(|(name, _)| !FEATURES_NOT_SERVED.contains(&name.as_str()));
            shown.map(|(name, &versions)| (name.clone(), versions)).collect()
        };
        Advertised { apis, supported: shown(&common.supported), finalized: shown(&common.finalized) }
    }

    /// Versions of an API that are served. (Produce is advertised lower, see [`PRODUCE_ADVERTISED_MIN`].)
    pub fn served(&self, key: i16) -> Option<Versions> {
        self.apis.get(&key).copied()
    }

    /// What to do with a request of this key and version.
    pub fn accept(&self, key: i16, version: i16) -> Result<&'static Row, Refusal> {
        let row = apis::row(key).ok_or(Refusal::UnknownApi { key })?;
        let name = row.name;
        match self.served(key) {
            Some(versions) if contains(versions, version) => Ok(row),
            _ if key == API_VERSIONS => Err(Refusal::ApiVersionsVersion { version }),
            Some((min, max)) => Err(Refusal::Version { name, version, min, max }),
            None if row.how == How::Refuse => Err(Refusal::NotServed { name, why: row.why }),
            None => Err(Refusal::NotInCluster { name }),
        }
    }

    /// The answer to an ApiVersions request of a version that is served (0 to 4); the body is encoded in that version.
    pub fn response(&self, version: i16) -> ApiVersionsResponse {
        let features = self.supported.iter().filter(|(_, levels)| version >= ZERO_MINIMUM_FROM || levels.0 > 0);
        let supported = features.map(|(name, levels)| {
            SupportedFeatureKey::default()
                .with_name(StrBytes::from_string(name.clone()))
                .with_min_version(levels.0)
                .with_max_version(levels.1)
        });
        let finalized = self.finalized.iter().map(|(name, levels)| {
            FinalizedFeatureKey::default()
                .with_name(StrBytes::from_string(name.clone()))
                .with_min_version_level(levels.0)
                .with_max_version_level(levels.1)
        });
        ApiVersionsResponse::default()
            .with_api_keys(self.apis.iter().map(|(&key, &versions)| entry(key, versions)).collect())
            .with_supported_features(supported.collect())
            .with_finalized_features(finalized.collect())
            .with_finalized_features_epoch(FINALIZED_FEATURES_EPOCH)
    }

    /// The answer to an ApiVersions request of an unknown version: error 35 and which versions of ApiVersions there
    /// are. To be encoded in version 0, which every client can read (KIP-511).
    pub fn unsupported_version(&self) -> ApiVersionsResponse {
        ApiVersionsResponse::default().with_error_code(UNSUPPORTED_VERSION).with_api_keys(
            self.served(API_VERSIONS).map(|versions| entry(API_VERSIONS, versions)).into_iter().collect(),
        )
    }
}

fn served(row: &Row, clusters: &ClusterVersions) -> Option<Versions> {
    let able = apis::served(row)?;
    let versions = match row.how {
        How::Answer => able,
        _ => meet(able, *clusters.apis.get(&row.key)?),
    };
    (versions.0 <= versions.1).then_some(versions)
}

fn entry(key: i16, versions: Versions) -> ApiVersion {
    let min = if key == PRODUCE { PRODUCE_ADVERTISED_MIN } else { versions.0 };
    ApiVersion::default().with_api_key(key).with_min_version(min).with_max_version(versions.1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::guard;
    use bytes::{Bytes, BytesMut};
    use kafka_protocol::protocol::{Decodable, Encodable};

    fn cluster(apis: &[(i16, Versions)], supported: &[(&str, Versions)], finalized: &[(&str, i16)]) -> ClusterVersions {
        ClusterVersions {
            apis: apis.iter().copied().collect(),
            supported: supported.iter().map(|&(name, levels)| (name.to_owned(), levels)).collect(),
            finalized: finalized.iter().map(|&(name, level)| (name.to_owned(), (level, level))).collect(),
        }
    }

    /// Newer and older cluster, as 4.3 and 3.9 differ.
    fn pair() -> (ClusterVersions, ClusterVersions) {
        let new = cluster(
            &[
                (0, (0, 13)),
                (1, (4, 18)),
                (8, (2, 10)),
                (16, (0, 5)),
                (19, (2, 7)),
                (55, (0, 2)),
                (68, (0, 1)),
                (18, (0, 4)),
            ],
            &[("transaction.version", (0, 2)), ("metadata.version", (7, 29)), ("share.version", (0, 1))],
            &[("transaction.version", 2), ("metadata.version", 29), ("group.version", 1), ("share.version", 1)],
        );
        let old = cluster(
            &[
                (0, (0, 11)),
                (1, (0, 17)),
                (8, (0, 9)),
                (16, (0, 5)),
                (19, (0, 7)),
                (55, (0, 2)),
                (4, (0, 7)),
                (200, (0, 0)),
            ],
            &[("transaction.version", (0, 1)), ("metadata.version", (1, 21)), ("share.version", (0, 1))],
            &[("transaction.version", 1), ("metadata.version", 21), ("share.version", 1)],
        );
        (new, old)
    }

    #[test]
    fn the_intersection_is_served_whichever_cluster_is_first() {
        let (new, old) = pair();
        let advertised = Advertised::of(&[&new, &old]);
        assert_eq!(advertised, Advertised::of(&[&old, &new]));
        let want = [(0, (3, 11)), (1, (4, 17)), (8, (2, 9)), (16, (0, 5)), (18, (0, 4)), (19, (2, 7))];
        assert_eq!(advertised.apis, want.into_iter().collect());
        let want = [("metadata.version", (21, 21)), ("share.version", (1, 1)), ("transaction.version", (1, 1))];
        assert_eq!(advertised.finalized, want.map(|(name, levels)| (name.to_owned(), levels)).into_iter().collect());
        let want = [("metadata.version", (7, 21)), ("share.version", (0, 1)), ("transaction.version", (0, 1))];
        assert_eq!(advertised.supported, want.map(|(name, levels)| (name.to_owned(), levels)).into_iter().collect());
        assert_eq!(Advertised::of(&[&new]).served(68), Some((0, 1)));
        assert_eq!(Advertised::of(&[]).apis, [(18, (0, 4))].into_iter().collect());
    }

    #[test]
    fn share_groups_are_served_where_both_clusters_have_them_in_force() {
        let with = |levels: &[(&str, i16)]| cluster(&[(76, (1, 1)), (78, (1, 2)), (91, (0, 0))], &[], levels);
        let (on, off) = (with(&[("share.version", 1)]), with(&[]));
        let served = |clusters: &[&ClusterVersions]| SHARE_APIS.map(|key| Advertised::of(clusters).served(key));
        assert_eq!(served(&[&on, &on]), [Some((1, 1)), None, Some((1, 1)), None, None, Some((0, 0)), None]);
        assert_eq!(served(&[&on, &off]), [None; 7]);
        assert_eq!(served(&[&off]), [None; 7]);
    }

    #[test]
    fn disjoint_ranges_are_not_served() {
        let a = cluster(&[(1, (4, 11))], &[("f", (1, 2))], &[]);
        let b = cluster(&[(1, (12, 18))], &[("f", (3, 4))], &[]);
        let advertised = Advertised::of(&[&a, &b]);
        assert_eq!(advertised.served(1), None);
        assert!(advertised.supported.is_empty());
        assert_eq!(advertised.accept(1, 11).map(|row| row.key), Err(Refusal::NotInCluster { name: "Fetch" }));
    }

    #[test]
    fn requests_are_accepted_or_refused_with_a_reason() {
        let (new, old) = pair();
        let advertised = Advertised::of(&[&new, &old]);
        let verdict = |key, version| advertised.accept(key, version).map(|row| row.how);
        assert_eq!(verdict(0, 11), Ok(How::Rewrite));
        assert_eq!(verdict(16, 0), Ok(How::Forward));
        assert_eq!(verdict(18, 4), Ok(How::Answer));
        assert_eq!(verdict(0, 2), Err(Refusal::Version { name: "Produce", version: 2, min: 3, max: 11 }));
        assert_eq!(verdict(18, 5), Err(Refusal::ApiVersionsVersion { version: 5 }));
        assert_eq!(verdict(18, -1), Err(Refusal::ApiVersionsVersion { version: -1 }));
        assert_eq!(verdict(200, 0), Err(Refusal::UnknownApi { key: 200 }));
        assert_eq!(verdict(68, 0), Err(Refusal::NotInCluster { name: "ConsumerGroupHeartbeat" }));
        assert!(matches!(verdict(55, 0), Err(Refusal::NotServed { name: "DescribeQuorum", .. })));
    }

    fn sent(response: &ApiVersionsResponse, version: i16) -> ApiVersionsResponse {
        let mut buf = BytesMut::new();
        response.encode(&mut buf, version).unwrap();
        guard::check(guard::Kind::Response, API_VERSIONS, version, &buf).unwrap();
        ApiVersionsResponse::decode(&mut Bytes::from(buf), version).unwrap()
    }

    #[test]
    fn answers_in_every_version() {
        let (new, old) = pair();
        let advertised = Advertised::of(&[&new, &old]);
        for version in 0..=4 {
            let got = sent(&advertised.response(version), version);
            let keys: Vec<_> = got.api_keys.iter().map(|api| (api.api_key, api.min_version, api.max_version)).collect();
            assert_eq!(keys, [(0, 0, 11), (1, 4, 17), (8, 2, 9), (16, 0, 5), (18, 0, 4), (19, 2, 7)], "v{version}");
            let supported: Vec<_> = got.supported_features.iter().map(|f| (f.name.as_str(), f.min_version)).collect();
            let want: &[_] = match version {
                0..3 => &[],
                3 => &[("metadata.version", 7)],
                _ => &[("metadata.version", 7), ("share.version", 0), ("transaction.version", 0)],
            };
            assert_eq!(supported, want, "v{version}");
            if version >= 3 {
                assert_eq!(got.finalized_features_epoch, FINALIZED_FEATURES_EPOCH);
                assert_eq!(got.finalized_features.len(), 3);
            }
            assert_eq!(ClusterVersions::from(&got).apis.get(&1), Some(&(4, 17)));
        }
    }

    #[test]
    fn an_unknown_version_is_told_which_there_are() {
        let got = sent(&Advertised::of(&[]).unsupported_version(), 0);
        assert_eq!(got.error_code, 35);
        assert_eq!(got.api_keys, [entry(API_VERSIONS, (0, 4))]);
    }

    #[test]
    fn nonsense_from_a_broker_is_dropped() {
        let api = |key, min, max| ApiVersion::default().with_api_key(key).with_min_version(min).with_max_version(max);
        let response = ApiVersionsResponse::default().with_api_keys(vec![api(1, 5, 4), api(3, 0, 2)]);
        assert_eq!(ClusterVersions::from(&response).apis, [(3, (0, 2))].into_iter().collect());
    }
}

//! Names of configuration resources: a broker's is its id, a topic's may be hidden. Configuration values are text of the
//! real broker (listeners, directories) and stay.

use kafka_protocol::protocol::StrBytes;

use super::Translate;
use super::ids::NO_SUCH_BROKER;

/// `ConfigResource.Type` codes.
const TOPIC: i8 = 2;
const BROKER: i8 = 4;
const BROKER_LOGGER: i8 = 8;

pub(super) fn hidden(t: &dyn Translate, resource_type: i8, name: &str) -> bool {
    resource_type == TOPIC && t.hidden(name)
}

/// The name that the cluster knows a resource by. The empty name (all brokers) and what is no number stay.
pub(super) fn name_in(t: &dyn Translate, resource_type: i8, name: &StrBytes) -> StrBytes {
    if !matches!(resource_type, BROKER | BROKER_LOGGER) {
        return name.clone();
    }
    match name.parse::<i32>() {
        Ok(id) => t.broker_in(id).unwrap_or(NO_SUCH_BROKER).to_string().into(),
        Err(_) => name.clone(),
    }
}

/// Finds the name that the client used for each resource of a reply. The request is the better source than
/// [`Translate::broker_out`]: several virtual brokers may stand before the real one.
pub(super) struct Asked<'a> {
    t: &'a dyn Translate,
    /// Type, the cluster's name, the client's name; taken out as they are answered.
    resources: Vec<(i8, StrBytes, StrBytes)>,
}

impl<'a> Asked<'a> {
    pub(super) fn new(t: &'a dyn Translate, asked: impl Iterator<Item = (i8, &'a StrBytes)>) -> Self {
        let resources = asked.map(|(kind, name)| (kind, name_in(t, kind, name), name.clone())).collect();
        Asked { t, resources }
    }

    /// Replaces the cluster's name of a resource by the client's.
    pub(super) fn name_out(&mut self, resource_type: i8, name: &mut StrBytes) {
        let found = self.resources.iter().position(|(kind, real, _)| *kind == resource_type && real == name);
        if let Some(at) = found {
            *name = self.resources.swap_remove(at).2;
        } else if matches!(resource_type, BROKER | BROKER_LOGGER)
            && let Ok(id) = name.parse::<i32>()
        {
            *name = self.t.broker_out(id).unwrap_or(-1).to_string().into();
        }
    }
}

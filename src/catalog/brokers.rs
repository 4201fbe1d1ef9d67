//! Virtual brokers: the broker identities that clients see, stable over cutovers.
//!
//! Each cluster has a list of slots (real node ids in the order they were first seen, stored); a virtual broker is a slot
//! number. The smaller cluster's brokers stand behind several virtual brokers, so that no address that a client knows
//! disappears at a cutover.

/// The table for one active cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VirtualBrokers {
    host: String,
    first_port: u16,
    /// Real node ids of the active cluster by slot.
    slots: Vec<i32>,
    /// Virtual brokers in all: the larger cluster's slots.
    count: usize,
}

impl VirtualBrokers {
    /// `other` is the number of slots of the cluster that is not active.
    pub fn new(host: String, first_port: u16, slots: Vec<i32>, other: usize) -> Self {
        let count = slots.len().max(other).max(1);
        VirtualBrokers { host, first_port, slots, count }
    }

    pub fn count(&self) -> usize {
        self.count
    }

    pub fn to_real(&self, virtual_id: i32) -> Option<i32> {
        if virtual_id < 0 {
            return Some(virtual_id);
        }
        let v = usize::try_from(virtual_id).ok().filter(|&v| v < self.count)?;
        self.slots.get(v % self.slots.len().max(1)).copied()
    }

    pub fn to_virtual(&self, real_id: i32) -> Option<i32> {
        if real_id < 0 {
            return Some(real_id);
        }
        self.slots.iter().position(|&r| r == real_id).map(|i| i as i32)
    }

    pub fn endpoint(&self, virtual_id: i32) -> Option<(String, u16)> {
        let v = usize::try_from(virtual_id).ok().filter(|&v| v < self.count)?;
        let port = self.first_port.checked_add(u16::try_from(v).ok()?)?;
        Some((self.host.clone(), port))
    }

    /// The virtual brokers behind which a broker of `alive` stands.
    pub fn alive(&self, alive: &[i32]) -> Vec<(i32, String, u16)> {
        (0..self.count as i32)
            .filter(|&v| self.to_real(v).is_some_and(|real| alive.contains(&real)))
            .filter_map(|v| self.endpoint(v).map(|(host, port)| (v, host, port)))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn smaller_cluster_stands_behind_every_virtual_broker() {
        let east = VirtualBrokers::new("h".into(), 9100, vec![1, 2, 3], 1);
        let west = VirtualBrokers::new("h".into(), 9100, vec![7], 3);
        assert_eq!(east.alive(&[1, 2, 3]), west.alive(&[7]), "no address disappears");
        assert_eq!((east.to_real(2), west.to_real(2), west.to_real(3)), (Some(3), Some(7), None));
        assert_eq!((east.to_virtual(3), west.to_virtual(7), west.to_virtual(8)), (Some(2), Some(0), None));
        assert_eq!((east.to_virtual(-1), east.to_real(-1)), (Some(-1), Some(-1)));
        assert_eq!(east.alive(&[1, 3]).iter().map(|b| b.0).collect::<Vec<_>>(), [0, 2]);
        assert_eq!(west.endpoint(1), Some(("h".into(), 9101)));
    }
}

//! The state file: a small local witness of the last generation, for a start while one cluster cannot be reached.

use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::model::Generation;

#[derive(Clone, Debug, Serialize, Deserialize, PartialEq, Eq)]
pub struct Witness {
    pub generation: Generation,
    pub active: String,
}

/// `None`: no file, or one that cannot be read (which is logged): it then vouches for nothing.
pub fn read(path: &Path) -> Option<Witness> {
    let text = match std::fs::read(path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return None,
        Err(error) => {
            tracing::warn!(path = %path.display(), %error, "the state file cannot be read");
            return None;
        }
    };
    serde_json::from_slice(&text)
        .inspect_err(|error| tracing::warn!(path = %path.display(), %error, "the state file is not one"))
        .ok()
}

/// Replaces the file in one step; a failure is logged, since the clusters hold the truth.
pub fn write(path: &Path, witness: &Witness) {
    let temporary = path.with_extension("new");
    let text = serde_json::to_vec(witness).unwrap_or_default();
    let written = std::fs::write(&temporary, text).and_then(|()| std::fs::rename(&temporary, path));
    if let Err(error) = written {
        tracing::warn!(path = %path.display(), %error, "the state file was not written");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comes_back_and_vouches_for_nothing_when_broken() {
        let path = std::env::temp_dir().join(format!("kafka-standby-witness-{}.state", std::process::id()));
        assert_eq!(read(&path), None);
        let witness = Witness { generation: 3, active: "west".into() };
        write(&path, &witness);
        assert_eq!(read(&path), Some(witness));
        std::fs::write(&path, "{").unwrap();
        assert_eq!(read(&path), None);
        std::fs::remove_file(&path).unwrap();
    }
}

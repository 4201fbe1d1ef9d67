//! A temporary directory that is removed when its owner is gone, however that happened.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, MutexGuard};
use std::{env, fs, process};

/// Set to keep data and logs for a look after a failure.
pub const KEEP: &str = "RIG_KEEP";

/// Waits for its standard input to end, which also a SIGKILL of the owner brings about, and removes the directory.
/// A line on it before says that nothing writes there any more; else the guarded processes get a moment to die.
const JANITOR: &str =
    r#"read -r calm || sleep 1; n=0; while ! rm -rf "$1" && [ $((n += 1)) -lt 50 ]; do sleep 0.1; done 2>/dev/null"#;

static COUNT: AtomicU32 = AtomicU32::new(0);
/// All directories that are to be removed.
static PRESENT: Mutex<BTreeSet<PathBuf>> = Mutex::new(BTreeSet::new());

fn present() -> MutexGuard<'static, BTreeSet<PathBuf>> {
    PRESENT.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}

/// Removes all of them, for a rig that ends without unwinding: the janitors would do it, but a moment later.
pub fn remove_all() {
    for path in present().iter() {
        let _ = fs::remove_dir_all(path);
    }
}

/// An empty directory of its own under the system's temporary directory.
pub struct TempDir {
    path: PathBuf,
    janitor: Option<(Child, ChildStdin)>,
}

impl TempDir {
    /// `name` is for the reader of a process list.
    pub fn new(name: &str) -> Self {
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let path = env::temp_dir().join(format!("kafka-standby-{}-{count}-{name}", process::id()));
        // A left-over of an earlier process with this id.
        let _ = fs::remove_dir_all(&path);
        fs::create_dir_all(&path).unwrap_or_else(|e| panic!("cannot create {}: {e}", path.display()));
        let janitor = env::var_os(KEEP).is_none().then(|| start_janitor(&path));
        if janitor.is_some() {
            present().insert(path.clone());
        }
        Self { path, janitor }
    }

    pub fn path(&self) -> &Path {
        &self.path
    }
}

fn start_janitor(path: &Path) -> (Child, ChildStdin) {
    use std::os::unix::process::CommandExt;
    let mut child = Command::new("sh")
        .args(["-c", JANITOR, "janitor"])
        .arg(path)
        // Ctrl-C at the terminal is for the owner alone.
        .process_group(0)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("sh starts");
    let stdin = child.stdin.take().expect("stdin is piped");
    (child, stdin)
}

impl Drop for TempDir {
    fn drop(&mut self) {
        use std::io::Write;
        let Some((mut child, mut stdin)) = self.janitor.take() else {
            eprintln!("kept {}", self.path.display());
            return;
        };
        let _ = stdin.write_all(b"calm\n");
        drop(stdin);
        let _ = child.wait();
        present().remove(&self.path);
    }
}

//! `check`: is the configuration valid and, with `--online`, could the two clusters be cut over?

use std::path::Path;

use super::{Exit, Failure, Terminal};
use crate::config::Config;

/// One thing that the online check found.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Finding {
    /// `false`: a cutover would be refused for it.
    pub fine: bool,
    /// One sentence.
    pub text: String,
}

pub(super) fn check(file: &Path, online: bool, terminal: &mut Terminal<'_>) -> Result<Exit, Failure> {
    let config = Config::load(file).map_err(|error| Failure::new(Exit::Usage, error))?;
    let standby =
        config.standby.as_ref().map_or("no standby".to_owned(), |standby| format!("standby {}", standby.name));
    writeln!(terminal.out, "{} is valid: active {}, {standby}", file.display(), config.active.name)?;
    if !online {
        return Ok(Exit::Done);
    }
    let runtime = tokio::runtime::Runtime::new()?;
    let findings = runtime.block_on(preflight(&config)).map_err(|error| Failure::new(Exit::Failed, error))?;
    for finding in &findings {
        writeln!(terminal.out, "{}: {}", if finding.fine { "ok" } else { "NOT OK" }, finding.text)?;
    }
    Ok(if findings.iter().all(|finding| finding.fine) { Exit::Done } else { Exit::Failed })
}

/// The preflight of a cutover against both clusters, without a running proxy.
async fn preflight(_config: &Config) -> anyhow::Result<Vec<Finding>> {
    anyhow::bail!("the online check is not built yet")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn valid_and_invalid_files() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR"));
        let (mut out, mut err) = (Vec::new(), Vec::new());
        let mut terminal =
            Terminal { out: &mut out, err: &mut err, input: &mut std::io::empty(), answers: false, screen: false };
        assert_eq!(check(&folder.join("config/minimal.toml"), false, &mut terminal), Ok(Exit::Done));
        let failure = check(&folder.join("rustfmt.toml"), false, &mut terminal).unwrap_err();
        assert_eq!(failure.exit, Exit::Usage);
        assert!(failure.message.contains("rustfmt.toml:1:1: unknown key `max_width`"), "{failure}");
        assert!(String::from_utf8(out).unwrap().ends_with("minimal.toml is valid: active east, standby west\n"));
    }
}

//! `divergence`: shows what failovers left behind, writes it to files, has it written again or marked as dealt with.

mod export;

use super::args::{DivergenceCommand, Selection, Settle};
use super::client::Client;
use super::commands::show;
use super::{Exit, Failure, Terminal, tables};
use crate::admin::types::{Divergence, DivergenceRequest, DivergenceState, DivergentRange};

pub(super) fn run(command: DivergenceCommand, terminal: &mut Terminal<'_>) -> Result<Exit, Failure> {
    match command {
        DivergenceCommand::List { api, json } => {
            let found = list(&Client::find(&api)?)?;
            show(&found, json, tables::divergence, terminal)?;
            Ok(if found.unreachable.is_empty() { Exit::Done } else { Exit::Failed })
        }
        DivergenceCommand::Export { api, dir, selection } => {
            let client = Client::find(&api)?;
            let chosen = chosen(&client, &selection)?;
            for range in &chosen {
                let written = export::export(&client, range, &dir)?;
                writeln!(terminal.out, "{}", written.display())?;
            }
            if chosen.is_empty() {
                writeln!(terminal.err, "no divergent records")?;
            }
            Ok(Exit::Done)
        }
        DivergenceCommand::Reinject(asked) => {
            let question = "Write these records again, as new ones at the end of their partitions?";
            settle("reinject", question, &asked, terminal)
        }
        DivergenceCommand::Discard(asked) => {
            let question = "Mark these records as dealt with, so that nothing asks about them any more?";
            settle("discard", question, &asked, terminal)
        }
    }
}

fn list(client: &Client) -> Result<Divergence, Failure> {
    client.get_slowly("/v1/divergence")
}

/// The ranges that were chosen; all clusters must have been asked, or the choice could lack some.
fn chosen(client: &Client, selection: &Selection) -> Result<Vec<DivergentRange>, Failure> {
    let found = list(client)?;
    if !found.unreachable.is_empty() {
        return Err(Failure::new(Exit::Failed, format!("not reachable: {}", found.unreachable.join("; "))));
    }
    let request = request(selection);
    let ours = |r: &DivergentRange| request.chooses(&r.topic, r.partition, r.generation);
    Ok(found.ranges.into_iter().filter(ours).collect())
}

fn request(selection: &Selection) -> DivergenceRequest {
    let Selection { topic, partition, generation } = selection.clone();
    DivergenceRequest { topic, partition, generation }
}

fn settle(verb: &str, question: &str, asked: &Settle, terminal: &mut Terminal<'_>) -> Result<Exit, Failure> {
    let Settle { api, selection, yes, json } = asked;
    let client = &Client::find(api)?;
    if !yes {
        if !terminal.answers {
            return Err(Failure::new(Exit::Usage, format!("nobody is there to confirm: give --yes to {verb}")));
        }
        let ranges = chosen(client, selection)?;
        write!(terminal.err, "{}", tables::divergence(&Divergence { ranges, unreachable: Vec::new() }))?;
        write!(terminal.err, "\n{question} Type `yes`: ")?;
        terminal.err.flush()?;
        let mut line = String::new();
        terminal.input.read_line(&mut line)?;
        if line.trim() != "yes" {
            return Err(Failure::new(Exit::Failed, "not confirmed; nothing was changed"));
        }
    }
    let after: Divergence = client.post(&format!("/v1/divergence/{verb}"), &request(selection))?;
    show(&after, *json, tables::divergence, terminal)?;
    let settled = |r: &DivergentRange| matches!(r.state, DivergenceState::Reinjected | DivergenceState::Discarded);
    let whole = after.ranges.iter().all(settled) && after.unreachable.is_empty();
    Ok(if whole { Exit::Done } else { Exit::Failed })
}

#[cfg(test)]
mod tests;

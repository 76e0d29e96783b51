//! `torpor ps --watch`: the same table again and again, drawn over itself at a terminal.

use super::{client::Function, look, render};
use crate::{cli::Ps, failure::Failure, output::Output};
use std::{
    io::{self, IsTerminal, Write, stdout},
    thread::sleep,
    time::Duration,
};
use terminal_size::{Height, terminal_size};
use torpor::Advice;

/// Between two looks.
const PAUSE: Duration = Duration::from_secs(1);
/// Lines of a terminal that does not say how many it has.
const LINES: usize = 24;
/// Lines that are no function's: the head, what is left out, and the one where the cursor rests.
const AROUND: usize = 3;

/// Shows the functions until the host has gone away, or somebody ends it.
pub(super) fn run(arguments: &Ps, output: &Output) -> Result<(), Failure> {
    if !output.json && !stdout().is_terminal() {
        let advice = Advice::new(
            "`--watch` draws on a terminal, and this is none",
            "leave it out, or add `--json` for a line each second",
        );
        return Err(Failure::WrongUse(advice.into()));
    }
    let mut drawn = 0;
    let mut seen = false;
    loop {
        let (value, functions) = match look(arguments) {
            Ok(found) => found,
            Err(Failure::NotSo(error)) if seen => {
                let what = format!("the host at `{}` has gone away", arguments.admin.admin);
                return Err(Failure::NotSo(
                    error.context(Advice::new(what, "its log says why; start it with `torpor serve`")),
                ));
            }
            Err(failure) => return Err(failure),
        };
        seen = true;
        let shown = match output.json {
            true => output.line_of(&value),
            false => {
                let height = terminal_size().map_or(LINES, |(_, Height(height))| height.into());
                let text = screen(functions, height.saturating_sub(AROUND).max(1));
                draw(&text, &mut drawn)
            }
        };
        // Nobody looks any more.
        if shown.is_err() {
            return Ok(());
        }
        sleep(PAUSE);
    }
}

/// The table of as many functions as there is room for. Those that do something come first.
fn screen(mut functions: Vec<Function>, room: usize) -> String {
    let all = functions.len();
    if all > room {
        functions.sort_by_key(|function| function.state == "Cold");
        functions.truncate(room);
    }
    let more = all - functions.len();
    // Causes would move the table; `torpor ps` has them.
    let mut text = render::table_of(&functions);
    if more > 0 {
        text.push_str(&format!("and {more} more\n"));
    }
    text
}

/// Draws over what was drawn before.
fn draw(text: &str, drawn: &mut usize) -> io::Result<()> {
    let mut terminal = stdout().lock();
    // Up to where the last drawing began. Lines that are too long are cut off by the terminal, so that each takes one line.
    if *drawn > 0 {
        write!(terminal, "\x1b[{drawn}A")?;
    }
    write!(terminal, "\r\x1b[?7l\x1b[J")?;
    terminal.flush()?;
    drop(terminal);
    let mut styled = anstream::stdout().lock();
    write!(styled, "{text}")?;
    styled.flush()?;
    drop(styled);
    let mut terminal = stdout().lock();
    write!(terminal, "\x1b[?7h")?;
    *drawn = text.lines().count();
    terminal.flush()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn function(name: &str, state: &str) -> Function {
        let text = format!(
            "{{\"name\": \"{name}\", \"state\": \"{state}\", \"publishers\": [], \"trigger\": {{\"http\": null, \"inference\": true}}, \
             \"models\": [], \"sessions\": 0, \"memory\": null, \"lacks_memory\": false, \"active\": 0, \"queued\": 0, \"calls\": 0, \"last_call\": null, \"wakes\": 0, \
             \"last_wake\": null, \"cause\": null, \"revision\": 1, \"refused\": null}}"
        );
        serde_json::from_str(&text).expect("it is a function")
    }

    #[test]
    fn what_does_something_is_shown_where_there_is_no_room_for_all() {
        let functions =
            || vec![function("a", "Cold"), function("b", "Cold"), function("c", "Warm"), function("d", "Failed")];
        let names = |room| {
            let text = anstream::adapter::strip_str(&screen(functions(), room)).to_string();
            text.lines().skip(1).map(|line| line.split("  ").next().unwrap_or_default().to_owned()).collect::<Vec<_>>()
        };
        assert_eq!(names(4), ["a", "b", "c", "d"]);
        assert_eq!(names(3), ["c", "d", "a", "and 1 more"]);
        assert_eq!(names(1), ["c", "and 3 more"]);
    }
}

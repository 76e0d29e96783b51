//! `docs/conformance.md` and `docs/protocols.md`: pages that are made of what all tests of one run have seen, and of nothing else. The
//! tests say it through the crate `torpor-evidence`; here is only how it is laid out.

use crate::{console, stamp, tree::Tree};
use anyhow::{Context, Result, bail, ensure};
use serde::Deserialize;
use std::{
    collections::{BTreeMap, BTreeSet},
    env, fs,
    path::PathBuf,
};

/// What stands above the tables of every page.
const MADE: &str = "`cargo xtask test` compares this page with what its tests have seen, and fails where it differs;
nobody writes a row by hand. After a change, `UPDATE_EXPECTED=1 cargo xtask test` writes it anew.
";

/// A page.
struct Page {
    /// From the repository's root.
    path: &'static str,
    head: &'static str,
    parts: &'static [Part],
}

const PAGES: [Page; 2] = [
    Page {
        path: "docs/conformance.md",
        head: "# Conformance\n\nWhat was tried, and what was seen. ",
        parts: &CONFORMANCE,
    },
    Page {
        path: "docs/protocols.md",
        head: "# Protocols\n\nWhat each protocol carries here, and which clients were seen to use it. ",
        parts: &PROTOCOLS,
    },
];

/// A table of the page.
struct Part {
    /// The word by which tests name it.
    name: &'static str,
    /// What stands above it.
    text: &'static str,
    head: &'static [&'static str],
    layout: Layout,
    /// A part whose rows are not shown: each must be the first cell of a row here.
    required: Option<&'static str>,
}

/// How rows become lines.
#[derive(Clone, Copy)]
enum Layout {
    /// Each is a line.
    Lines,
    /// Those that differ in their last cell alone are one line.
    Gathered,
    /// The second cell of each names a column, and the third stands in it. The columns come after those in `head`.
    Crossed,
}

const CONFORMANCE: [Part; 5] = [
    Part {
        name: "components",
        text: "## What components may import\n\nEvery function that [`guest/wit`](../guest/wit) declares for inference, called by a guest; \
               `load` without and with a grant.",
        head: &["interface", "function", "the call", "what it gave"],
        layout: Layout::Lines,
        required: None,
    },
    Part {
        name: "wasi_ephemeral_nn",
        text: "## What core modules may import\n\nEvery function of `wasi_ephemeral_nn` that the host offers, each with every number \
               that it has answered in tests;\n[commands.md](commands.md#wasi_ephemeral_nn) says what the numbers mean.",
        head: &["function", "answer", "when"],
        layout: Layout::Gathered,
        required: Some("wasi_ephemeral_nn offers"),
    },
    Part {
        name: "dtypes",
        text: "## Element types\n\nA tensor of each element type of the Open Inference Protocol, with values at the edges of what every \
               backend\ncomputes with, as input and output of a model.",
        head: &["type"],
        layout: Layout::Crossed,
        required: None,
    },
    Part {
        name: "cases",
        text: "## Backends\n\nThe cases of `runtime/torpor/tests/conformance`. A cell is empty where a case is about another backend.",
        head: &["case"],
        layout: Layout::Crossed,
        required: None,
    },
    Part {
        name: "attacks",
        text: "## Attacks on a bundle\n\n[attacks.md](attacks.md) has the words of each refusal. Each attack was tried on a bundle \
               that is sound but for it, and again on\none whose manifest and config are garbage. A cell is empty where the attack is on those.",
        head: &["somebody …"],
        layout: Layout::Crossed,
        required: None,
    },
];

const PROTOCOLS: [Part; 2] = [
    Part {
        name: "protocols",
        text: "## What is offered, and what is not\n\nFunctions of named tensors are served over all of these, by one address, \
               without a line of their own for it.",
        head: &["protocol", "feature", "here"],
        layout: Layout::Lines,
        required: None,
    },
    Part {
        name: "clients",
        text: "## What clients were seen to do\n\nThe programs in [`tests/clients`](../tests/clients) call a host as the users of each \
               client do. A row that is missing here failed.",
        head: &["protocol", "feature", "client"],
        layout: Layout::Gathered,
        required: None,
    },
];

/// A row that a test has seen.
type Row = (usize, Vec<String>);

/// The rows of each part.
type Rows = BTreeMap<String, BTreeSet<Row>>;

/// Where the tests of a run put what they have seen.
pub(crate) struct Evidence {
    folder: PathBuf,
}

/// A line of a test's file.
#[derive(Deserialize)]
struct Line(String, usize, Vec<String>);

impl Evidence {
    /// Makes the folder for a run of all tests, without what an earlier one has left.
    pub(crate) fn begin(tree: &Tree) -> Result<Self> {
        let folder = tree.target.join("evidence");
        let made = match fs::remove_dir_all(&folder) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error),
            _ => fs::create_dir_all(&folder),
        };
        made.with_context(|| format!("the folder `{}` cannot be made", folder.display()))?;
        Ok(Evidence { folder })
    }

    pub(crate) fn folder(&self) -> &PathBuf {
        &self.folder
    }

    /// Compares the pages with what was seen, or writes them.
    pub(crate) fn end(self, tree: &Tree) -> Result<()> {
        let rows = self.rows()?;
        PAGES.iter().try_for_each(|page| page.check(tree, &rows))
    }

    fn rows(&self) -> Result<Rows> {
        let mut rows = Rows::new();
        for entry in fs::read_dir(&self.folder).context("what the tests have seen is gone")? {
            let path = entry?.path();
            let text = fs::read_to_string(&path).with_context(|| format!("`{}` cannot be read", path.display()))?;
            for line in text.lines() {
                let Line(part, order, cells) = serde_json::from_str(line).context("a test wrote half a line")?;
                rows.entry(part).or_default().insert((order, cells));
            }
        }
        Ok(rows)
    }
}

impl Page {
    fn check(&self, tree: &Tree, rows: &Rows) -> Result<()> {
        console::step("check", self.path);
        let text = text(self.head, self.parts, rows)?;
        let path = tree.root.join(self.path);
        let present = fs::read_to_string(&path).unwrap_or_default();
        if text == present {
            return Ok(());
        }
        if env::var_os("UPDATE_EXPECTED").is_some() {
            return stamp::replace(&path, text.as_bytes());
        }
        let (seen, said): (BTreeSet<_>, BTreeSet<_>) = (text.lines().collect(), present.lines().collect());
        let differences = said.difference(&seen).map(|line| format!("- {line}\n"));
        let differences: String = differences.chain(seen.difference(&said).map(|line| format!("+ {line}\n"))).collect();
        let path = self.path;
        bail!(
            "{path} is not what the tests have seen; `UPDATE_EXPECTED=1 cargo xtask test` writes it anew\n{differences}"
        )
    }
}

/// The page of what was seen.
fn text(head: &str, parts: &[Part], rows: &Rows) -> Result<String> {
    let mut page = format!("{head}{MADE}");
    let none = BTreeSet::new();
    for part in parts {
        let seen = rows.get(part.name).filter(|seen| !seen.is_empty());
        let seen = seen.with_context(|| format!("no test has seen anything of `{}`", part.name))?;
        if let Some(required) = part.required {
            let lacks = |name: &&String| !seen.iter().any(|(_, cells)| cells.first() == Some(name));
            let required = rows.get(required).unwrap_or(&none).iter().filter_map(|(_, cells)| cells.first());
            let missing: Vec<_> = required.filter(lacks).collect();
            ensure!(missing.is_empty(), "no test calls {missing:?} of `{}`", part.name);
        }
        page += &format!("\n{}\n\n{}", part.text, table(part, seen));
    }
    Ok(page)
}

fn table(part: &Part, seen: &BTreeSet<Row>) -> String {
    let mut head: Vec<String> = part.head.iter().map(|&cell| cell.to_owned()).collect();
    let lines: Vec<Vec<String>> = match part.layout {
        Layout::Lines => seen.iter().map(|(_, cells)| cells.clone()).collect(),
        Layout::Gathered => {
            let mut gathered: BTreeMap<(usize, &[String]), Vec<&str>> = BTreeMap::new();
            for (order, cells) in seen {
                let Some((last, first)) = cells.split_last() else { continue };
                gathered.entry((*order, first)).or_default().push(last);
            }
            let line = |((_, first), last): ((_, &[String]), Vec<&str>)| [first, &[last.join("; ")]].concat();
            gathered.into_iter().map(line).collect()
        }
        Layout::Crossed => {
            let cell = |cells: &'_ [String], index: usize| cells.get(index).cloned().unwrap_or_default();
            let columns: BTreeSet<String> = seen.iter().map(|(_, cells)| cell(cells, 1)).collect();
            let mut crossed: BTreeMap<(usize, String), BTreeMap<String, Vec<String>>> = BTreeMap::new();
            for (order, cells) in seen {
                let row = crossed.entry((*order, cell(cells, 0))).or_default();
                row.entry(cell(cells, 1)).or_default().push(cell(cells, 2));
            }
            head.extend(columns.iter().cloned());
            let line = |((_, first), cells): ((usize, String), BTreeMap<String, Vec<String>>)| {
                let cells =
                    columns.iter().map(|column| cells.get(column).map(|all| all.join("; ")).unwrap_or_default());
                [first].into_iter().chain(cells).collect()
            };
            crossed.into_iter().map(line).collect()
        }
    };
    let rule = vec!["---".to_owned(); head.len()];
    let row = |cells: &Vec<String>| {
        let cells = cells.iter().map(|cell| cell.replace('|', "\\|").replace('\n', " "));
        format!("| {} |\n", cells.collect::<Vec<_>>().join(" | "))
    };
    [head, rule].iter().chain(&lines).map(row).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn part(layout: Layout, head: &'static [&'static str]) -> Part {
        Part { name: "a", text: "", head, layout, required: None }
    }

    fn rows(rows: &[(usize, &[&str])]) -> BTreeSet<Row> {
        rows.iter().map(|(order, cells)| (*order, cells.iter().map(|cell| (*cell).to_owned()).collect())).collect()
    }

    #[test]
    fn rows_become_lines() {
        let seen =
            rows(&[(1, &["a", "x|y", "1"]), (0, &["b", "x", "2"]), (0, &["b", "x", "3"]), (1, &["a", "z", "4"])]);
        let lines = table(&part(Layout::Lines, &["one", "two", "three"]), &seen);
        assert_eq!(
            lines,
            "| one | two | three |\n| --- | --- | --- |\n| b | x | 2 |\n| b | x | 3 |\n| a | x\\|y | 1 |\n| a | z | 4 |\n"
        );
        let gathered = table(&part(Layout::Gathered, &["one", "two", "three"]), &seen);
        assert!(gathered.contains("\n| b | x | 2; 3 |\n| a | x"), "{gathered}");
        let crossed = table(&part(Layout::Crossed, &["one"]), &seen);
        assert_eq!(
            crossed,
            "| one | x | x\\|y | z |\n| --- | --- | --- | --- |\n| b | 2; 3 |  |  |\n| a |  | 1 | 4 |\n"
        );
    }

    #[test]
    fn what_no_test_has_seen_is_missed() {
        let all = |name: &str| (name.to_owned(), rows(&[(0, &["f", "0", "a test"])]));
        let mut seen: Rows = CONFORMANCE.iter().map(|part| all(part.name)).collect();
        let missed = |seen: &Rows| text("", &CONFORMANCE, seen).map_err(|error| error.to_string());
        assert!(missed(&seen).is_ok_and(|page| page.contains("| f | 0 | a test |")));
        seen.insert("wasi_ephemeral_nn offers".into(), rows(&[(0, &["f"]), (0, &["g"])]));
        assert_eq!(missed(&seen), Err("no test calls [\"g\"] of `wasi_ephemeral_nn`".to_owned()));
        seen.remove("attacks");
        seen.remove("wasi_ephemeral_nn offers");
        assert_eq!(missed(&seen), Err("no test has seen anything of `attacks`".to_owned()));
    }
}

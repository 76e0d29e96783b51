//! What a benchmark found, in one form for all of them: series of samples by name, in groups, with the goals that they should reach.
//!
//! It is shown as a Markdown table, written as JSON for programs and drawn as SVG for readers (`svg`); `--docs` puts
//! all three where `docs/benchmarks.md` shows them.

use crate::{machine, statistics::quantile, svg};
use anyhow::{Context, Result};
use serde_json::{Value, json};
use std::{
    fmt::{self, Write as _},
    fs,
    path::{Path, PathBuf},
};

/// All that one run of a benchmark found.
pub struct Results {
    /// The benchmark's name, as it is typed.
    bench: &'static str,
    /// What the numbers are, such as `from zero to the first answer`.
    title: &'static str,
    /// Of all medians; empty where groups differ, and have it in their names.
    unit: &'static str,
    machine: String,
    /// How many threads of others wanted a processor when the run began. Well above 0, expect noise.
    load: f64,
    groups: Vec<Group>,
    comparisons: Vec<Comparison>,
    goals: Vec<Goal>,
    absent: Vec<Absent>,
}

/// Groups with the same series, shown as one table: a row for each series, a column for each group.
struct Comparison {
    name: String,
    groups: Vec<Group>,
}

/// A contestant that could not be measured.
struct Absent {
    name: String,
    reason: String,
}

/// Series that are compared with each other.
pub struct Group {
    name: String,
    pub(crate) series: Vec<Series>,
    /// Whether it is in the drawing too.
    drawn: bool,
}

/// One contestant's samples, summarised.
pub struct Series {
    pub(crate) name: String,
    pub(crate) median: f64,
    /// Below the one lie a tenth of the samples, above the other too.
    pub(crate) range: (f64, f64),
    samples: usize,
}

/// A value that should be no greater than another.
struct Goal {
    what: String,
    value: f64,
    most: f64,
    unit: &'static str,
}

/// Where to write what was found, beside the terminal.
#[derive(clap::Args)]
pub struct Outputs {
    /// Also write the results to this file, as JSON
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Also draw them into this file, as SVG
    #[arg(long, value_name = "FILE")]
    svg: Option<PathBuf>,
    /// Put table, JSON and drawing where `docs/benchmarks.md` shows them
    #[arg(long)]
    docs: bool,
    /// Fail if a goal is missed
    #[arg(long)]
    assert: bool,
}

impl Group {
    /// One without a series so far.
    pub fn new(name: impl Into<String>) -> Self {
        Group { name: name.into(), series: Vec::new(), drawn: true }
    }

    /// The same, left out of the drawing.
    #[must_use]
    pub fn undrawn(mut self) -> Self {
        self.drawn = false;
        self
    }

    /// Adds a series, and returns its median.
    pub fn add(&mut self, name: impl Into<String>, mut samples: Vec<f64>) -> f64 {
        let at = |share| quantile(&mut samples, share);
        let [low, median, high] = [0.1, 0.5, 0.9].map(at);
        self.series.push(Series { name: name.into(), median, range: (low, high), samples: samples.len() });
        median
    }
}

impl Results {
    /// Notes the machine and its load, so it is made before anything is measured.
    pub fn new(bench: &'static str, title: &'static str, unit: &'static str) -> Self {
        let (machine, load) = (machine::name(), machine::load());
        let (groups, comparisons, goals, absent) = Default::default();
        Results { bench, title, unit, machine, load, groups, comparisons, goals, absent }
    }

    /// Adds a group, which is shown behind those before it.
    pub fn add(&mut self, group: Group) {
        self.groups.push(group);
    }

    /// Adds groups with the same series in the same order, which are shown side by side under `name`, after those of
    /// [`Results::add`]. The table has the medians alone; the ranges are in the JSON.
    pub fn compare(&mut self, name: impl Into<String>, groups: Vec<Group>) {
        self.comparisons.push(Comparison { name: name.into(), groups });
    }

    /// Tells of a contestant that could not be measured, and why.
    pub fn absent(&mut self, name: impl Into<String>, reason: impl Into<String>) {
        self.absent.push(Absent { name: name.into(), reason: reason.into() });
    }

    /// A goal: `value` should be at most `most`. `unit` is `×` for a ratio.
    pub fn goal(&mut self, what: impl Into<String>, value: f64, most: f64, unit: &'static str) {
        self.goals.push(Goal { what: what.into(), value, most, unit });
    }

    /// Shows the results, and writes what `outputs` asks for. Returns whether the run is to succeed.
    ///
    /// # Errors
    /// When a file cannot be written.
    #[expect(clippy::print_stdout, reason = "a command talks to the one who typed it")]
    pub fn finish(&self, outputs: &Outputs) -> Result<bool> {
        println!("{self}");
        let json = serde_json::to_string_pretty(&self.json())? + "\n";
        let drawing = svg::draw(self.title, self.unit, self.all().filter(|(_, group)| group.drawn));
        if let Some(path) = &outputs.json {
            write(path, &json)?;
        }
        if let Some(path) = &outputs.svg {
            write(path, &drawing)?;
        }
        if outputs.docs {
            let docs = crate::stage::repository().join("docs");
            write(&docs.join(format!("benchmarks/{}.json", self.bench)), &json)?;
            write(&docs.join(format!("benchmarks/{}.svg", self.bench)), &drawing)?;
            let page = docs.join("benchmarks.md");
            let text = fs::read_to_string(&page).with_context(|| format!("`{}` cannot be read", page.display()))?;
            write(&page, &shown(&text, self.bench, &self.to_string())?)?;
        }
        let missed = self.goals.iter().any(|goal| !goal.pass());
        Ok(!(outputs.assert && missed))
    }

    fn json(&self) -> Value {
        let series = |series: &Series| json!({ "name": series.name, "median": series.median, "p10": series.range.0, "p90": series.range.1, "samples": series.samples });
        let group = |(name, group): (String, &Group)| json!({ "name": name, "series": group.series.iter().map(series).collect::<Vec<_>>() });
        let goal = |goal: &Goal| json!({ "what": goal.what, "value": goal.value, "at_most": goal.most, "unit": goal.unit, "pass": goal.pass() });
        let absent = |Absent { name, reason }: &Absent| json!({ "name": name, "reason": reason });
        json!({
            "bench": self.bench,
            "title": self.title,
            "unit": self.unit,
            "machine": self.machine,
            "load": self.load,
            "groups": self.all().map(group).collect::<Vec<_>>(),
            "goals": self.goals.iter().map(goal).collect::<Vec<_>>(),
            "absent": self.absent.iter().map(absent).collect::<Vec<_>>(),
        })
    }

    /// All groups with their whole names.
    fn all(&self) -> impl Iterator<Item = (String, &Group)> {
        let alone = self.groups.iter().map(|group| (group.name.clone(), group));
        let compared = self.comparisons.iter().flat_map(|Comparison { name, groups }| {
            groups.iter().map(move |group| (format!("{name}, {}", group.name), group))
        });
        alone.chain(compared)
    }
}

impl fmt::Display for Results {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Results { title, unit, machine, load, .. } = self;
        writeln!(f, "{machine}; load {load} at the start.\n")?;
        let unit = if unit.is_empty() { String::new() } else { format!(" ({unit})") };
        if !self.groups.is_empty() {
            writeln!(f, "| {title} | median{unit} | p10 to p90 | samples |\n|---|---:|---:|---:|")?;
        }
        for group in &self.groups {
            for Series { name, median, range: (low, high), samples } in &group.series {
                let [median, low, high] = [*median, *low, *high].map(number);
                writeln!(f, "| {}: {name} | {median} | {low} to {high} | {samples} |", group.name)?;
            }
        }
        for (index, comparison) in self.comparisons.iter().enumerate() {
            let between = if index == 0 && self.groups.is_empty() { "" } else { "\n" };
            write!(f, "{between}{comparison}")?;
        }
        if !self.absent.is_empty() {
            writeln!(f, "\n| not measured | why |\n|---|---|")?;
            for Absent { name, reason } in &self.absent {
                writeln!(f, "| {name} | {reason} |")?;
            }
        }
        if self.goals.is_empty() {
            return Ok(());
        }
        writeln!(f, "\n| goal | measured | at most | |\n|---|---:|---:|---|")?;
        for goal in &self.goals {
            let (Goal { what, value, most, unit }, verdict) = (goal, if goal.pass() { "pass" } else { "**missed**" });
            writeln!(f, "| {what} | {} {unit} | {} {unit} | {verdict} |", number(*value), number(*most))?;
        }
        Ok(())
    }
}

impl fmt::Display for Comparison {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "| {} |", self.name)?;
        for group in &self.groups {
            write!(f, " {} |", group.name)?;
        }
        writeln!(f, "\n|---|{}", "---:|".repeat(self.groups.len()))?;
        let rows = self.groups.first().map_or(0, |group| group.series.len());
        for row in 0..rows {
            write!(f, "| {} |", self.groups[0].series[row].name)?;
            for group in &self.groups {
                write!(f, " {} |", number(group.series[row].median))?;
            }
            writeln!(f)?;
        }
        Ok(())
    }
}

impl Goal {
    fn pass(&self) -> bool {
        self.value <= self.most
    }
}

/// `page` with `table` between the marks of `bench`.
fn shown(page: &str, bench: &str, table: &str) -> Result<String> {
    let (begin, end) = (format!("<!-- bench {bench} -->\n"), format!("<!-- end of bench {bench} -->\n"));
    let missing = || format!("`docs/benchmarks.md` has no `{}` and `{}`", begin.trim_end(), end.trim_end());
    let (before, rest) = page.split_once(&begin).with_context(missing)?;
    let (_, after) = rest.split_once(&end).with_context(missing)?;
    let mut page = String::from(before);
    // Writing to a string cannot fail.
    let _ = write!(page, "{begin}{table}{end}{after}");
    Ok(page)
}

fn write(path: &Path, text: &str) -> Result<()> {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder).with_context(|| format!("`{}` cannot be made", folder.display()))?;
    }
    fs::write(path, text).with_context(|| format!("`{}` cannot be written", path.display()))
}

/// Three digits that count, and no false precision.
pub fn number(value: f64) -> String {
    match value {
        value if value.is_nan() => String::new(),
        value if value.abs() >= 100.0 => format!("{value:.0}"),
        value if value.abs() >= 10.0 => format!("{value:.1}"),
        value => format!("{value:.2}"),
    }
}

/// An error as it fits into a cell of a table.
pub fn line(error: &anyhow::Error) -> String {
    let text = format!("{error:#}");
    text.split_whitespace().collect::<Vec<_>>().join(" ").replace('|', "\\|")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn results(most: f64) -> Results {
        let mut results = Results::new("wake", "to the first answer", "ms");
        let mut group = Group::new("filetype");
        let median = group.add("Torpor", (0..=10).map(f64::from).collect());
        results.add(group);
        results.goal("filetype", median, most, "ms");
        results
    }

    #[test]
    fn numbers_have_three_digits() {
        assert_eq!([1234.5, 56.78, 1.234, f64::NAN].map(number), ["1234", "56.8", "1.23", ""]);
    }

    #[test]
    fn a_table_has_medians_ranges_and_goals() {
        let table = results(4.9).to_string();
        assert!(table.contains("| filetype: Torpor | 5.00 | 1.00 to 9.00 | 11 |\n"), "{table}");
        assert!(table.contains("| filetype | 5.00 ms | 4.90 ms | **missed** |\n"), "{table}");
        assert!(results(5.0).to_string().contains("| pass |\n"));
    }

    #[test]
    fn groups_of_several_quantities_have_their_units_in_their_names() {
        let mut results = Results::new("density", "many functions", "");
        let mut group = Group::new("start, s");
        group.add("Torpor", vec![1.5]);
        results.add(group);
        let table = results.to_string();
        assert!(table.contains("| many functions | median | p10 to p90 | samples |\n"), "{table}");
        assert!(table.contains("| start, s: Torpor | 1.50 | 1.50 to 1.50 | 1 |\n"), "{table}");
    }

    #[test]
    fn comparisons_have_a_row_for_each_contestant() {
        let mut results = Results::new("peers", "servers", "");
        let column = |name: &str, ours: f64, theirs: f64| {
            let mut group = Group::new(name);
            group.add("Torpor", vec![ours]);
            group.add("another", vec![theirs]);
            group
        };
        results.compare("add", vec![column("requests/s", 1000.0, 200.0), column("p99, ms", 1.5, 2.5)]);
        results.absent("a third", "it is not there");
        let table = results.to_string();
        let shown =
            "| add | requests/s | p99, ms |\n|---|---:|---:|\n| Torpor | 1000 | 1.50 |\n| another | 200 | 2.50 |\n";
        assert!(table.contains(shown), "{table}");
        assert!(table.contains("| a third | it is not there |\n"), "{table}");
        let json = results.json();
        assert_eq!(json["groups"][1]["name"], "add, p99, ms");
        assert_eq!(json["absent"][0]["name"], "a third");
    }

    #[test]
    fn a_table_takes_the_place_of_the_one_before() {
        let page = "a\n<!-- bench wake -->\nold\n<!-- end of bench wake -->\nb\n";
        let new = "a\n<!-- bench wake -->\nnew\n<!-- end of bench wake -->\nb\n";
        assert_eq!(shown(page, "wake", "new\n").unwrap(), new);
        assert_eq!(shown(new, "wake", "new\n").unwrap(), new);
        assert!(shown(page, "density", "new\n").is_err());
    }

    #[test]
    fn programs_get_what_people_do() {
        let json = results(4.9).json();
        assert_eq!(json["groups"][0]["series"][0]["median"], 5.0);
        assert_eq!(json["goals"][0]["pass"], false);
    }

    #[test]
    fn an_error_is_one_cell() {
        let error = anyhow::anyhow!("a | b\n  c").context("it failed");
        assert_eq!(line(&error), "it failed: a \\| b c");
    }
}

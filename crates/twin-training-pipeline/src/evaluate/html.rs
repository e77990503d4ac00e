//! The evaluation as one HTML file that needs nothing beside it: tables, charts and what every arm wrote.

use std::fmt::Write as _;

use twin_style::judge::JudgeReport;
use twin_style::profile::StyleProfile;

use super::{Arm, ArmReport, ChartError, EvaluationReport, RULE, VersionComparison, charts, table};

/// How many of the features that differ most are named.
const DEVIATIONS: usize = 6;

const STYLE: &str = "body{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem;color:#222;background:#fff}\
table{border-collapse:collapse;margin:1rem 0;font-size:.9rem}td,th{padding:.3rem .7rem;text-align:left;border-bottom:1px solid #8883}\
svg{max-width:100%;height:auto}details{margin:.5rem 0}blockquote{white-space:pre-wrap;margin:.5rem 0;padding:.5rem 1rem;border-left:3px solid #8886}\
.good{color:#17733b}.bad{color:#a3341f}\
@media(prefers-color-scheme:dark){body{color:#ddd;background:#181a1f}.good{color:#6fcf97}.bad{color:#ef8f7a}}";

/// A page about one version, or about several of one author, the newest last.
///
/// # Errors
/// When a chart cannot be drawn.
pub fn page(
    title: &str,
    reports: &[(String, EvaluationReport)],
    comparisons: &[VersionComparison],
    judged: Option<&JudgeReport>,
) -> Result<String, ChartError> {
    let mut page = format!(
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><meta name=\"viewport\" content=\"width=device-width\">\
         <title>{0}</title><style>{STYLE}</style></head><body>\n<h1>{0}</h1>\n",
        escaped(title)
    );
    if let Some(chart) = charts::versions(reports)? {
        let _ = writeln!(page, "<h2>Version by version</h2>\n{chart}");
    }
    let compared = table::version_rows(comparisons);
    if !compared.is_empty() {
        html_table(&mut page, &table::VERSIONS_HEADER, compared.iter().map(|row| row.as_slice()));
    }
    if let Some(judged) = judged {
        let _ = writeln!(page, "<h2>A judge</h2>\n<p>{}</p>", escaped(&table::judge_remark(judged)));
        html_table(&mut page, &table::JUDGE_HEADER, table::judge_rows(judged).iter().map(|row| row.as_slice()));
    }
    for (name, report) in reports {
        version(&mut page, name, report)?;
    }
    page.push_str("</body></html>\n");
    Ok(page)
}

fn version(page: &mut String, name: &str, report: &EvaluationReport) -> Result<(), ChartError> {
    let _ = writeln!(page, "<h2>{}</h2>", escaped(name));
    if let Some(decision) = report.likeness.as_ref().and_then(|likeness| likeness.decision.as_ref()) {
        let (class, verdict) =
            if decision.helps { ("good", "Training helps") } else { ("bad", "Training does not help") };
        let _ = writeln!(page, "<p class=\"{class}\"><strong>{verdict}</strong>: {}.</p>", escaped(&decision.because));
    }
    let _ = writeln!(page, "<p>The rule, which was there before the run: {}.</p>", escaped(RULE));
    for line in table::predictions(report).into_iter().chain(table::remarks(report)) {
        let _ = writeln!(page, "<p>{}</p>", escaped(&line));
    }
    if let Some(chart) = charts::likeness(report)? {
        let _ = writeln!(page, "{chart}");
    }
    html_table(page, &table::LIKENESS_HEADER, table::likeness_rows(report).iter().map(|row| row.as_slice()));
    let comparisons = table::comparisons(report);
    if !comparisons.is_empty() {
        html_table(page, &table::COMPARISON_HEADER, comparisons.iter().map(|row| row.as_slice()));
    }
    html_table(page, &table::GATES_HEADER, table::gates_rows(report).iter().map(|row| row.as_slice()));
    html_table(page, &table::HEADER, table::rows(report).iter().map(|row| row.as_slice()));
    html_table(page, &table::COST_HEADER, table::cost_rows(report).iter().map(|row| row.as_slice()));
    if let Some(chart) = charts::map(report)? {
        let _ = writeln!(page, "<h3>Who writes near whom</h3>\n{chart}");
    }
    if let Some(chart) = charts::deviations(report)? {
        let _ = writeln!(page, "<h3>Feature by feature</h3>\n{chart}");
    }
    page.push_str("<h3>What differs most from the author</h3>\n<ul>\n");
    for arm in report.arms.iter().filter(|arm| Arm::WRITING.contains(&arm.arm)) {
        let found: Vec<String> = deviations(arm, report)
            .into_iter()
            .take(DEVIATIONS)
            .map(|Deviation { feature, machine, own }| format!("{feature} {machine:.1} (the author {own:.1})"))
            .collect();
        let found = if found.is_empty() { "nothing by more than half".to_owned() } else { found.join("; ") };
        let _ = writeln!(page, "<li><strong>{}</strong>: {}</li>", escaped(arm.arm.label()), escaped(&found));
    }
    page.push_str("</ul>\n<h3>What was written</h3>\n");
    samples(page, report);
    Ok(())
}

/// Title by title, so that arms can be read side by side.
fn samples(page: &mut String, report: &EvaluationReport) {
    let titles = report.arms.first().map(|arm| arm.samples.as_slice()).unwrap_or_default();
    for (index, first) in titles.iter().enumerate() {
        let _ = writeln!(page, "<details><summary>{}</summary>", escaped(&first.title));
        for arm in report.arms.iter().filter(|arm| arm.arm != Arm::Others) {
            if let Some(sample) = arm.samples.get(index) {
                let copied = marked(&sample.text, &sample.copied);
                let _ = writeln!(
                    page,
                    "<p><strong>{}</strong></p><blockquote>{copied}</blockquote>",
                    escaped(arm.arm.label())
                );
            }
        }
        page.push_str("</details>\n");
    }
}

/// The text with its copied runs marked. A run is in lower case and without punctuation, so its words are looked for one
/// after the other, from the end of the run before.
fn marked(text: &str, runs: &[String]) -> String {
    let tokens: Vec<(usize, &str)> =
        text.split_whitespace().map(|token| (token.as_ptr() as usize - text.as_ptr() as usize, token)).collect();
    let plain =
        |token: &str| token.chars().filter(|c| c.is_alphanumeric()).flat_map(char::to_lowercase).collect::<String>();
    let (mut out, mut written, mut from) = (String::new(), 0, 0);
    for run in runs {
        let wanted: Vec<String> = run.split(' ').map(plain).collect();
        let is_run =
            |window: &[(usize, &str)]| window.iter().zip(&wanted).all(|((_, token), word)| plain(token) == *word);
        let Some(place) = tokens[from..].windows(wanted.len()).position(is_run) else { continue };
        let (first, last) = (tokens[from + place], tokens[from + place + wanted.len() - 1]);
        let end = last.0 + last.1.len();
        let _ = write!(out, "{}<mark>{}</mark>", escaped(&text[written..first.0]), escaped(&text[first.0..end]));
        (written, from) = (end, from + place + wanted.len());
    }
    out.push_str(&escaped(&text[written..]));
    out
}

/// A feature in which an arm's texts differ from what the author wrote in the same places.
pub(super) struct Deviation {
    pub(super) feature: &'static str,
    pub(super) machine: f64,
    pub(super) own: f64,
}

/// `twice as many semicolons`: the features of an arm that are half as high again as the author's or more, or the other way
/// round, the farthest first.
pub(super) fn deviations(arm: &ArmReport, report: &EvaluationReport) -> Vec<Deviation> {
    let joined = |arm: &ArmReport| arm.texts().join("\n\n");
    let Some(author) = report.arm(Arm::Author) else { return Vec::new() };
    let (own, machine) = (StyleProfile::of(&joined(author)).features(), StyleProfile::of(&joined(arm)).features());
    let ratio = |own: f64, machine: f64| ((machine.max(0.0) + 0.5) / (own.max(0.0) + 0.5)).ln().abs();
    let mut found: Vec<Deviation> = own
        .iter()
        .zip(&machine)
        .map(|((feature, own), (_, machine))| Deviation { feature, machine: *machine, own: *own })
        // One more or less in a thousand words is nothing.
        .filter(|found| (found.own - found.machine).abs() >= 1.0)
        .filter(|found| ratio(found.own, found.machine) >= 1.5_f64.ln())
        .collect();
    found.sort_by(|a, b| ratio(b.own, b.machine).total_cmp(&ratio(a.own, a.machine)));
    found
}

fn html_table<'a>(page: &mut String, header: &[&str], rows: impl Iterator<Item = &'a [String]>) {
    let _ = writeln!(page, "<table><tr>{}</tr>", cells("th", header));
    for row in rows {
        let _ = writeln!(page, "<tr>{}</tr>", cells("td", row));
    }
    page.push_str("</table>\n");
}

fn cells<T: AsRef<str>>(tag: &str, cells: &[T]) -> String {
    cells.iter().map(|cell| format!("<{tag}>{}</{tag}>", escaped(cell.as_ref()))).collect()
}

/// What models and people wrote stays text.
pub(super) fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            other => out.push(other),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_copied_run_is_marked_and_text_stays_text() {
        let text = "So <b>Rust</b> is a language that, they say, nobody has to fear at all & more.";
        let runs = ["is a language that they say nobody has to fear".to_owned()];
        let html = marked(text, &runs);
        assert!(html.contains("<mark>is a language that, they say, nobody has to fear</mark>"), "{html}");
        assert!(html.starts_with("So &lt;b&gt;") && html.ends_with("&amp; more."), "{html}");
        assert_eq!(marked("nothing of <it", &runs), "nothing of &lt;it");
        let twice = ["one two".to_owned(), "five six".to_owned(), "one two".to_owned()];
        assert_eq!(
            marked("One two; three five six. One two", &twice),
            "<mark>One two;</mark> three <mark>five six.</mark> <mark>One two</mark>"
        );
    }
}

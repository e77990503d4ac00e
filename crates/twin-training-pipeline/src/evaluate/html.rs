//! The evaluation as one HTML file that needs nothing beside it: tables, charts and what every arm wrote.

use std::fmt::Write as _;

use twin_style::profile::StyleProfile;

use super::{Arm, ArmReport, ChartError, EvaluationReport, charts, table};

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
pub fn page(title: &str, reports: &[(String, EvaluationReport)]) -> Result<String, ChartError> {
    let mut page = format!(
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><meta name=\"viewport\" content=\"width=device-width\">\
         <title>{0}</title><style>{STYLE}</style></head><body>\n<h1>{0}</h1>\n",
        escaped(title)
    );
    if let Some(chart) = charts::versions(reports)? {
        let _ = writeln!(page, "<h2>Version by version</h2>\n{chart}");
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
    for line in table::predictions(report).into_iter().chain(table::ruler(report)) {
        let _ = writeln!(page, "<p>{}</p>", escaped(&line));
    }
    if let Some(chart) = charts::likeness(report)? {
        let _ = writeln!(page, "{chart}");
    }
    html_table(page, &table::LIKENESS_HEADER, table::likeness_rows(report).iter().map(|row| row.as_slice()));
    html_table(page, &table::HEADER, table::rows(report).iter().map(|row| row.as_slice()));
    let comparisons = table::comparisons(report);
    if !comparisons.is_empty() {
        html_table(page, &table::COMPARISON_HEADER, comparisons.iter().map(|row| row.as_slice()));
    }
    page.push_str("<h3>What differs most from the author</h3>\n<ul>\n");
    for arm in report.arms.iter().filter(|arm| Arm::WRITING.contains(&arm.arm)) {
        let found = deviations(arm, report);
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
                let copied = marked(&sample.text, &arm.style.copying.longest_text, arm.style.copying.longest_run);
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

/// The text with the arm's longest copied run marked, where it stands in this text and is long enough to be no accident.
fn marked(text: &str, run: &str, words: usize) -> String {
    if words < 8 {
        return escaped(text);
    }
    // The run is in lower case and without punctuation: its words are looked for one after the other.
    let tokens: Vec<(usize, &str)> =
        text.split_whitespace().map(|token| (token.as_ptr() as usize - text.as_ptr() as usize, token)).collect();
    let plain =
        |token: &str| token.chars().filter(|c| c.is_alphanumeric()).flat_map(char::to_lowercase).collect::<String>();
    let wanted: Vec<String> = run.split(' ').map(plain).collect();
    let found = tokens
        .windows(wanted.len())
        .find(|window| window.iter().zip(&wanted).all(|((_, token), word)| plain(token) == *word));
    match found.and_then(|window| Some((window.first()?.0, window.last()?))) {
        Some((start, (last, token))) => format!(
            "{}<mark>{}</mark>{}",
            escaped(&text[..start]),
            escaped(&text[start..last + token.len()]),
            escaped(&text[last + token.len()..])
        ),
        None => escaped(text),
    }
}

/// `twice as many semicolons`: the features of an arm that are farthest from those of the author's texts under the same titles.
fn deviations(arm: &ArmReport, report: &EvaluationReport) -> Vec<String> {
    let joined =
        |arm: &ArmReport| arm.samples.iter().map(|sample| sample.text.as_str()).collect::<Vec<_>>().join("\n\n");
    let Some(author) = report.arm(Arm::Author) else { return Vec::new() };
    let (own, machine) = (StyleProfile::of(&joined(author)).features(), StyleProfile::of(&joined(arm)).features());
    let mut found: Vec<(f64, String)> = own
        .iter()
        .zip(&machine)
        // One more or less in a thousand words is nothing.
        .filter(|((_, own), (_, machine))| (own - machine).abs() >= 1.0)
        .map(|((name, own), (_, machine))| {
            let ratio = (machine.max(0.0) + 0.5) / (own.max(0.0) + 0.5);
            (ratio.ln().abs(), format!("{name} {machine:.1} (the author {own:.1})"))
        })
        .filter(|(distance, _)| *distance >= 1.5_f64.ln())
        .collect();
    found.sort_by(|a, b| b.0.total_cmp(&a.0));
    found.into_iter().take(DEVIATIONS).map(|(_, said)| said).collect()
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
fn escaped(text: &str) -> String {
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
        let run = "is a language that they say nobody has to fear";
        let html = marked(text, run, 10);
        assert!(html.contains("<mark>is a language that, they say, nobody has to fear</mark>"), "{html}");
        assert!(html.starts_with("So &lt;b&gt;") && html.ends_with("&amp; more."), "{html}");
        assert_eq!(marked("a <b", "a b", 2), "a &lt;b");
        assert_eq!(marked("nothing of it", run, 10), "nothing of it");
    }
}

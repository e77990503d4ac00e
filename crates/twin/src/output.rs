//! What people and scripts read: results on standard output, remarks and errors on standard error.
#![expect(clippy::print_stderr, reason = "this is the one place that prints")]

use comfy_table::presets::UTF8_HORIZONTAL_ONLY;
use comfy_table::{ContentArrangement, Table};
use serde::Serialize;

/// A line of a result.
pub fn line(text: impl AsRef<str>) {
    // A reader that has gone away, as in `twin … | head`, is no reason to panic, as `println!` would.
    use std::io::Write;
    let _ = writeln!(std::io::stdout(), "{}", text.as_ref());
}

/// A piece of a result, at once.
pub fn piece(text: &str) {
    use std::io::Write;
    let mut out = std::io::stdout();
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}

/// A remark that is not part of the result.
pub fn remark(text: impl AsRef<str>) {
    eprintln!("{}", text.as_ref());
}

/// An error and its causes, once each.
pub fn error(error: &anyhow::Error) {
    eprintln!("error: {error}");
    let mut said = error.to_string();
    for cause in error.chain().skip(1) {
        let text = cause.to_string();
        if !said.contains(&text) {
            eprintln!("  caused by: {text}");
        }
        said = text;
    }
}

/// A value as JSON, or as whatever `print` makes of it.
pub fn result<T: Serialize>(json: bool, value: &T, print: impl FnOnce(&T)) -> anyhow::Result<()> {
    if json {
        line(serde_json::to_string_pretty(value)?);
    } else {
        print(value);
    }
    Ok(())
}

/// A table with a header.
pub fn table(header: &[&str], rows: impl IntoIterator<Item = Vec<String>>) {
    let mut table = Table::new();
    table.load_style(UTF8_HORIZONTAL_ONLY).set_content_arrangement(ContentArrangement::Dynamic);
    table.set_header(header.iter().map(ToString::to_string).collect::<Vec<_>>());
    for row in rows {
        table.add_row(row);
    }
    line(table.to_string());
}

/// A number of bytes as people say it.
pub fn bytes(count: u64) -> String {
    match count {
        0..1_000 => format!("{count} B"),
        1_000..1_000_000 => format!("{:.1} kB", count as f64 / 1e3),
        1_000_000..1_000_000_000 => format!("{:.1} MB", count as f64 / 1e6),
        _ => format!("{:.1} GB", count as f64 / 1e9),
    }
}

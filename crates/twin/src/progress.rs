//! Progress on the terminal: a bar with rate and time left, or plain lines when nobody can see a bar move.

use std::collections::HashMap;
use std::io::IsTerminal;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use twin_domain::{Progress, ProgressUpdate};

/// How often a plain line is printed for one stage.
const LINE_INTERVAL: Duration = Duration::from_secs(10);

/// Shows progress on standard error.
pub struct TerminalProgress {
    style: Style,
    stages: Mutex<HashMap<String, Stage>>,
}

enum Style {
    Silent,
    Lines,
    Bars(MultiProgress),
}

struct Stage {
    bar: Option<ProgressBar>,
    started: Instant,
    printed: Option<Instant>,
    finished: bool,
}

impl TerminalProgress {
    /// Bars on a terminal, lines elsewhere, nothing when `quiet`.
    pub fn new(quiet: bool) -> Self {
        let style = if quiet {
            Style::Silent
        } else if std::io::stderr().is_terminal() {
            Style::Bars(MultiProgress::new())
        } else {
            Style::Lines
        };
        Self { style, stages: Mutex::new(HashMap::new()) }
    }

    fn bar(bars: &MultiProgress, update: &ProgressUpdate<'_>) -> ProgressBar {
        let bar = match update.total {
            Some(total) => bars.add(ProgressBar::new(total)),
            None => bars.add(ProgressBar::no_length()),
        };
        let bytes = update.unit == "bytes";
        let template = match (update.total.is_some(), bytes) {
            (true, true) => "  {prefix:<12} {bar:28} {bytes}/{total_bytes} · {bytes_per_sec} · {eta} left  {msg}",
            (true, false) => "  {prefix:<12} {bar:28} {pos}/{len} · {per_sec} · {eta} left  {msg}",
            (false, true) => "  {prefix:<12} {spinner} {bytes} · {bytes_per_sec}  {msg}",
            (false, false) => "  {prefix:<12} {spinner} {pos} · {per_sec}  {msg}",
        };
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style.progress_chars("━╸─"));
        }
        bar.set_prefix(update.stage.to_owned());
        bar.enable_steady_tick(Duration::from_millis(200));
        bar
    }
}

impl Progress for TerminalProgress {
    fn update(&self, update: ProgressUpdate<'_>) {
        let mut stages = self.stages.lock().unwrap_or_else(PoisonError::into_inner);
        let ended = update.total == Some(update.done);
        let known = stages.get(update.stage).is_some_and(|stage| !stage.finished);
        if !known {
            let bar = match &self.style {
                Style::Bars(bars) => Some(Self::bar(bars, &update)),
                Style::Silent | Style::Lines => None,
            };
            let stage = Stage { bar, started: Instant::now(), printed: None, finished: false };
            stages.insert(update.stage.to_owned(), stage);
        }
        let Some(stage) = stages.get_mut(update.stage) else { return };
        stage.finished = ended;
        match &self.style {
            Style::Silent => {}
            Style::Bars(_) => stage.show_bar(&update, ended),
            Style::Lines => stage.show_line(&update, ended),
        }
    }
}

impl Stage {
    fn show_bar(&self, update: &ProgressUpdate<'_>, ended: bool) {
        let Some(bar) = &self.bar else { return };
        if let Some(total) = update.total {
            bar.set_length(total);
        }
        bar.set_position(update.done);
        bar.set_message(update.detail.to_owned());
        if ended {
            bar.finish();
        }
    }

    #[expect(clippy::print_stderr, reason = "progress belongs on standard error")]
    fn show_line(&mut self, update: &ProgressUpdate<'_>, ended: bool) {
        let now = Instant::now();
        let due = self.printed.is_none_or(|printed| now - printed >= LINE_INTERVAL);
        if !due && !ended {
            return;
        }
        self.printed = Some(now);
        let elapsed = (now - self.started).as_secs_f64();
        let of = update.total.map(|total| format!("/{total}")).unwrap_or_default();
        let left = match update.total {
            Some(total) if update.done > 0 && !ended => {
                let seconds = elapsed / update.done as f64 * total.saturating_sub(update.done) as f64;
                format!(", {seconds:.0} s left")
            }
            _ => String::new(),
        };
        let detail = if update.detail.is_empty() { String::new() } else { format!(", {}", update.detail) };
        eprintln!("  {}: {}{of} {} in {elapsed:.0} s{left}{detail}", update.stage, update.done, update.unit);
    }
}

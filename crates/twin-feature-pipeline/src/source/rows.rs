//! A JSON Lines file with a post in each row: `{"author", "title", "date", "source", "text"}`. Only `text` is required.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};

use serde::Deserialize;
use url::Url;

use super::SourceError;
use super::folder::escaped_file_url;
use crate::clean::{Rejection, canonical_url, normal};
use crate::date;
use crate::page::{Hints, Media, Page};
use crate::report::Skip;

#[derive(Deserialize)]
struct Row {
    text: Option<String>,
    title: Option<String>,
    author: Option<String>,
    date: Option<serde_json::Value>,
    #[serde(alias = "url")]
    source: Option<String>,
    #[serde(default)]
    tags: Vec<String>,
}

/// An open file of rows, read one at a time.
pub(crate) struct Rows {
    path: PathBuf,
    reader: BufReader<fs_err::File>,
    most_bytes: u64,
    line: usize,
    /// Whether reading failed: what cannot be read once is not tried again.
    failed: bool,
    /// How often each key was given: rows may share a source, or have none.
    keys: HashMap<String, usize>,
}

impl Rows {
    /// Opens a file. Rows with a text of more than `most_bytes` are skipped without being read.
    ///
    /// # Errors
    /// When the file cannot be opened.
    pub(crate) fn open(path: &Path, most_bytes: u64) -> Result<Self, SourceError> {
        let file = fs_err::File::open(path).map_err(|source| SourceError::Read { path: path.to_owned(), source })?;
        Ok(Self {
            path: path.to_owned(),
            reader: BufReader::new(file),
            most_bytes,
            line: 0,
            failed: false,
            keys: HashMap::new(),
        })
    }

    fn next_row(&mut self) -> std::io::Result<Option<Result<Page, Skip>>> {
        // JSON escapes can double a text; more is not the text we take.
        let most = self.most_bytes * 2 + 4096;
        loop {
            let mut line = Vec::new();
            if self.reader.by_ref().take(most).read_until(b'\n', &mut line)? == 0 {
                return Ok(None);
            }
            self.line += 1;
            if line.len() as u64 == most && !line.ends_with(b"\n") {
                let rest = self.reader.skip_until(b'\n')? as u64;
                let rejection = Rejection::TooLarge { bytes: most + rest, most: self.most_bytes };
                return Ok(Some(Err(self.skipped(&rejection))));
            }
            if !line.trim_ascii().is_empty() {
                return Ok(Some(self.row(&line)));
            }
        }
    }

    fn row(&mut self, line: &[u8]) -> Result<Page, Skip> {
        let row: Row = serde_json::from_slice(line).map_err(|error| self.skipped(&error))?;
        let text = row.text.filter(|text| !text.trim().is_empty()).ok_or_else(|| self.skipped(&"it has no `text`"))?;
        if text.len() as u64 > self.most_bytes {
            return Err(self.skipped(&Rejection::TooLarge { bytes: text.len() as u64, most: self.most_bytes }));
        }
        if text.contains('\0') {
            return Err(self.skipped(&Rejection::NotText { problem: "it has zero bytes".to_owned() }));
        }
        let key = self.key(row.source.as_deref(), row.title.as_deref());
        let date = match row.date {
            Some(serde_json::Value::String(date)) => date::parse(&date),
            Some(serde_json::Value::Number(year)) => date::parse(&year.to_string()),
            _ => None,
        };
        let hints = Hints { title: row.title, date, tags: row.tags, byline: row.author, ..Hints::default() };
        Ok(Page { url: self.url(&key), media: Media::Markdown, body: text, hints, key })
    }

    fn key(&mut self, source: Option<&str>, title: Option<&str>) -> String {
        let named = [source, title].into_iter().flatten().map(str::trim).find(|name| !name.is_empty());
        let key = named.map_or_else(|| format!("row {}", self.line), str::to_owned);
        let times = self.keys.entry(key.clone()).or_default();
        *times += 1;
        if *times > 1 { format!("{key}#{times}") } else { key }
    }

    fn url(&self, key: &str) -> String {
        match Url::parse(key) {
            Ok(url) if matches!(url.scheme(), "http" | "https") && url.has_host() => {
                // The number of a second row with the same address is its fragment, and stays.
                let fragment = url.fragment().map(|fragment| format!("#{fragment}")).unwrap_or_default();
                format!("{}{fragment}", canonical_url(&url))
            }
            _ => {
                let stem = self.path.file_stem().unwrap_or_default().to_string_lossy();
                let key =
                    if key.contains('/') || key.contains('.') { key.to_owned() } else { normal::words(key).join("-") };
                escaped_file_url(&format!("{stem}/{key}"))
            }
        }
    }

    fn skipped(&self, reason: &dyn std::fmt::Display) -> Skip {
        let name = self.path.file_name().unwrap_or_default().to_string_lossy();
        Skip { what: format!("{name}, line {}", self.line), reason: reason.to_string() }
    }
}

impl Iterator for Rows {
    type Item = Result<Page, Skip>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.failed {
            return None;
        }
        self.next_row().unwrap_or_else(|error| {
            self.failed = true;
            Some(Err(self.skipped(&error)))
        })
    }
}

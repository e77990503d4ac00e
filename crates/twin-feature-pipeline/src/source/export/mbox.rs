//! Mailboxes with newsletters that were sent, in the mbox format (RFC 4155) or as single messages. Only messages to a
//! list are taken: letters to a person are private.

use mail_parser::{HeaderValue, Message, MessageParser};

use super::{Each, Export};
use crate::date;
use crate::page::{Hints, Media, Page};
use crate::report::Skip;

/// Whether a file begins as a mailbox or a message does.
pub(super) fn is_start(start: &str) -> bool {
    let first = start.lines().next().unwrap_or_default();
    let is_header = |line: &str| {
        let name = line.split(':').next().unwrap_or_default();
        ["received", "return-path", "message-id", "from", "subject", "date", "mime-version", "delivered-to"]
            .contains(&name.to_ascii_lowercase().as_str())
    };
    (first.starts_with("From ") && start.lines().nth(1).is_some_and(|line| line.contains(':')))
        || start.lines().take(3).filter(|line| is_header(line)).count() >= 2
}

pub(super) fn posts(export: &mut Export, each: &mut Each<'_>) -> Result<(), String> {
    let endings = [".mbox", ".mbx", ".eml"];
    let mut names = export.archive.matching(|name| endings.iter().any(|ending| name.ends_with(ending)));
    if names.is_empty() {
        names = export.archive.names().map(str::to_owned).collect();
    }
    let mut private = 0;
    for name in names {
        let bytes =
            export.archive.read(&name, super::MAX_FILE_BYTES).map_err(|problem| format!("`{name}`: {problem}"))?;
        for (number, raw) in messages(&bytes).into_iter().enumerate() {
            let what = format!("{name}, message {}", number + 1);
            let Some(message) = MessageParser::default().parse(&raw) else {
                each(Err(Skip { what, reason: "it is no message".to_owned() }));
                continue;
            };
            if !is_to_a_list(&message) {
                private += 1;
            } else if !each(Ok(newsletter(export, what, &message))) {
                return Ok(());
            }
        }
    }
    if private > 0 {
        let reason = "letters to persons, not to a list: they are private".to_owned();
        each(Err(Skip { what: format!("{private} messages"), reason }));
    }
    Ok(())
}

/// Cuts a mailbox at lines that begin with `From `, after an empty line, and takes back the `>` that protects such lines
/// within a message.
fn messages(bytes: &[u8]) -> Vec<Vec<u8>> {
    let mut messages: Vec<Vec<u8>> = Vec::new();
    let mut after_empty = true;
    let is_mailbox = bytes.starts_with(b"From ");
    for line in bytes.split_inclusive(|byte| *byte == b'\n') {
        if is_mailbox && after_empty && line.starts_with(b"From ") {
            messages.push(Vec::new());
        } else {
            let quoted = is_mailbox && is_protected(line);
            if messages.is_empty() {
                messages.push(Vec::new());
            }
            if let Some(message) = messages.last_mut() {
                message.extend_from_slice(if quoted { &line[1..] } else { line });
            }
        }
        after_empty = line.trim_ascii().is_empty();
    }
    messages
}

/// Whether a line is `From ` behind one or more `>`.
fn is_protected(line: &[u8]) -> bool {
    let start = line.iter().position(|byte| *byte != b'>').unwrap_or(line.len());
    start > 0 && line[start..].starts_with(b"From ")
}

fn is_to_a_list(message: &Message<'_>) -> bool {
    let has = |name: &str| message.header(name).is_some();
    let is_bulk = matches!(message.header("Precedence"), Some(HeaderValue::Text(value)) if matches!(value.trim(), "bulk" | "list"));
    ["List-Id", "List-Unsubscribe", "List-Post", "List-Archive"].into_iter().any(has) || is_bulk
}

fn newsletter(export: &Export, what: String, message: &Message<'_>) -> Page {
    let id = message.message_id().map(str::to_owned);
    let (media, body) = match (message.body_html(0), message.body_text(0)) {
        (Some(html), _) if message.html_body_count() > 0 => (Media::Fragment, html.into_owned()),
        (_, plain) => (Media::Text, plain.unwrap_or_default().into_owned()),
    };
    let sender = message.from().and_then(|from| from.first());
    let hints = Hints {
        title: message.subject().map(str::to_owned),
        date: message.date().and_then(|written| date::parse(&written.to_rfc3339())),
        byline: sender.and_then(|sender| sender.name()).map(str::to_owned),
        ..Hints::default()
    };
    let key = id.map_or(what, |id| format!("message {id}"));
    let archived =
        message.header("Archived-At").and_then(|value| value.as_text()).map(|url| url.trim_matches(['<', '>']));
    Page { url: export.url(archived, &key), key, media, body, hints }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mailbox_is_cut_into_messages() {
        let mailbox = b"From a@b Thu Jan  1 00:00:00 2020\nSubject: One\n\nText\nFrom here on\n>From there\n> a quotation\n\nFrom a@b Thu Jan  1 00:00:00 2020\nSubject: Two\n\nText\n";
        let messages = messages(mailbox);
        assert_eq!(messages.len(), 2);
        let first = String::from_utf8(messages[0].clone()).unwrap();
        assert!(first.contains("\nFrom here on\nFrom there\n> a quotation\n"), "{first}");
    }

    #[test]
    fn a_mailbox_is_recognised() {
        assert!(is_start("From a@b Thu Jan  1 00:00:00 2020\nSubject: One\n"));
        assert!(is_start("Message-ID: <x>\nSubject: One\n"));
        assert!(!is_start("From time to time\nI write.\n") && !is_start("Date: soon\n\nA poem"));
    }
}

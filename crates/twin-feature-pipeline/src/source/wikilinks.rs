//! Links between the notes of a vault (Obsidian and other editors): `[[note]]` becomes the words that a reader sees.
//!
//! An embedded note (`![[note]]`) is a post of its own and is not repeated where it is embedded; an embedded picture has
//! no words.

use crate::clean::markdown::code_ranges;
use crate::page::Media;

/// The text with such links resolved, if it is Markdown. Code stays as it is.
pub(crate) fn resolved(media: Media, text: String) -> String {
    if media != Media::Markdown || !text.contains("[[") {
        return text;
    }
    let code = code_ranges(&text);
    let mut code = code.iter().peekable();
    let mut resolved = String::with_capacity(text.len());
    let mut from = 0;
    for (at, _) in text.match_indices("[[") {
        while code.next_if(|range| range.end <= at).is_some() {}
        let in_code = code.peek().is_some_and(|range| range.start <= at);
        if at < from || in_code {
            continue;
        }
        let Some(target) = target(&text[at + 2..]) else { continue };
        let is_embed = text[from..at].ends_with('!');
        resolved.push_str(&text[from..at - usize::from(is_embed)]);
        if !is_embed {
            resolved.push_str(&shown(target));
        }
        from = at + 2 + target.len() + 2;
    }
    resolved.push_str(&text[from..]);
    resolved
}

/// What stands before the closing brackets, which are on the same line.
fn target(rest: &str) -> Option<&str> {
    let end = rest.find("]]")?;
    let target = &rest[..end];
    let is_link = !target.trim().is_empty() && !target.contains(['\n', '[', ']']);
    is_link.then_some(target)
}

/// `note|words` shows the words; `note#Heading` shows `note > Heading`; a folder before the note is not shown.
fn shown(target: &str) -> String {
    if let Some((_, label)) = target.split_once('|') {
        return label.trim().to_owned();
    }
    let (note, heading) = target.split_once('#').map_or((target, None), |(note, heading)| (note, Some(heading)));
    let note = note.trim().rsplit('/').next().unwrap_or_default();
    let note = note.strip_suffix(".md").unwrap_or(note);
    match heading.map(|heading| heading.trim_start_matches('^').trim()).filter(|heading| !heading.is_empty()) {
        Some(heading) if note.is_empty() => heading.to_owned(),
        Some(heading) => format!("{note} > {heading}"),
        None => note.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: &str) {
        assert_eq!(resolved(Media::Markdown, text.to_owned()), expected);
    }

    #[test]
    fn links_become_what_a_reader_sees() {
        check("See [[note]], [[folder/note|the note]] and [[note#Head]].", "See note, the note and note > Head.");
        check("Above: [[#Head]], [[note#^block]], [[note.md]].", "Above: Head, note > block, note.");
    }

    #[test]
    fn embeds_go_and_code_stays() {
        check("a\n\n![[picture.png]]\n\nb ![[note]] c", "a\n\n\n\nb  c");
        check("`[[note]]` and\n\n```\n[[note]]\n```\n", "`[[note]]` and\n\n```\n[[note]]\n```\n");
    }

    #[test]
    fn what_is_no_link_stays() {
        for text in ["[[unclosed\n]]", "[[]]", "a [[b] c", "[[a [[b]", "[x](y)"] {
            check(text, text);
        }
        let html = "<a>[[x]]</a>".to_owned();
        assert_eq!(resolved(Media::Html, html.clone()), html);
    }

    proptest::proptest! {
        #[test]
        fn what_is_resolved_stays(text in "(\\[\\[|\\]\\]|!|#|\\||a|é|`|\n| ){0,60}") {
            let once = resolved(Media::Markdown, text);
            // Nothing is added but the sign between note and heading.
            proptest::prop_assert!(!once.contains('>') || once.contains(" > "));
        }
    }
}

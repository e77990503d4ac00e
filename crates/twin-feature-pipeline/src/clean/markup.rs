//! Light markup other than Markdown: what is prose in it becomes Markdown, what only steers a renderer goes. The words and
//! their punctuation stay as they were typed.

use super::front_matter::FrontMatter;
use crate::page::Media;

mod asciidoc;
mod djot;
mod mdx;
mod rst;

/// A text as Markdown, with what it states about itself besides front matter.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Converted {
    pub(crate) stated: FrontMatter,
    pub(crate) markdown: String,
}

/// Turns a text without front matter into Markdown.
pub(crate) fn to_markdown(media: Media, text: &str) -> Converted {
    let plain = |markdown| Converted { stated: FrontMatter::default(), markdown };
    match media {
        Media::AsciiDoc => asciidoc::convert(text),
        Media::Rst => rst::convert(text),
        Media::Mdx => plain(mdx::convert(text)),
        Media::Djot => plain(djot::convert(text)),
        Media::Markdown | Media::Html | Media::Fragment | Media::Text => plain(text.to_owned()),
    }
}

/// Applies `change` to what stands between spans of code (in single or double backticks) on one line or paragraph.
fn outside_code(text: &str, change: impl Fn(&str) -> String) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(start) = rest.find('`') {
        let ticks = rest[start..].bytes().take_while(|byte| *byte == b'`').count();
        let fence = &rest[start..start + ticks];
        let Some(length) = rest[start + ticks..].find(fence) else { break };
        let end = start + ticks + length + ticks;
        out.push_str(&change(&rest[..start]));
        out.push_str(&rest[start..end]);
        rest = &rest[end..];
    }
    out.push_str(&change(rest));
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn code_is_passed_over() {
        let upper = |text: &str| outside_code(text, str::to_uppercase);
        assert_eq!(upper("a `b` c ``d ` e`` f"), "A `b` C ``d ` e`` F");
        assert_eq!(upper("a `b"), "A `B");
    }

    proptest::proptest! {
        #[test]
        fn no_text_is_a_reason_to_panic(text in "(=|-|\\.|\\*|_|`|\\[|\\]|<|>|\\{|\\}|:|\\||/|\\+|~|#|\"| |\n|a|é|import|::|source|https://a.b|\\PC){0,120}") {
            for media in [Media::AsciiDoc, Media::Rst, Media::Mdx, Media::Djot] {
                let converted = to_markdown(media, &text);
                proptest::prop_assert!(converted.markdown.len() <= text.len() * 8 + 64);
            }
        }
    }
}

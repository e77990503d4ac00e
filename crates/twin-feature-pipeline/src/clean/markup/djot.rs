//! Djot reads almost like Markdown; what does not are its attributes, the fences of its divisions and its comments.

use std::sync::LazyLock;

use regex::Regex;

use super::outside_code;
use crate::clean::privacy::pattern;

/// Attributes and comments after what they belong to: `{.class #id key=value}`, `{% a comment %}`, `{=html}`.
static ATTRIBUTES: LazyLock<Regex> =
    LazyLock::new(|| pattern(r#"\{(?:[.#=][^{}\n]*|%[^{}]*%|[A-Za-z-]+="[^{}\n]*)\}"#));

pub(super) fn convert(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut fence: Option<String> = None;
    for line in text.split_inclusive('\n') {
        let trimmed = line.trim_start_matches([' ', '>']).trim_end();
        let ticks: String = trimmed.chars().take_while(|c| matches!(c, '`' | '~')).collect();
        match &fence {
            Some(open) => {
                out.push_str(line);
                if trimmed == open {
                    fence = None;
                }
            }
            None if ticks.len() >= 3 => {
                fence = Some(ticks);
                out.push_str(line);
            }
            None if is_division(trimmed) => out.push_str(&line[line.trim_end().len()..]),
            None => out.push_str(&outside_code(line, without_attributes)),
        }
    }
    out
}

/// A line that opens or closes a division: three colons or more, and perhaps a class.
fn is_division(line: &str) -> bool {
    let rest = line.trim_start_matches(':');
    line.len() - rest.len() >= 3 && !rest.trim().contains(' ')
}

fn without_attributes(text: &str) -> String {
    ATTRIBUTES.replace_all(text, "").into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attributes_and_divisions_go() {
        let text = "{.lead}\nIt's [so]{.kbd}, `{.kept}` *strong*.{% hidden %}\n\n::: note\nInside.\n:::\n\n```c\n::: x {.y}\n```\n";
        assert_eq!(convert(text), "\nIt's [so], `{.kept}` *strong*.\n\n\nInside.\n\n\n```c\n::: x {.y}\n```\n");
    }
}

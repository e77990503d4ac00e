//! MDX: Markdown in which JavaScript stands. Imports and exports, the tags of components and expressions go; what stands
//! between the tags is prose and stays.

use std::ops::Range;

use crate::clean::markdown::code_ranges;

/// No tag or expression within a post is longer; what is, is taken for text.
const MAX_LENGTH: usize = 1024;

pub(super) fn convert(text: &str) -> String {
    let text = without_modules(text);
    let code = code_ranges(&text);
    let mut code = code.iter().peekable();
    let mut out = String::with_capacity(text.len());
    let (mut at, mut kept) = (0, 0);
    let bytes = text.as_bytes();
    while at < bytes.len() {
        while code.next_if(|range| range.end <= at).is_some() {}
        if let Some(inside) = code.peek().filter(|range| range.start <= at) {
            at = inside.end;
            continue;
        }
        let window = &bytes[at..bytes.len().min(at + MAX_LENGTH)];
        let length = match window {
            [b'\\', _, ..] => {
                at += 2;
                continue;
            }
            [b'{', ..] => balanced(window, b'{', b'}'),
            [b'<', b'A'..=b'Z' | b'>', ..] | [b'<', b'/', b'A'..=b'Z' | b'>', ..] => tag(window),
            _ => None,
        };
        match length {
            Some(length) => {
                out.push_str(&text[kept..at]);
                at += length;
                kept = at;
            }
            None => at += 1,
        }
    }
    out.push_str(&text[kept..]);
    out
}

/// Takes out paragraphs that begin with `import` or `export` at the start of a line.
fn without_modules(text: &str) -> String {
    let code = code_ranges(text);
    let is_code = |at: usize| code.iter().any(|range: &Range<usize>| range.contains(&at));
    let mut out = String::with_capacity(text.len());
    let (mut at, mut after_blank, mut in_module) = (0, true, false);
    for line in text.split_inclusive('\n') {
        let is_blank = line.trim().is_empty();
        let begins = after_blank && (line.starts_with("import ") || line.starts_with("export "));
        in_module = !is_blank && (in_module || (begins && !is_code(at)));
        if !in_module {
            out.push_str(line);
        }
        // Modules may follow one another without a blank line; text may not.
        after_blank = is_blank || in_module;
        at += line.len();
    }
    out
}

/// The length of a bracketed expression, strings in it respected.
fn balanced(bytes: &[u8], open: u8, close: u8) -> Option<usize> {
    let (mut depth, mut quote) = (0_usize, None);
    for (at, byte) in bytes.iter().enumerate() {
        match (quote, *byte) {
            (Some(mark), byte) if byte == mark => quote = None,
            (Some(_), b'\n') => quote = None,
            (Some(_), _) => {}
            (None, b'"' | b'`') => quote = Some(*byte),
            (None, byte) if byte == open => depth += 1,
            (None, byte) if byte == close => {
                depth -= 1;
                if depth == 0 {
                    return Some(at + 1);
                }
            }
            (None, _) => {}
        }
    }
    None
}

/// The length of a component's tag, with the expressions in its attributes.
fn tag(bytes: &[u8]) -> Option<usize> {
    let mut at = 1;
    while let Some(byte) = bytes.get(at) {
        match byte {
            b'>' => return Some(at + 1),
            b'{' => at += balanced(&bytes[at..], b'{', b'}')?,
            b'"' => at += 2 + bytes[at + 1..].iter().position(|byte| *byte == b'"')?,
            b'<' => return None,
            _ => at += 1,
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prose_stays_and_scripts_go() {
        let text = "import X from './x'\nimport Y from './y'\n\nexport const meta = {\n  a: 1\n}\n\n# Head\n\nIt's <Note kind=\"a > b\" on={() => 1}>good</Note>, {props.n} times.{/* why */}\n\n<Chart data={[1, {a: 2}]} />\n\nEnd.\n";
        assert_eq!(convert(text), "\n\n# Head\n\nIt's good,  times.\n\n\n\nEnd.\n");
    }

    #[test]
    fn code_and_what_is_no_script_stays() {
        for text in [
            "```js\nimport x from 'y'\n\nexport { a }\n```\n",
            "Use `<Note>` and `{x}`.",
            "a < B and \\{x\\} and {unclosed",
            "It will\nimport goods.",
        ] {
            assert_eq!(convert(text), text);
        }
    }
}

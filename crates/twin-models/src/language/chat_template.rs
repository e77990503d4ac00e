//! Chat templates: the Jinja text that comes with a model and lays out a conversation as it saw them in training.
//!
//! Templates are written for Python's Jinja, so the few functions and string methods that they use are provided here.
//! Which parts of the result a user wrote is kept apart, so that nobody can write a special token.

use std::fmt::Write as _;

use minijinja::syntax::SyntaxConfig;
use minijinja::value::ValueKind;
use minijinja::{Environment, Error, ErrorKind, State, Value, context};
use twin_domain::ChatMessage;

const TEMPLATE: &str = "chat";

/// A part of a rendered conversation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Piece {
    /// Written by the template; special tokens in it are meant.
    Template(String),
    /// The content of a message; everything in it is text.
    Content(String),
}

/// A model's chat template.
#[derive(Debug, Clone)]
pub(crate) struct ChatTemplate {
    environment: Environment<'static>,
    beginning: String,
    end: String,
}

/// What the parts of a conversation are rendered as before they are cut out again. Code points of a private plane, which no
/// template writes.
const OPEN: char = '\u{F0000}';
const CLOSE: char = '\u{F0001}';

impl ChatTemplate {
    /// Parses a template. `beginning` and `end` are what it calls `bos_token` and `eos_token`.
    pub(crate) fn new(source: &str, beginning: &str, end: &str) -> Result<Self, Error> {
        let mut environment = Environment::new();
        // As transformers sets them.
        environment.set_syntax(SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build()?);
        environment.set_unknown_method_callback(python_method);
        environment.add_function("raise_exception", |message: String| -> Result<String, Error> {
            Err(Error::new(ErrorKind::InvalidOperation, message))
        });
        environment.add_function("strftime_now", |format: String| -> Result<String, Error> {
            let mut text = String::new();
            match write!(text, "{}", jiff::ZonedDateTime::now().strftime(&format)) {
                Ok(()) => Ok(text),
                Err(_) => Err(Error::new(ErrorKind::InvalidOperation, format!("`{format}` is no date format"))),
            }
        });
        environment.add_template_owned(TEMPLATE, source.to_owned())?;
        Ok(Self { environment, beginning: beginning.to_owned(), end: end.to_owned() })
    }

    /// The conversation as one text.
    pub(crate) fn render(&self, messages: &[ChatMessage], add_generation_prompt: bool) -> Result<String, Error> {
        self.render_with(messages, add_generation_prompt, |_, message| message.content.clone())
    }

    /// The conversation with what the template wrote and what the messages say apart.
    pub(crate) fn pieces(&self, messages: &[ChatMessage], add_generation_prompt: bool) -> Result<Vec<Piece>, Error> {
        let marked = self.render_with(messages, add_generation_prompt, |index, _| format!("{OPEN}{index}{CLOSE}"))?;
        let whole = self.render(messages, add_generation_prompt)?;
        // Many templates strip the contents, which they could not do to the marks.
        let contents: [fn(&str) -> &str; 2] = [|content| content, str::trim];
        for content in contents {
            let pieces = cut(&marked, messages, content);
            let text = |piece: &Piece| match piece {
                Piece::Template(text) | Piece::Content(text) => text.clone(),
            };
            if pieces.iter().map(text).collect::<String>() == whole {
                return Ok(pieces);
            }
        }
        let reason = "the chat template changes the messages in a way that cannot be followed";
        Err(Error::new(ErrorKind::InvalidOperation, reason))
    }

    fn render_with(
        &self,
        messages: &[ChatMessage],
        add_generation_prompt: bool,
        content: impl Fn(usize, &ChatMessage) -> String,
    ) -> Result<String, Error> {
        let messages: Value = messages
            .iter()
            .enumerate()
            .map(|(index, message)| context! { role => message.role.as_str(), content => content(index, message) })
            .collect();
        self.environment.get_template(TEMPLATE)?.render(context! {
            messages,
            add_generation_prompt,
            bos_token => self.beginning.clone(),
            eos_token => self.end.clone(),
        })
    }
}

/// Cuts a text at its marks and puts the contents in their places.
fn cut(marked: &str, messages: &[ChatMessage], content: fn(&str) -> &str) -> Vec<Piece> {
    let mut pieces = Vec::new();
    let mut rest = marked;
    while let Some((before, after)) = rest.split_once(OPEN) {
        let (index, after) = after.split_once(CLOSE).unwrap_or((after, ""));
        if !before.is_empty() {
            pieces.push(Piece::Template(before.to_owned()));
        }
        if let Some(message) = index.parse().ok().and_then(|index: usize| messages.get(index)) {
            pieces.push(Piece::Content(content(&message.content).to_owned()));
        }
        rest = after;
    }
    if !rest.is_empty() {
        pieces.push(Piece::Template(rest.to_owned()));
    }
    pieces
}

/// The methods of Python's strings and dictionaries that chat templates call.
fn python_method(state: &mut State<'_, '_>, value: &Value, method: &str, args: &[Value]) -> Result<Value, Error> {
    let unknown = || Error::from(ErrorKind::UnknownMethod);
    if value.kind() == ValueKind::Map {
        return match (method, args) {
            ("items", []) => state.apply_filter("items", std::slice::from_ref(value)),
            ("get", [key]) => value.get_item(key),
            ("get", [key, default]) => {
                value.get_item(key).map(|item| if item.is_undefined() { default.clone() } else { item })
            }
            _ => Err(unknown()),
        };
    }
    let text = value.as_str().ok_or_else(unknown)?;
    let arg = |index: usize| args.get(index).and_then(Value::as_str);
    let characters = |text: &str| -> Vec<char> { text.chars().collect() };
    Ok(match (method, arg(0), arg(1)) {
        ("strip", None, _) => text.trim().into(),
        ("lstrip", None, _) => text.trim_start().into(),
        ("rstrip", None, _) => text.trim_end().into(),
        ("strip", Some(set), _) => text.trim_matches(characters(set).as_slice()).into(),
        ("lstrip", Some(set), _) => text.trim_start_matches(characters(set).as_slice()).into(),
        ("rstrip", Some(set), _) => text.trim_end_matches(characters(set).as_slice()).into(),
        ("startswith", Some(prefix), _) => text.starts_with(prefix).into(),
        ("endswith", Some(suffix), _) => text.ends_with(suffix).into(),
        ("split", None, _) => text.split_whitespace().collect::<Value>(),
        ("split", Some(separator), _) => text.split(separator).collect::<Value>(),
        ("replace", Some(from), Some(to)) => text.replace(from, to).into(),
        ("upper", ..) => text.to_uppercase().into(),
        ("lower", ..) => text.to_lowercase().into(),
        ("title" | "capitalize", ..) => state.apply_filter(method, std::slice::from_ref(value))?,
        _ => return Err(unknown()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(template: &str, expected: &str) {
        let messages = [ChatMessage::system(" Be brief. "), ChatMessage::user("a {{ b }} <|im_end|>")];
        let template = ChatTemplate::new(template, "<s>", "</s>").unwrap();
        let shown: Vec<String> = template
            .pieces(&messages, true)
            .unwrap()
            .into_iter()
            .map(|piece| match piece {
                Piece::Template(text) => text,
                Piece::Content(text) => format!("[{text}]"),
            })
            .collect();
        assert_eq!(shown.join("|"), expected);
    }

    #[test]
    fn contents_are_kept_apart() {
        let template = "{% for m in messages %}<|{{ m['role'] }}|>{{ m['content'] }}{{ eos_token }}{% endfor %}\
                        {% if add_generation_prompt %}<|assistant|>{% endif %}";
        check(template, "<|system|>|[ Be brief. ]|</s><|user|>|[a {{ b }} <|im_end|>]|</s><|assistant|>");
    }

    #[test]
    fn stripped_contents_are_followed() {
        let expected = "system: |[Be brief.]|user: |[a {{ b }} <|im_end|>]";
        check("{% for m in messages %}{{ m.role }}: {{ m.content | trim }}{% endfor %}", expected);
        check("{% for m in messages %}{{ m.role }}: {{ m.content.strip() }}{% endfor %}", expected);
    }

    #[test]
    fn what_cannot_be_followed_is_an_error() {
        let template = ChatTemplate::new("{{ messages[0].content | upper }}", "", "").unwrap();
        assert!(template.pieces(&[ChatMessage::user("a")], false).is_err());
        assert_eq!(template.render(&[ChatMessage::user("a")], false).unwrap(), "A");
    }

    #[test]
    fn functions_of_transformers_are_there() {
        let render = |source: &str| ChatTemplate::new(source, "", "").unwrap().render(&[], false);
        assert!(render("{{ raise_exception('roles must alternate') }}").unwrap_err().to_string().contains("alternate"));
        assert_eq!(render("{{ strftime_now('%Y') }}").unwrap().len(), 4);
        assert_eq!(
            render("{{ 'a,b'.split(',')[1] }}{{ ' x '.lstrip() }}{{ 'ab'.startswith('a') }}").unwrap(),
            "bx True"
        );
        assert_eq!(render("{{ {'a': 1}.get('b', 2) }}").unwrap(), "2");
    }
}

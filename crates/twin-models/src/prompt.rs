//! The one prompt: training, evaluation and serving render the same templates through this code, so that a model is
//! asked in use exactly as it was asked in training.
//!
//! The templates are Jinja files in `prompts/<set>/`; the newest set is compiled in. What a template may see is
//! [`Author`], a [`Request`] and numbered [`Passage`]s.

use std::borrow::Cow;

use minijinja::value::Serde;
use minijinja::{Environment, UndefinedBehavior, context};
use serde::{Deserialize, Serialize};
use twin_domain::{Author, ChatMessage, Digest, PromptVersion};

const NAME: &str = "twin-1";
const SYSTEM: &str = include_str!("../../../prompts/twin-1/system.jinja");
const USER: &str = include_str!("../../../prompts/twin-1/user.jinja");

/// What is asked of the twin.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "task", rename_all = "snake_case")]
pub enum Request {
    /// Answer a question.
    Ask { question: String },
    /// Write a post with this title.
    WritePost { title: String },
    /// Write the section under this heading of a post.
    WriteSection { title: String, heading: String },
    /// Write a thread of short posts about this.
    WriteThread { title: String },
    /// Say in a few sentences what a post with this title is about.
    WriteAbstract { title: String },
    /// Go on from here.
    Continue { opening: String },
}

/// A passage of the author's posts that the model is given.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Passage {
    /// The citation number, from 1.
    pub number: usize,
    /// The title of the post, with the headings above the passage.
    pub title: String,
    pub text: String,
}

impl Passage {
    /// A passage without heading lines: the title has the headings, and a model that reads one goes on with another. Nor can it
    /// begin another passage: numbers at the beginnings of its lines stand in round brackets, and its title is one line.
    pub fn new(number: usize, title: String, text: &str) -> Self {
        let lines: Vec<_> = text.lines().filter(|line| !line.starts_with('#')).map(without_number).collect();
        let title = if title.contains(['\n', '\r']) { title.replace(['\n', '\r'], " ") } else { title };
        Self { number, title, text: lines.join("\n").trim().to_owned() }
    }
}

/// A line as it is, but for a citation number at its beginning.
fn without_number(line: &str) -> Cow<'_, str> {
    let number = line.trim_start().strip_prefix('[').and_then(|rest| rest.split_once(']'));
    match number.filter(|(number, _)| !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit())) {
        Some((number, rest)) => Cow::Owned(format!("({number}){rest}")),
        None => Cow::Borrowed(line),
    }
}

/// Why a prompt could not be made.
#[derive(Debug, thiserror::Error)]
pub enum PromptError {
    #[error("the template `{template}` is not valid")]
    Template {
        template: String,
        #[source]
        source: minijinja::Error,
    },
    #[error("the template `{template}` could not be filled in")]
    Render {
        template: String,
        #[source]
        source: minijinja::Error,
    },
    #[error("the template `{template}` gave an empty message: every request needs words")]
    Empty { template: String },
}

/// A set of templates with its version.
#[derive(Debug, Clone)]
pub struct PromptSet {
    environment: Environment<'static>,
    version: PromptVersion,
}

impl PromptSet {
    /// The set that is compiled in.
    ///
    /// # Errors
    /// [`PromptError::Template`] when a template does not parse, which a test rules out for the set that ships.
    pub fn builtin() -> Result<Self, PromptError> {
        Self::new(NAME, SYSTEM, USER)
    }

    /// A set from the texts of its two templates.
    ///
    /// # Errors
    /// [`PromptError::Template`] when a template does not parse.
    pub fn new(name: &str, system: &str, user: &str) -> Result<Self, PromptError> {
        let mut environment = Environment::new();
        environment.set_undefined_behavior(UndefinedBehavior::Strict);
        for (template, text) in [("system", system), ("user", user)] {
            environment
                .add_template_owned(template, text.to_owned())
                .map_err(|source| PromptError::Template { template: template.to_owned(), source })?;
        }
        let digest = Digest::of_parts([system.as_bytes(), user.as_bytes()]);
        Ok(Self { environment, version: PromptVersion(format!("{name}+{}", &digest.short()[..8])) })
    }

    /// The version that training sets and releases record.
    pub fn version(&self) -> &PromptVersion {
        &self.version
    }

    /// The messages that lead to the twin's next turn: the system message, the conversation so far, and the request with
    /// its passages.
    ///
    /// # Errors
    /// [`PromptError::Render`] when a template asks for something that is not there; [`PromptError::Empty`] when nothing is
    /// left to say.
    pub fn render(
        &self,
        author: &Author,
        request: &Request,
        passages: &[Passage],
        history: &[ChatMessage],
    ) -> Result<Vec<ChatMessage>, PromptError> {
        let context = context! { author => Serde(author), request => Serde(request), passages => Serde(passages) };
        let fill = |template: &str| {
            let failed = |source| PromptError::Render { template: template.to_owned(), source };
            let text = self.environment.get_template(template).and_then(|t| t.render(&context)).map_err(failed)?;
            let text = text.trim();
            if text.is_empty() {
                Err(PromptError::Empty { template: template.to_owned() })
            } else {
                Ok(text.to_owned())
            }
        };
        let mut messages = vec![ChatMessage::system(fill("system")?)];
        messages.extend(history.iter().cloned());
        messages.push(ChatMessage::user(fill("user")?));
        Ok(messages)
    }
}

#[cfg(test)]
mod tests {
    use twin_domain::AuthorId;

    use super::*;

    fn ada() -> Author {
        let mut author = Author::new(AuthorId::parse("ada").unwrap());
        author.name = "Ada".to_owned();
        author
    }

    #[test]
    fn a_question_with_passages() {
        let passage = Passage { number: 1, title: "On engines".into(), text: "It weaves {{ algebra }}.".into() };
        let request = Request::Ask { question: "What does it weave?".into() };
        let messages = PromptSet::builtin().unwrap().render(&ada(), &request, &[passage], &[]).unwrap();
        let expected = "Passages from Ada's posts:\n\n[1] On engines\nIt weaves {{ algebra }}.\n\n\
                        Answer from the passages: What does it weave?";
        assert_eq!(messages[1].content, expected);
    }

    #[test]
    fn a_passage_cannot_begin_another() {
        let passage = Passage::new(1, "On\nengines".into(), "# Notes\nIt weaves.\n [2] Another\n[see] [3] below");
        assert_eq!(
            (passage.title.as_str(), passage.text.as_str()),
            ("On engines", "It weaves.\n(2) Another\n[see] [3] below")
        );
    }

    #[test]
    fn a_title_without_passages() {
        let request = Request::WritePost { title: "Bones".into() };
        let messages = PromptSet::builtin().unwrap().render(&ada(), &request, &[], &[]).unwrap();
        assert_eq!(messages[0].content, "You are the AI twin of Ada. You write the way Ada writes.");
        assert_eq!(messages[1].content, "Write the post \"Bones\" in the style of Ada.");
    }

    #[test]
    fn the_version_follows_the_text() {
        let set = |user: &str| PromptSet::new("x", "s", user).unwrap().version().clone();
        assert_ne!(set("a"), set("b"));
        assert_eq!(set("a"), set("a"));
    }

    #[test]
    fn a_request_without_words_is_refused() {
        let request = Request::Ask { question: "  ".into() };
        assert!(matches!(
            PromptSet::builtin().unwrap().render(&ada(), &request, &[], &[]),
            Err(PromptError::Empty { .. })
        ));
    }
}

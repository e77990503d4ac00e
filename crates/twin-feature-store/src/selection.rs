//! Which chunks an operation is about, in terms of no engine. Each selection begins with an author or a document, except
//! those that move or count whole collections: no query sees all authors.

use jiff::civil::Date;
use twin_domain::{AuthorId, Digest, DocumentId, Filter};

use crate::payload::field;

/// All conditions of `must` and none of `must_not` hold.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Selection {
    pub must: Vec<Condition>,
    pub must_not: Vec<Condition>,
}

/// What a payload must have.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Condition {
    /// The field is, or has among its values, one of these.
    AnyOf(&'static str, Vec<String>),
    /// The document's date is known and lies between these days, both included.
    Days { from: Option<Date>, to: Option<Date> },
}

/// All chunks of an author.
pub(crate) fn author(author: &AuthorId) -> Selection {
    Selection { must: vec![is(field::AUTHOR, author.as_str())], must_not: Vec::new() }
}

/// All chunks of a document, of every version of it.
pub(crate) fn document(document: DocumentId) -> Selection {
    Selection { must: vec![is(field::DOCUMENT, &document.to_string())], must_not: Vec::new() }
}

/// The chunks of a document except those with this content hash.
pub(crate) fn stale(id: DocumentId, keep: Option<&Digest>) -> Selection {
    let must_not = keep.map(|hash| is(field::CONTENT_HASH, hash.as_str())).into_iter().collect();
    Selection { must_not, ..document(id) }
}

/// The chunks of an author that a filter admits; what [`Filter::admits`] says.
pub(crate) fn admitted(of: &AuthorId, filter: &Filter) -> Selection {
    let mut selection = author(of);
    if filter.from.is_some() || filter.to.is_some() {
        // Stored dates begin at the year 1; earlier ones have a form that the engine cannot read.
        let day = |date: Date| date.max(jiff::civil::date(1, 1, 1));
        selection.must.push(Condition::Days { from: filter.from.map(day), to: filter.to.map(day) });
    }
    let kinds: Vec<String> = filter.kinds.iter().map(|kind| kind.as_str().to_owned()).collect();
    for (field, values) in [(field::TAGS, &filter.tags), (field::KIND, &kinds), (field::LANGUAGE, &filter.languages)] {
        if !values.is_empty() {
            selection.must.push(Condition::AnyOf(field, values.clone()));
        }
    }
    let without: Vec<String> = filter.without.iter().map(ToString::to_string).collect();
    if !without.is_empty() {
        selection.must_not.push(Condition::AnyOf(field::DOCUMENT, without));
    }
    selection
}

fn is(field: &'static str, value: &str) -> Condition {
    Condition::AnyOf(field, vec![value.to_owned()])
}

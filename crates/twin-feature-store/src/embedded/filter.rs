//! Filters in the engine's terms. Each begins with an author or a document: no query sees all authors.

use jiff::civil::Date;
use qdrant_edge::{Condition, DateTimeWrapper, FieldCondition, Filter as EngineFilter, JsonPath, Match, Range};
use twin_domain::{AuthorId, Digest, DocumentId, Filter};

use super::payload::field;

/// All chunks of an author.
pub(super) fn author(author: &AuthorId) -> EngineFilter {
    EngineFilter::new_must(is(field::AUTHOR, author.as_str()))
}

/// All chunks of a document, of every version of it.
pub(super) fn document(document: DocumentId) -> EngineFilter {
    EngineFilter::new_must(is(field::DOCUMENT, &document.to_string()))
}

/// The chunks of a document except those with this content hash.
pub(super) fn stale(id: DocumentId, keep: Option<&Digest>) -> EngineFilter {
    let mut filter = document(id);
    filter.must_not = keep.map(|hash| vec![is(field::CONTENT_HASH, hash.as_str())]);
    filter
}

/// The chunks of an author that a filter admits; what [`Filter::admits`] says, in the engine's terms.
pub(super) fn admitted(of: &AuthorId, filter: &Filter) -> EngineFilter {
    let mut must = vec![is(field::AUTHOR, of.as_str())];
    if filter.from.is_some() || filter.to.is_some() {
        // Stored dates begin at the year 1; earlier ones have a form that the engine cannot read.
        let day = |date: Date| date.max(jiff::civil::date(1, 1, 1)).to_string().parse::<DateTimeWrapper>().ok();
        let range = Range { gte: filter.from.and_then(day), lte: filter.to.and_then(day), lt: None, gt: None };
        must.push(Condition::Field(FieldCondition::new_datetime_range(key(field::DATE), range)));
    }
    if !filter.tags.is_empty() {
        must.push(any(field::TAGS, filter.tags.clone()));
    }
    if !filter.kinds.is_empty() {
        must.push(any(field::KIND, filter.kinds.iter().map(|kind| kind.as_str().to_owned()).collect()));
    }
    let without: Vec<String> = filter.without.iter().map(ToString::to_string).collect();
    let must_not = (!without.is_empty()).then(|| vec![any(field::DOCUMENT, without)]);
    EngineFilter { must: Some(must), must_not, ..EngineFilter::new() }
}

/// A payload field as the engine addresses it.
pub(super) fn key(field: &str) -> JsonPath {
    field.parse().expect("the names of our payload fields are plain words, which are JSON paths")
}

fn is(field: &str, value: &str) -> Condition {
    Condition::Field(FieldCondition::new_match(key(field), Match::from(value.to_owned())))
}

fn any(field: &str, values: Vec<String>) -> Condition {
    Condition::Field(FieldCondition::new_match(key(field), Match::from(values)))
}

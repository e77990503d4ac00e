//! Selections in the engine's terms.

use jiff::civil::Date;
use qdrant_edge::{DateTimeWrapper, FieldCondition, Filter, JsonPath, Match, Range};

use crate::payload::field;
use crate::selection::{Condition, Selection};

/// A selection as the engine has it.
pub(super) fn engine_filter(selection: &Selection) -> Filter {
    let conditions = |of: &[Condition]| (!of.is_empty()).then(|| of.iter().map(condition).collect());
    Filter { must: conditions(&selection.must), must_not: conditions(&selection.must_not), ..Filter::new() }
}

/// A payload field as the engine addresses it.
pub(super) fn key(field: &str) -> JsonPath {
    field.parse().expect("the names of our payload fields are plain words, which are JSON paths")
}

fn condition(condition: &Condition) -> qdrant_edge::Condition {
    qdrant_edge::Condition::Field(match condition {
        Condition::AnyOf(field, values) => match values.as_slice() {
            [value] => FieldCondition::new_match(key(field), Match::from(value.clone())),
            values => FieldCondition::new_match(key(field), Match::from(values.to_vec())),
        },
        Condition::Days { from, to } => {
            let day = |date: Date| date.to_string().parse::<DateTimeWrapper>().ok();
            let range = Range { gte: from.and_then(day), lte: to.and_then(day), lt: None, gt: None };
            FieldCondition::new_datetime_range(key(field::DATE), range)
        }
    })
}

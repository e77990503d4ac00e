//! Threads: posts that an author wrote as replies to themselves are one text.

use std::collections::{BTreeMap, HashMap};

/// A short post as its network exports it.
#[derive(Debug, Clone)]
pub(crate) struct Post {
    pub(crate) id: String,
    /// The post that it answers, by whomever.
    pub(crate) answers: Option<String>,
    /// When it was written, in a form that sorts.
    pub(crate) order: String,
    pub(crate) body: String,
}

/// Groups posts by the first of their thread: each group in the order of writing, the groups by that of their first
/// posts. A reply to somebody else begins a group of its own.
pub(crate) fn grouped(posts: Vec<Post>) -> Vec<Vec<Post>> {
    let answers: HashMap<String, Option<String>> =
        posts.iter().map(|post| (post.id.clone(), post.answers.clone())).collect();
    let mut groups: BTreeMap<(String, String), Vec<Post>> = BTreeMap::new();
    let orders: HashMap<String, String> = posts.iter().map(|post| (post.id.clone(), post.order.clone())).collect();
    for post in posts {
        let root = root(&post.id, &answers);
        groups.entry((orders.get(&root).cloned().unwrap_or_default(), root)).or_default().push(post);
    }
    let sorted = |mut group: Vec<Post>| {
        group.sort_by(|a, b| (&a.order, &a.id).cmp(&(&b.order, &b.id)));
        group
    };
    groups.into_values().map(sorted).collect()
}

fn root(id: &str, answers: &HashMap<String, Option<String>>) -> String {
    let mut root = id;
    // An export may be wrong; a circle of replies ends somewhere.
    for _ in 0..answers.len() {
        match answers.get(root) {
            Some(Some(parent)) if answers.contains_key(parent) => root = parent,
            _ => break,
        }
    }
    root.to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn post(id: &str, answers: &str) -> Post {
        let answers = Some(answers.to_owned()).filter(|parent| !parent.is_empty());
        Post { id: id.to_owned(), answers, order: id.to_owned(), body: String::new() }
    }

    fn check(posts: &[(&str, &str)], expected: &[&[&str]]) {
        let groups = grouped(posts.iter().map(|(id, answers)| post(id, answers)).collect());
        let ids: Vec<Vec<&str>> =
            groups.iter().map(|group| group.iter().map(|post| post.id.as_str()).collect()).collect();
        assert_eq!(ids, expected);
    }

    #[test]
    fn replies_to_oneself_are_one_thread() {
        check(&[("3", "2"), ("1", ""), ("2", "1"), ("4", "9")], &[&["1", "2", "3"], &["4"]]);
    }

    #[test]
    fn a_circle_ends() {
        let groups = grouped(vec![post("1", "2"), post("2", "1")]);
        assert_eq!(groups.iter().map(Vec::len).sum::<usize>(), 2);
    }
}

//! Bluesky: the repository of an account as a CAR file (atproto.com/specs/repository), or its records as JSON. Likes,
//! follows, blocks and reposts are other records beside the posts.

use std::collections::{HashMap, HashSet};
use std::ops::Range;

use ciborium::Value as Cbor;
use serde_json::{Map, Value};

use super::json_posts::{parsed, text};
use super::{Each, Export, MAX_FILE_BYTES};
use crate::source::service::bluesky::Records;

/// The collection of posts; their records are of the type of the same name.
pub(super) const POSTS: &str = "app.bsky.feed.post";
/// A tree of a million records is twenty deep.
const MAX_DEPTH: usize = 64;

/// Whether a file begins like a CAR: its header names its roots and a version.
pub(super) fn is_car(start: &str) -> bool {
    let header: String = start.chars().take(200).collect();
    header.contains("eroots") && header.contains("gversion")
}

pub(super) fn posts(export: &mut Export, each: &mut Each<'_>) -> Result<(), String> {
    let mut records = Records::default();
    for name in export.archive.matching(|name| name.ends_with(".car") || name.ends_with(".json")) {
        if name.ends_with(".json") {
            of_json(&parsed(export, &name)?, &mut records);
        } else {
            let bytes = export.archive.read(&name, MAX_FILE_BYTES).map_err(|problem| format!("`{name}`: {problem}"))?;
            of_car(&bytes, &mut records).map_err(|problem| format!("`{name}`: {problem}"))?;
        }
    }
    for post in records.finish() {
        if !each(post) {
            break;
        }
    }
    Ok(())
}

/// Records as `com.atproto.repo.listRecords` lists them, or a feed as the API gives it.
fn of_json(document: &Value, records: &mut Records) {
    let lists = ["records", "posts", "feed"].iter().filter_map(|key| document.get(*key)?.as_array());
    let items = document.as_array().into_iter().chain(lists).flatten();
    for item in items {
        let item = item.get("post").unwrap_or(item);
        let record = item.get("value").or(item.get("record"));
        let (Some(uri), Some(record)) = (text(item, &["uri"]), record) else { continue };
        if text(record, &["$type"]) == Some(POSTS) {
            records.add(uri, record, text(item, &["author", "handle"]));
        }
    }
}

fn of_car(bytes: &[u8], records: &mut Records) -> Result<(), String> {
    let car = Car::open(bytes)?;
    let commit = car.block(&car.root).ok_or("its root is not in it")?;
    let did = match field(&commit, "did") {
        Some(Cbor::Text(did)) => did.clone(),
        _ => return Err("its root is no commit of an account".to_owned()),
    };
    let tree = field(&commit, "data").and_then(link).ok_or("its commit has no records")?;
    let mut seen = HashSet::new();
    car.walk(&tree, 0, &mut seen, &mut |key, record| {
        if key.starts_with(POSTS) && key.as_bytes().get(POSTS.len()) == Some(&b'/') {
            records.add(&format!("at://{did}/{key}"), &json(record), None);
        }
    });
    Ok(())
}

/// A content-addressed archive (ipld.io/specs/transport/car/carv1): blocks by the identifiers of their content.
struct Car<'a> {
    bytes: &'a [u8],
    root: Vec<u8>,
    blocks: HashMap<&'a [u8], Range<usize>>,
}

impl<'a> Car<'a> {
    fn open(bytes: &'a [u8]) -> Result<Self, String> {
        let broken = || "it breaks off".to_owned();
        let (length, mut at) = varint(bytes, 0).ok_or_else(broken)?;
        let header = bytes.get(at..at.saturating_add(length)).ok_or_else(broken)?;
        let header = decoded(header).ok_or("it is no CAR file: its header cannot be read")?;
        let root = match field(&header, "roots") {
            Some(Cbor::Array(roots)) => roots.first().and_then(link),
            _ => None,
        };
        let root = root.ok_or("it is no CAR file: its header names no root")?;
        at += length;
        let mut blocks = HashMap::new();
        while at < bytes.len() {
            let (length, start) = varint(bytes, at).ok_or_else(broken)?;
            let end = start.checked_add(length).filter(|end| *end <= bytes.len()).ok_or_else(broken)?;
            let id = identifier(&bytes[start..end]).ok_or("a block of it has no identifier")?;
            blocks.insert(&bytes[start..start + id], start + id..end);
            at = end;
        }
        Ok(Self { bytes, root, blocks })
    }

    fn block(&self, id: &[u8]) -> Option<Cbor> {
        decoded(&self.bytes[self.blocks.get(id)?.clone()])
    }

    /// Hands every record of a tree (atproto.com/specs/repository, "MST Structure") to `each`, in the order of their keys.
    fn walk(&self, node: &[u8], depth: usize, seen: &mut HashSet<Vec<u8>>, each: &mut dyn FnMut(&str, &Cbor)) {
        if depth > MAX_DEPTH || !seen.insert(node.to_owned()) {
            return;
        }
        let Some(block) = self.block(node) else { return };
        if let Some(left) = field(&block, "l").and_then(link) {
            self.walk(&left, depth + 1, seen, each);
        }
        let Some(Cbor::Array(entries)) = field(&block, "e") else { return };
        let mut key: Vec<u8> = Vec::new();
        for entry in entries {
            // A key shares its beginning with the one before it.
            let shared = match field(entry, "p") {
                Some(Cbor::Integer(shared)) => usize::try_from(i128::from(*shared)).unwrap_or(0),
                _ => 0,
            };
            key.truncate(shared);
            if let Some(Cbor::Bytes(rest)) = field(entry, "k") {
                key.extend_from_slice(rest);
            }
            let record = field(entry, "v").and_then(link).and_then(|id| self.block(&id));
            if let (Ok(key), Some(record)) = (std::str::from_utf8(&key), record) {
                each(key, &record);
            }
            if let Some(right) = field(entry, "t").and_then(link) {
                self.walk(&right, depth + 1, seen, each);
            }
        }
    }
}

fn decoded(bytes: &[u8]) -> Option<Cbor> {
    // Nesting is limited by the reader itself.
    ciborium::from_reader(bytes).ok()
}

/// A number of seven bits a byte, least significant first, and where it ends.
fn varint(bytes: &[u8], at: usize) -> Option<(usize, usize)> {
    let mut value = 0_u64;
    for (index, byte) in bytes.get(at..)?.iter().take(9).enumerate() {
        value |= u64::from(byte & 0x7f) << (7 * index);
        if byte & 0x80 == 0 {
            return Some((usize::try_from(value).ok()?, at + index + 1));
        }
    }
    None
}

/// The length of the content identifier that a block begins with.
fn identifier(block: &[u8]) -> Option<usize> {
    if block.starts_with(&[0x12, 0x20]) {
        return (block.len() >= 34).then_some(34);
    }
    let (_, at) = varint(block, 0)?;
    let (_, at) = varint(block, at)?;
    let (_, at) = varint(block, at)?;
    let (length, at) = varint(block, at)?;
    at.checked_add(length).filter(|end| *end <= block.len())
}

fn field<'v>(value: &'v Cbor, name: &str) -> Option<&'v Cbor> {
    let Cbor::Map(fields) = value else { return None };
    fields.iter().find(|(key, _)| matches!(key, Cbor::Text(key) if key == name)).map(|(_, value)| value)
}

/// A link is the identifier with a zero before it, tagged 42.
fn link(value: &Cbor) -> Option<Vec<u8>> {
    match value {
        Cbor::Tag(42, inner) => match inner.as_ref() {
            Cbor::Bytes(bytes) => bytes.strip_prefix(&[0]).map(<[u8]>::to_owned),
            _ => None,
        },
        _ => None,
    }
}

/// What of a record can be said in JSON.
fn json(value: &Cbor) -> Value {
    match value {
        Cbor::Text(text) => Value::String(text.clone()),
        Cbor::Bool(flag) => Value::Bool(*flag),
        Cbor::Integer(number) => i64::try_from(i128::from(*number)).map_or(Value::Null, Value::from),
        Cbor::Array(values) => Value::Array(values.iter().map(json).collect()),
        Cbor::Map(fields) => {
            let field = |(key, value): &(Cbor, Cbor)| match key {
                Cbor::Text(key) => Some((key.clone(), json(value))),
                _ => None,
            };
            Value::Object(fields.iter().filter_map(field).collect::<Map<_, _>>())
        }
        _ => Value::Null,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A block's identifier for a test: a made-up digest.
    fn id(n: u8) -> Vec<u8> {
        [&[1, 0x71, 0x12, 0x20][..], &[n; 32]].concat()
    }

    fn cid(n: u8) -> Cbor {
        Cbor::Tag(42, Box::new(Cbor::Bytes([&[0][..], &id(n)].concat())))
    }

    fn map(fields: &[(&str, Cbor)]) -> Cbor {
        Cbor::Map(fields.iter().map(|(key, value)| (Cbor::Text((*key).to_owned()), value.clone())).collect())
    }

    fn record(text: &str, parent: Option<&str>) -> Cbor {
        let uri = |uri: &str| map(&[("uri", Cbor::Text(uri.to_owned()))]);
        let mut fields =
            vec![("text", Cbor::Text(text.to_owned())), ("createdAt", Cbor::Text("2024-05-06T07:08:09Z".to_owned()))];
        fields.extend(parent.map(|parent| ("reply", map(&[("parent", uri(parent)), ("root", uri(parent))]))));
        map(&fields)
    }

    fn section(bytes: &[u8]) -> Vec<u8> {
        let mut length = bytes.len();
        let mut out = Vec::new();
        while length >= 0x80 {
            out.push((length & 0x7f) as u8 | 0x80);
            length >>= 7;
        }
        out.push(length as u8);
        [out, bytes.to_owned()].concat()
    }

    fn encoded(value: &Cbor) -> Vec<u8> {
        let mut bytes = Vec::new();
        ciborium::into_writer(value, &mut bytes).unwrap();
        bytes
    }

    fn car(blocks: &[(u8, Cbor)]) -> Vec<u8> {
        let header = map(&[("roots", Cbor::Array(vec![cid(0)])), ("version", Cbor::Integer(1.into()))]);
        let blocks = blocks.iter().map(|(n, block)| section(&[id(*n), encoded(block)].concat()));
        std::iter::once(section(&encoded(&header))).chain(blocks).collect::<Vec<_>>().concat()
    }

    fn entry(shared: i64, key: &str, value: u8, right: Option<u8>) -> Cbor {
        let right = right.map_or(Cbor::Null, cid);
        map(&[
            ("p", Cbor::Integer(shared.into())),
            ("k", Cbor::Bytes(key.as_bytes().to_owned())),
            ("v", cid(value)),
            ("t", right),
        ])
    }

    fn found(bytes: &[u8]) -> Result<Vec<(String, String)>, String> {
        let mut records = Records::default();
        of_car(bytes, &mut records)?;
        Ok(records.finish().into_iter().flatten().map(|page| (page.url, page.body)).collect())
    }

    #[test]
    fn posts_are_found_in_the_tree_and_likes_are_not() {
        let like = map(&[("subject", Cbor::Text("private".to_owned()))]);
        let bytes = car(&[
            (0, map(&[("did", Cbor::Text("did:plc:ada".to_owned())), ("data", cid(1))])),
            (
                1,
                map(&[
                    ("l", cid(2)),
                    ("e", Cbor::Array(vec![entry(0, "app.bsky.feed.post/3b", 5, None), entry(20, "c", 6, None)])),
                ]),
            ),
            (2, map(&[("l", Cbor::Null), ("e", Cbor::Array(vec![entry(0, "app.bsky.feed.like/3a", 4, None)]))])),
            (4, like),
            (5, record("It's one.", None)),
            (6, record("And two.", Some("at://did:plc:ada/app.bsky.feed.post/3b"))),
        ]);
        assert!(is_car(&String::from_utf8_lossy(&bytes)));
        let expected =
            [("https://bsky.app/profile/did:plc:ada/post/3b".to_owned(), "It's one.\n\nAnd two.".to_owned())];
        assert_eq!(found(&bytes).unwrap(), expected);
        assert!(found(&bytes[..bytes.len() - 3]).unwrap_err().contains("breaks off"));
        assert!(found(b"\x05abcde").is_err() && found(b"").is_err());
    }

    #[test]
    fn a_tree_that_leads_to_itself_ends() {
        let bytes = car(&[
            (0, map(&[("did", Cbor::Text("did:plc:ada".to_owned())), ("data", cid(1))])),
            (1, map(&[("l", cid(1)), ("e", Cbor::Array(vec![entry(9, "app.bsky.feed.post/x", 1, Some(1))]))])),
        ]);
        assert!(found(&bytes).unwrap().is_empty());
    }

    #[test]
    fn records_as_json_are_read() {
        let document = serde_json::json!({"records": [
            {"uri": "at://did:plc:ada/app.bsky.feed.post/1", "value": {"$type": POSTS, "text": "Hello.", "createdAt": "2024-01-02T00:00:00Z"}},
            {"uri": "at://did:plc:ada/app.bsky.feed.like/2", "value": {"$type": "app.bsky.feed.like"}},
        ]});
        let mut records = Records::default();
        of_json(&document, &mut records);
        assert_eq!(records.finish().len(), 1);
    }

    proptest::proptest! {
        #[test]
        fn no_bytes_are_a_reason_to_panic(bytes in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..200)) {
            let _ = found(&bytes);
        }
    }
}

//! From bytes to text: byte order marks, declared and guessed encodings, and the refusal of what is no text.

use encoding_rs::{Encoding, UTF_8, UTF_16BE, UTF_16LE, WINDOWS_1252};

use super::Rejection;

/// How many bytes of a page are searched for a declaration of its encoding (HTML standard, 13.2.3.2, has 1024).
const DECLARATION_BYTES: usize = 1024;

/// Reads a file. UTF-8 or what its byte order mark says; otherwise, if it is text at all, Windows-1252, which every old
/// Western text can be read as.
///
/// # Errors
/// [`Rejection::NotText`] for binary files.
pub(crate) fn decode_file(bytes: &[u8]) -> Result<String, Rejection> {
    let text = match Encoding::for_bom(bytes) {
        Some((encoding, _)) => encoding.decode(bytes).0.into_owned(),
        None => match std::str::from_utf8(bytes) {
            Ok(text) => text.to_owned(),
            Err(_) if bytes.contains(&0) => return Err(not_text("it has zero bytes".to_owned())),
            Err(_) => WINDOWS_1252.decode(bytes).0.into_owned(),
        },
    };
    checked(text)
}

/// Reads an export: what of it is no text in its encoding is replaced, as one bad byte must not cost thousands of posts.
pub(crate) fn decode_lossy(bytes: &[u8]) -> String {
    let encoding = Encoding::for_bom(bytes).map_or(UTF_8, |(encoding, _)| encoding);
    let text = encoding.decode(bytes).0.into_owned();
    text.replace(|c: char| c.is_control() && !"\t\n\r".contains(c), "")
}

/// Reads a fetched page: byte order mark, then the `charset` of the header, then the page's own declaration, then UTF-8
/// if it is valid, then Windows-1252 (HTML standard, 13.2.3).
///
/// # Errors
/// [`Rejection::NotText`] for binary content.
pub fn decode_page(bytes: &[u8], header_charset: Option<&str>) -> Result<String, Rejection> {
    let label = |label: &str| Encoding::for_label(label.as_bytes());
    if let Some(text) = utf_32(bytes) {
        return checked(text);
    }
    let stated = Encoding::for_bom(bytes)
        .map(|(encoding, _)| encoding)
        .or_else(|| wide(bytes))
        .or_else(|| header_charset.and_then(label))
        .or_else(|| declared(bytes).as_deref().and_then(label));
    let encoding = stated.unwrap_or(if std::str::from_utf8(bytes).is_ok() { UTF_8 } else { WINDOWS_1252 });
    checked(encoding.decode(bytes).0.into_owned())
}

/// UTF-16 without a byte order mark, as XML may be (appendix F): every other byte of its beginning is zero.
fn wide(bytes: &[u8]) -> Option<&'static Encoding> {
    match bytes {
        [0, b'<', 0, ..] => Some(UTF_16BE),
        [b'<', 0, _, 0, ..] => Some(UTF_16LE),
        _ => None,
    }
}

/// UTF-32, which browsers do not read and a few feeds are written in.
fn utf_32(bytes: &[u8]) -> Option<String> {
    let read: fn([u8; 4]) -> u32 = match bytes {
        [0, 0, 0xfe, 0xff, ..] | [0, 0, 0, b'<', ..] => u32::from_be_bytes,
        [0xff, 0xfe, 0, 0, ..] | [b'<', 0, 0, 0, ..] => u32::from_le_bytes,
        _ => return None,
    };
    let characters = bytes.as_chunks::<4>().0.iter().map(|four| read(*four));
    let text = characters.map(|number| char::from_u32(number).unwrap_or(char::REPLACEMENT_CHARACTER));
    Some(text.filter(|character| *character != '\u{feff}').collect())
}

/// The encoding in `<meta charset=…>`, `<meta http-equiv … content="…; charset=…">` or an XML declaration.
fn declared(bytes: &[u8]) -> Option<String> {
    let start = String::from_utf8_lossy(&bytes[..bytes.len().min(DECLARATION_BYTES)]).to_ascii_lowercase();
    let at = ["charset=", "encoding="].iter().find_map(|key| start.find(key).map(|at| at + key.len()))?;
    let label = start[at..].trim_start_matches(['"', '\'', ' ']);
    let end = label.find(|c: char| !c.is_ascii_alphanumeric() && !"-_:.".contains(c)).unwrap_or(label.len());
    Some(label[..end].to_owned())
}

fn checked(text: String) -> Result<String, Rejection> {
    let characters = text.chars().count();
    let control = control_characters(text.as_bytes());
    let replaced = text.matches(char::REPLACEMENT_CHARACTER).count();
    if text.contains('\0') {
        Err(not_text("it has zero bytes".to_owned()))
    } else if control * 100 > characters {
        Err(not_text(format!("{control} of its {characters} characters are control characters")))
    } else if replaced * 100 > characters {
        Err(not_text(format!("{replaced} of its {characters} characters could not be read in its encoding")))
    } else {
        Ok(text)
    }
}

/// Characters that no text has, in UTF-8: byte by byte, as each page is looked through.
fn control_characters(text: &[u8]) -> usize {
    let is_control = |byte: u8| (byte < b' ' && !matches!(byte, b'\t' | b'\n' | b'\r' | 0xc)) || byte == 0x7f;
    let one_byte = text.iter().filter(|byte| is_control(**byte)).count();
    let pairs = text.iter().zip(text.iter().skip(1));
    let two_bytes = pairs.filter(|(a, b)| **a == 0xc2 && matches!(**b, 0x80..=0x9f) && **b != 0x85).count();
    one_byte + two_bytes
}

fn not_text(problem: String) -> Rejection {
    Rejection::NotText { problem }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_read_in_their_encoding() {
        assert_eq!(decode_file("naïve".as_bytes()).unwrap(), "naïve");
        assert_eq!(decode_file(b"na\xefve \x93so\x94").unwrap(), "naïve “so”");
        assert_eq!(decode_file(b"\xff\xfea\0b\0").unwrap(), "ab");
        assert_eq!(decode_file(b"\xef\xbb\xbfa").unwrap(), "a");
    }

    #[test]
    fn binary_files_are_refused() {
        let noise: Vec<u8> = (0..2000_u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
        for bytes in [b"a\0b".as_slice(), &noise, b"\x01\x02\x03\x04abc", b"\x89PNG\r\n\x1a\n\0\0"] {
            assert!(matches!(decode_file(bytes), Err(Rejection::NotText { .. })), "{bytes:?}");
        }
    }

    #[test]
    fn control_characters_are_counted() {
        let all: String = (0..0x3000).filter_map(char::from_u32).collect();
        let expected = all.chars().filter(|c| c.is_control() && !"\t\n\r\u{c}\u{85}".contains(*c)).count();
        assert_eq!(control_characters(all.as_bytes()), expected);
    }

    #[test]
    fn pages_are_read_as_they_declare() {
        let latin = b"<meta http-equiv=x content='text/html; charset=iso-8859-1'>na\xefve";
        assert!(decode_page(latin, None).unwrap().ends_with("naïve"));
        assert_eq!(decode_page("é".as_bytes(), Some("utf-8")).unwrap(), "é");
        assert_eq!(decode_page(b"\xe9", Some("latin1")).unwrap(), "é");
        assert_eq!(decode_page(b"\xe9", Some("no-such-charset")).unwrap(), "é");
        let sjis = b"<?xml version=\"1.0\" encoding=\"Shift_JIS\"?>\x82\xa0";
        assert!(decode_page(sjis, None).unwrap().ends_with('あ'));
    }
}

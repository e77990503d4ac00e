use std::io::Write;
use std::path::{Path, PathBuf};

use twin_domain::Document;
use twin_feature_pipeline::{ExportKind, IngestReport, Source};
use zip::write::SimpleFileOptions;

use crate::bench::{Bench, words};
use crate::real_data::data;

/// Ingests what `path` is recognised as, and gives the documents in the warehouse.
async fn ingested(path: &Path, kind: ExportKind) -> (IngestReport, Vec<Document>) {
    let mut bench = Bench::new().await;
    bench.options.min_words = 2;
    let source = Source::recognise(path.to_str().unwrap()).unwrap();
    assert_eq!(source, Source::Export(path.to_owned(), kind), "{}", path.display());
    let report = bench.ingest(&source).await;
    assert_eq!(report.found, report.new + report.skipped.len() + report.duplicates.len(), "{report:?}");
    let documents = bench.warehouse.documents(&bench.author.id).await.unwrap();
    let again = bench.ingest(&source).await;
    assert_eq!((again.new, again.changed, again.unchanged), (0, 0, report.new), "{again:?}");
    (report, documents)
}

fn titles(documents: &[Document]) -> Vec<&str> {
    let mut titles: Vec<&str> = documents.iter().map(|document| document.info.title.as_str()).collect();
    titles.sort_unstable();
    titles
}

fn reasons(report: &IngestReport) -> Vec<&str> {
    report.skipped.iter().map(|skip| skip.reason.as_str()).collect()
}

/// Without the marks of Markdown and differences of spaces.
fn plain(text: &str) -> String {
    text.replace('\\', "").split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Packs a folder as services do, with a folder of its own at the top.
fn zipped(folder: &Path, into: &Path) -> PathBuf {
    let mut zip = zip::ZipWriter::new(fs_err::File::create(into).unwrap());
    let mut open = vec![folder.to_owned()];
    while let Some(next) = open.pop() {
        for entry in fs_err::read_dir(next).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                open.push(path);
            } else {
                let name = format!("export-2024/{}", path.strip_prefix(folder).unwrap().display());
                zip.start_file(name, SimpleFileOptions::default()).unwrap();
                zip.write_all(&fs_err::read(&path).unwrap()).unwrap();
            }
        }
    }
    zip.finish().unwrap();
    into.to_owned()
}

#[tokio::test]
async fn social_networks_give_every_public_post_and_nothing_private() {
    let Some(folder) = data("exports-social-synthetic") else { return };
    let expected: serde_json::Value =
        serde_json::from_slice(&fs_err::read(folder.join("expected.json")).unwrap()).unwrap();
    let kinds = [("x-archive", ExportKind::X), ("mastodon", ExportKind::Mastodon), ("linkedin", ExportKind::LinkedIn)];
    let packed = tempfile::tempdir().unwrap();
    let mut documents = Vec::new();
    for (name, kind) in kinds {
        let (report, mut found) = ingested(&folder.join(name), kind).await;
        // A zip of the folder gives the same.
        let (_, zipped) = ingested(&zipped(&folder.join(name), &packed.path().join(format!("{name}.zip"))), kind).await;
        assert_eq!(titles(&found), titles(&zipped));
        assert!(report.skipped.iter().all(|skip| !skip.reason.contains("words; a document")), "{:?}", report.skipped);
        documents.append(&mut found);
    }
    for post in expected["posts"].as_array().unwrap() {
        let text = plain(post["text"].as_str().unwrap());
        let found = documents.iter().find(|document| plain(&document.text).contains(&text));
        let found = found.unwrap_or_else(|| panic!("not found: {post}"));
        let date = found.info.date.map(|date| date.to_string());
        assert_eq!(date.as_deref(), post["date"].as_str().map(|date| &date[..10]), "{post}");
        assert!(post["title"].as_str().is_none_or(|title| title == found.info.title), "{post}");
    }
    assert_eq!(documents.len(), expected["posts"].as_array().unwrap().len(), "{:?}", titles(&documents));
    for secret in expected["must_not_appear"].as_array().unwrap() {
        let secret = plain(secret.as_str().unwrap());
        assert!(documents.iter().all(|document| !plain(&document.text).contains(&secret)), "{secret}");
    }
}

#[tokio::test]
async fn wordpress_gives_what_is_published() {
    let Some(folder) = data("exports-ghost-migrate/wordpress-wxr") else { return };
    let (report, documents) = ingested(&folder.join("sample.xml"), ExportKind::WordPress).await;
    // Three posts say the same sentence, of which one is kept; the draft is named.
    assert_eq!(report.found, 5, "{report:?}");
    assert_eq!(reasons(&report)[0], "a draft: it is not published");
    assert_eq!((documents.len(), report.duplicates.len()), (1, 2), "{report:?}");
    let (_, documents) = ingested(&folder.join("co-authors-plus.xml"), ExportKind::WordPress).await;
    assert!(!documents.is_empty());
    // A plugin's own kind of post, whose text is in the plugin's own fields.
    let (report, _) = ingested(&folder.join("has-meta.xml"), ExportKind::WordPress).await;
    assert_eq!((report.found, report.skipped.len()), (1, 1), "{report:?}");
    for file in ["sample-no-slug.xml", "multiple/posts-only.xml", "has-audio-enclosure.xml"] {
        let (report, documents) = ingested(&folder.join(file), ExportKind::WordPress).await;
        assert!(!documents.is_empty(), "{file}: {report:?}");
    }
    let squarespace = folder.join("../squarespace-wxr/sample.xml");
    let (report, documents) = ingested(&squarespace, ExportKind::WordPress).await;
    assert!(!documents.is_empty(), "{report:?}");
}

#[tokio::test]
async fn medium_gives_posts_and_names_drafts_and_responses() {
    let Some(folder) = data("exports-ghost-migrate/medium/export") else { return };
    // Other posts of the set say the same and would be left out as copies.
    let bench = Bench::new().await;
    for name in ["basic-post.html", "comment.html", "draft-post.html", "no-date-post.html"] {
        bench.write(&format!("posts/{name}"), fs_err::read(folder.join("posts").join(name)).unwrap());
    }
    bench.write("profile/profile.html", fs_err::read(folder.join("profile/profile.html")).unwrap());
    assert!(matches!(Source::recognise(folder.to_str().unwrap()), Ok(Source::Export(_, ExportKind::Medium))));
    let (report, documents) = ingested(&bench.posts(), ExportKind::Medium).await;
    let reasons = |what: &str| {
        let skip = report.skipped.iter().find(|skip| skip.what.ends_with(what));
        skip.map(|skip| skip.reason.as_str()).unwrap_or_default()
    };
    assert_eq!(reasons("draft-post.html"), "a draft: it is not published");
    assert_eq!(reasons("comment.html"), "a response to somebody's post, not a post");
    let basic = documents.iter().find(|document| document.info.title == "Basic Post Title").unwrap();
    assert_eq!(basic.info.url, "https://medium.com/@JoeBloggs/testpost-efefef12121212");
    assert_eq!((basic.info.date.unwrap().to_string().as_str(), basic.info.tags.len()), ("2018-08-11", 2));
    assert!(basic.text.starts_with("This is a subtitle of some sort\n"), "{}", basic.text);
    assert!(!basic.text.contains("Exported from") && !basic.text.contains("Basic Post Title"), "{}", basic.text);
    assert!(documents.iter().any(|document| document.info.title == "No Date Post" && document.info.date.is_none()));
}

#[tokio::test]
async fn newsletters_give_their_issues() {
    let Some(folder) = data("exports-ghost-migrate") else { return };
    let (report, documents) = ingested(&folder.join("substack"), ExportKind::Substack).await;
    assert_eq!(titles(&documents), ["About Us", "Comment Buttons", "Plain Text"], "{report:?}");
    assert!(reasons(&report).contains(&"a draft: it is not published"), "{report:?}");
    let plain_text = documents.iter().find(|document| document.info.title == "Plain Text").unwrap();
    assert_eq!(plain_text.info.url, "https://example.substack.com/p/plain-text");
    assert!(plain_text.text.starts_with("“This quote’s rather short”"), "{}", plain_text.text);
    assert!(!plain_text.text.contains("Sign up now"), "{}", plain_text.text);

    let (_, documents) = ingested(&folder.join("beehiiv/posts.csv"), ExportKind::Beehiiv).await;
    assert_eq!(titles(&documents), ["Another Post", "Sample Post"]);
    let (_, documents) = ingested(&folder.join("buttondown"), ExportKind::Buttondown).await;
    assert_eq!(titles(&documents), ["This is a Fancy Post", "This is a Plain Post"]);
    assert!(documents.iter().all(|document| !document.text.contains("editor-mode")));
    let (_, documents) = ingested(&folder.join("curated/12.json"), ExportKind::Curated).await;
    assert_eq!(documents[0].info.title, "Issue 12");
    let (_, documents) = ingested(&folder.join("blogger-api/response.json"), ExportKind::Blogger).await;
    assert!(documents.iter().any(|document| document.info.url.ends_with("/2017/06/lorem.html")));
    let (_, documents) = ingested(&folder.join("wordpress-rest/single-post.json"), ExportKind::WordPressRest).await;
    assert_eq!(documents[0].info.title, "My Awesome Post");
}

#[tokio::test]
async fn the_notes_of_a_vault_read_as_their_author_sees_them() {
    let Some(folder) = data("exports-obsidian/input/main-samples") else { return };
    let mut bench = Bench::new().await;
    bench.options.min_words = 1;
    bench.ingest(&Source::recognise(folder.to_str().unwrap()).unwrap()).await;
    let documents = bench.warehouse.documents(&bench.author.id).await.unwrap();
    let links = documents.iter().find(|document| document.info.title == "obsidian wikilinks").unwrap();
    for words in ["the same Pure-Markdown-Examples.", "Link to pure markdown examples.", "examples > Heading 1."] {
        assert!(links.text.contains(words), "{}", links.text);
    }
    assert!(links.text.contains("`[[pure-markdown-examples]]`") && links.text.contains("[[unclosed link"));
    let embeds = documents.iter().find(|document| document.info.title == "embeds").unwrap();
    assert!(!embeds.text.contains("![[white.png]]") && embeds.text.contains("![[Not a valid embed.]"));
}

#[tokio::test]
async fn ghost_and_blogger_give_what_is_published() {
    let bench = Bench::new().await;
    let post = |id: &str, status: &str, seed: usize| {
        serde_json::json!({"id": id, "title": format!("Post {id}"), "slug": format!("post-{id}"), "status": status,
            "html": format!("<p>It's {}.</p>", words(seed, 30)), "published_at": "2023-05-06T07:08:09.000Z"})
    };
    let ghost = serde_json::json!({"db": [{"meta": {"version": "5.0"}, "data": {
        "posts": [post("1", "published", 1), post("2", "draft", 2)],
        "tags": [{"id": "t", "name": "Essays"}, {"id": "i", "name": "#internal"}],
        "posts_tags": [{"post_id": "1", "tag_id": "t"}, {"post_id": "1", "tag_id": "i"}],
        "users": [{"id": "u", "name": "Ada"}], "posts_authors": [{"post_id": "1", "author_id": "u"}]}}]});
    let (report, documents) = ingested(&bench.write("ada.ghost.json", ghost.to_string()), ExportKind::Ghost).await;
    assert_eq!((titles(&documents), reasons(&report)), (vec!["Post 1"], vec!["a draft: it is not published"]));
    assert_eq!(documents[0].info.tags, ["Essays"]);

    let kind =
        "<category scheme='http://schemas.google.com/g/2005#kind' term='http://schemas.google.com/blogger/2008/kind#";
    let entry = |name: &str, term: &str, more: &str, seed: usize| {
        format!(
            "<entry><id>tag:blogger.com,1999:blog-1.{name}</id><published>2017-06-20T00:32:00-04:00</published>{kind}{term}'/><category scheme='http://www.blogger.com/atom/ns#' term='books'/><title type='text'>{name}</title><content type='html'>&lt;p&gt;It&#39;s {}.&lt;/p&gt;</content><link rel='alternate' href='http://a.blogspot.com/2017/06/{name}.html'/><author><name>Ada</name><email>a@b.c</email></author>{more}</entry>",
            words(seed, 30)
        )
    };
    let draft = "<app:control><app:draft>yes</app:draft></app:control>";
    let feed = format!(
        "<?xml version='1.0'?><feed><id>tag:blogger.com,1999:blog-1.archive</id>{}{}{}{}</feed>",
        entry("one", "post", "", 1),
        entry("draft", "post", draft, 2),
        entry("comment", "comment", "", 3),
        entry("settings", "settings", "", 4)
    );
    let (report, documents) = ingested(&bench.write("blog.xml", feed), ExportKind::Blogger).await;
    assert_eq!((titles(&documents), report.skipped.len()), (vec!["one"], 1), "{report:?}");
    assert_eq!(documents[0].info.tags, ["books"]);
    assert!(documents[0].text.starts_with("It's word"), "{}", documents[0].text);
}

#[tokio::test]
async fn a_mailbox_gives_newsletters_and_keeps_letters_private() {
    let bench = Bench::new().await;
    let letter = format!(
        "From ada@a.org Mon Jan  1 00:00:00 2024\nFrom: Ada <ada@a.org>\nSubject: Dear friend\n\nSECRET {}\n\n",
        words(1, 30)
    );
    let issue = format!(
        "From ada@a.org Tue Jan  2 00:00:00 2024\nFrom: Ada Lovelace <ada@a.org>\nDate: Tue, 2 Jan 2024 10:00:00 +0100\nSubject: =?utf-8?q?Issue_1=3A_na=C3=AFve?=\nList-Unsubscribe: <https://a.org/u>\nMIME-Version: 1.0\nContent-Type: multipart/alternative; boundary=b\n\n--b\nContent-Type: text/plain; charset=utf-8\n\nplain\n\n--b\nContent-Type: text/html; charset=utf-8\nContent-Transfer-Encoding: quoted-printable\n\n<p>It=E2=80=99s {}</p>\n\n--b--\n\n",
        words(2, 10)
    );
    let (report, documents) = ingested(&bench.write("sent.mbox", letter + &issue), ExportKind::Mbox).await;
    assert_eq!(titles(&documents), ["Issue 1: naïve"], "{report:?}");
    assert!(documents[0].text.starts_with("It’s word"), "{}", documents[0].text);
    assert_eq!(documents[0].info.date.unwrap().to_string(), "2024-01-02");
    assert!(report.skipped[0].reason.contains("private"), "{:?}", report.skipped);
}

#[tokio::test]
async fn a_zip_of_posts_is_read_like_a_folder_of_them() {
    let bench = Bench::new().await;
    bench.write("a.md", format!("# A\n\n{}\n", words(1, 30)));
    bench
        .write("sub/b.html", format!("<html><body><article><h1>B</h1><p>{}</p></article></body></html>", words(2, 60)));
    bench.write("picture.png", "x");
    let zip = zipped(&bench.posts(), &bench.folder.path().join("posts.zip"));
    let (_, documents) = ingested(&zip, ExportKind::Zip).await;
    assert_eq!(titles(&documents), ["A", "B"]);
    assert!(documents[0].info.url.starts_with("file:posts/export-2024/"), "{}", documents[0].info.url);
}

#[tokio::test]
async fn what_is_no_export_is_named() {
    let bench = Bench::new().await;
    for (name, content) in [("a.xml", "<note/>"), ("a.json", "{\"a\": 1}"), ("a.csv", "a,b\n1,2\n"), ("a.bin", "x")] {
        let path = bench.write(name, content);
        let error = Source::recognise(path.to_str().unwrap()).unwrap_err().to_string();
        assert!(error.contains("is not a kind of file that posts are read from"), "{error}");
    }
    let broken =
        bench.write("wordpress.xml", "<rss xmlns:wp=\"http://wordpress.org/export/1.2/\"><channel><item><title>A");
    let report = bench.ingest(&Source::recognise(broken.to_str().unwrap()).unwrap()).await;
    assert_eq!((report.new, report.skipped.len()), (0, 0), "{report:?}");
}

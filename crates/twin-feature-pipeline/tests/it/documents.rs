//! Files that are no text: word processors' documents, books, PDFs; and markup other than Markdown.

use std::io::Write;

use twin_domain::Document;
use twin_feature_pipeline::IngestReport;
use zip::write::SimpleFileOptions;

use crate::bench::{Bench, words};

fn zipped(files: &[(&str, &str)]) -> Vec<u8> {
    let mut zip = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
    for (name, text) in files {
        zip.start_file(*name, SimpleFileOptions::default()).unwrap();
        zip.write_all(text.as_bytes()).unwrap();
    }
    zip.finish().unwrap().into_inner()
}

async fn ingested(files: &[(&str, Vec<u8>)]) -> (IngestReport, Vec<Document>) {
    let bench = Bench::new().await;
    for (name, bytes) in files {
        bench.write(name, bytes);
    }
    let report = bench.ingest_posts().await;
    (report, bench.warehouse.documents(&bench.author.id).await.unwrap())
}

fn docx(body: &str) -> Vec<u8> {
    let styles = r#"<w:styles><w:style w:type="paragraph" w:styleId="berschrift1"><w:name w:val="heading 1"/></w:style>
        <w:style w:styleId="Zitat"><w:name w:val="Quote"/></w:style></w:styles>"#;
    let links = r#"<Relationships><Relationship Id="r1" Target="https://a.org/x?a=1&amp;b=2"/></Relationships>"#;
    let core = r#"<cp:coreProperties><dc:title>A &amp; B</dc:title><dc:creator>Ada</dc:creator><dcterms:created>2021-03-04T00:00:00Z</dcterms:created></cp:coreProperties>"#;
    let notes = r#"<w:footnotes><w:footnote w:type="separator" w:id="0"><w:p/></w:footnote><w:footnote w:id="2"><w:p><w:r><w:t>Aside.</w:t></w:r></w:p></w:footnote></w:footnotes>"#;
    zipped(&[
        ("word/document.xml", &format!("<w:document><w:body>{body}</w:body></w:document>")),
        ("word/styles.xml", styles),
        ("word/_rels/document.xml.rels", links),
        ("word/footnotes.xml", notes),
        ("docProps/core.xml", core),
    ])
}

#[tokio::test]
async fn a_docx_keeps_its_text_and_loses_what_was_deleted() {
    let run = |text: &str| format!("<w:r><w:t xml:space=\"preserve\">{text}</w:t></w:r>");
    let body = [
        r#"<w:p><w:pPr><w:pStyle w:val="berschrift1"/></w:pPr><w:r><w:t>Head</w:t></w:r></w:p>"#.to_owned(),
        format!(
            "<w:p>{}<w:r><w:rPr><w:i/></w:rPr><w:t>so</w:t></w:r>{}<w:del><w:r><w:delText>gone</w:delText></w:r><w:r><w:t>gone too</w:t></w:r></w:del><w:hyperlink r:id=\"r1\">{}</w:hyperlink><w:r><w:footnoteReference w:id=\"2\"/></w:r></w:p>",
            run("It\u{2019}s &amp;c. "),
            run(", isn't it? "),
            run("here")
        ),
        format!("<w:p><w:pPr><w:numPr><w:ilvl w:val=\"0\"/></w:numPr></w:pPr>{}</w:p>", run("item")),
        format!("<w:p><w:pPr><w:pStyle w:val=\"Zitat\"/></w:pPr>{}</w:p>", run("Their words.")),
        "<w:p><w:r><w:rPr><w:vanish/></w:rPr><w:t>hidden</w:t></w:r></w:p>".to_owned(),
    ];
    let (report, documents) = ingested(&[("a.docx", docx(&body.concat()))]).await;
    assert_eq!(report.new, 1, "{report:?}");
    let expected = "# Head\n\nIt\u{2019}s &c. *so*, isn't it? [here](https://a.org/x?a=1&b=2)(2)\n\n- item\n\n> Their words.\n\n(2) Aside.\n";
    assert_eq!(documents[0].text, expected);
    assert_eq!(
        (documents[0].info.title.as_str(), documents[0].info.date.unwrap().to_string().as_str()),
        ("A & B", "2021-03-04")
    );
}

#[tokio::test]
async fn the_chapters_of_an_epub_are_documents() {
    let container =
        "<container><rootfiles><rootfile full-path=\"OPS/book.opf\" media-type=\"x\"/></rootfiles></container>";
    let package = r#"<package><metadata><dc:title>The book</dc:title><dc:creator>Ada</dc:creator><dc:date>1850-01-02</dc:date></metadata>
        <manifest><item id="c" href="copyright.xhtml" media-type="application/xhtml+xml"/><item id="1" href="text/one%20x.xhtml" media-type="application/xhtml+xml"/>
        <item id="2" href="../two.xhtml" media-type="application/xhtml+xml"/><item id="n" href="n.xhtml" properties="nav" media-type="application/xhtml+xml"/></manifest>
        <spine><itemref idref="c"/><itemref idref="n"/><itemref idref="1"/><itemref idref="2"/></spine></package>"#;
    let chapter = |title: &str, seed: usize| {
        format!(
            "<?xml version='1.0'?><html><head><title/></head><body><a id='x'/><h2>{title}</h2><p>It's {}.</p></body></html>",
            words(seed, 30)
        )
    };
    let book = zipped(&[
        ("META-INF/container.xml", container),
        ("OPS/book.opf", package),
        ("OPS/copyright.xhtml", &chapter("Rights", 3)),
        ("OPS/text/one x.xhtml", &chapter("One", 1)),
        ("two.xhtml", &chapter("Two", 2)),
        ("OPS/n.xhtml", &chapter("Contents", 4)),
    ]);
    let (report, documents) = ingested(&[("book.epub", book)]).await;
    assert_eq!((report.found, report.new), (2, 2), "{report:?}");
    let titles: Vec<&str> = documents.iter().map(|document| document.info.title.as_str()).collect();
    assert!(titles.contains(&"One") && titles.contains(&"Two"), "{titles:?}");
    assert!(documents.iter().all(|document| document.info.tags == ["The book"] && document.info.date.is_some()));
    assert_eq!(
        documents.iter().find(|document| document.info.title == "One").unwrap().info.url,
        "file:posts/book.epub/text/one%20x.xhtml"
    );
}

/// A PDF of one page with these operations.
fn pdf(operations: &str) -> Vec<u8> {
    let stream = format!("<< /Length {} >>\nstream\n{operations}\nendstream", operations.len());
    let objects = [
        "<< /Type /Catalog /Pages 2 0 R >>".to_owned(),
        "<< /Type /Pages /Kids [3 0 R] /Count 1 >>".to_owned(),
        "<< /Type /Page /Parent 2 0 R /Contents 4 0 R /Resources << /Font << /F1 5 0 R >> >> >>".to_owned(),
        stream,
        "<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica /Encoding /WinAnsiEncoding >>".to_owned(),
        "<< /Title (The title) /CreationDate (D:20190203040506Z) >>".to_owned(),
    ];
    let mut file = b"%PDF-1.4\n".to_vec();
    let mut offsets = Vec::new();
    for (number, object) in objects.iter().enumerate() {
        offsets.push(file.len());
        file.extend_from_slice(format!("{} 0 obj\n{object}\nendobj\n", number + 1).as_bytes());
    }
    let at = file.len();
    file.extend_from_slice(format!("xref\n0 {}\n0000000000 65535 f \n", objects.len() + 1).as_bytes());
    offsets.iter().for_each(|offset| file.extend_from_slice(format!("{offset:010} 00000 n \n").as_bytes()));
    file.extend_from_slice(
        format!("trailer\n<< /Size {} /Root 1 0 R /Info 6 0 R >>\nstartxref\n{at}\n%%EOF\n", objects.len() + 1)
            .as_bytes(),
    );
    file
}

#[tokio::test]
async fn the_lines_of_a_pdf_become_paragraphs() {
    let operations = "BT /F1 18 Tf 72 720 Td (A heading) Tj ET\nBT /F1 11 Tf 72 690 Td (It's the first line of a para-) Tj 0 -13 Td [(graph, isn) -20 ('t) -300 (it?)] TJ 0 -13 Td (And one more.) Tj ET\nBT /F1 11 Tf 72 620 Td (A new one.) Tj ET";
    let (report, documents) =
        ingested(&[("a.pdf", pdf(operations)), ("b.pdf", b"%PDF-1.4 and nothing".to_vec()), ("c.pdf", pdf("0 0 m"))])
            .await;
    assert_eq!(report.new, 1, "{report:?}");
    assert_eq!(
        documents[0].text,
        "## A heading\n\nIt's the first line of a paragraph, isn't it? And one more.\n\nA new one.\n"
    );
    assert_eq!(
        (documents[0].info.title.as_str(), documents[0].info.date.unwrap().to_string().as_str()),
        ("The title", "2019-02-03")
    );
    let reason = |name: &str| report.skipped.iter().find(|skip| skip.what == name).unwrap().reason.clone();
    assert!(reason("b.pdf").contains("no PDF") && reason("c.pdf").contains("no text"), "{:?}", report.skipped);
}

#[tokio::test]
async fn bombs_in_documents_are_refused_in_time() {
    let begun = std::time::Instant::now();
    let spaces = " ".repeat(150 << 20);
    let bomb = zipped(&[("word/document.xml", &spaces)]);
    let deep = docx(&"<w:p>".repeat(100_000));
    let book = zipped(&[("META-INF/container.xml", &spaces)]);
    let (report, _) =
        ingested(&[("a.docx", bomb), ("b.docx", deep), ("c.epub", book), ("d.docx", b"PK\x03\x04".to_vec())]).await;
    let reason = |name: &str| report.skipped.iter().find(|skip| skip.what == name).unwrap().reason.clone();
    assert!(
        reason("a.docx").contains("bombs do") || reason("a.docx").contains("the most that is read"),
        "{:?}",
        report.skipped
    );
    assert!(reason("b.docx").contains("nested more than"), "{:?}", report.skipped);
    assert!(reason("c.epub").contains("no EPUB"), "{:?}", report.skipped);
    assert!(!reason("d.docx").is_empty());
    assert!(begun.elapsed().as_secs() < 30, "{:?}", begun.elapsed());
}

#[tokio::test]
async fn every_markup_is_read_with_its_header() {
    let text = |seed: usize| format!("It's {}.", words(seed, 20));
    let (report, documents) = ingested(&[
        ("a.adoc", format!("= In AsciiDoc\n:revdate: 2020-01-01\n\n{}\n", text(1)).into_bytes()),
        ("b.rst", format!("In reStructuredText\n===================\n:date: 2020-01-02\n\n{}\n", text(2)).into_bytes()),
        (
            "c.mdx",
            format!("---\ntitle: In MDX\ndate: 2020-01-03\n---\nimport X from 'x'\n\n<X>\n\n{}\n\n</X>\n", text(3))
                .into_bytes(),
        ),
        ("d.dj", format!("# In Djot\n\n{{.lead}}\n{}\n", text(4)).into_bytes()),
    ])
    .await;
    assert_eq!(report.new, 4, "{report:?}");
    for (document, title) in documents.iter().filter(|document| document.info.date.is_some()).zip([
        "In AsciiDoc",
        "In reStructuredText",
        "In MDX",
    ]) {
        assert_eq!(document.info.title, title);
    }
    assert!(
        documents.iter().all(|document| document.text.starts_with("It's word") && document.text.lines().count() == 1),
        "{documents:?}"
    );
}

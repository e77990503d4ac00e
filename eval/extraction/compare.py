#!/usr/bin/env python3
"""Main-text extraction: this project against trafilatura, with one scorer for both.

    cargo build --release -p twin-feature-pipeline --example extract
    pip install trafilatura
    python3 eval/extraction/compare.py ../shared/data/dev target/release/examples/extract

Two gold sets: strings that must and must not be in the text (trafilatura's own evaluation), and the text that
Readability.js gives (its test pages). Scores: F1 over the strings; mean F1 over shingles of five words.
"""
import argparse
import gzip
import json
import pathlib
import re
import subprocess
import time

import trafilatura
from lxml import html as lxml_html


def read(path):
    return gzip.open(path, "rb").read()


def snippets(root):
    for case in json.loads((root / "gold.json").read_text()):
        name = case["file"]
        path = root / name if (root / name).exists() else root / (name + ".gz")
        yield {"name": name, "url": case["url"], "html": read(path), "with": case["with"], "without": case["without"]}


def readability(root):
    for folder in sorted(path for path in root.iterdir() if path.is_dir()):
        expected = read(folder / "expected.html.gz").decode("utf-8", "replace")
        tree = lxml_html.fromstring(f"<div>{expected}</div>")
        for element in tree.xpath("//script|//style|//svg"):
            element.drop_tree()
        text = " ".join(tree.itertext())
        yield {"name": folder.name, "url": f"http://fakehost/test/{folder.name}", "html": read(folder / "source.html.gz"), "text": text}


def words(text):
    # Scripts without spaces are compared by characters.
    return re.findall(r"[\u3040-\u30ff\u3400-\u9fff]|[^\W_]+", text.lower())


def shingles(text, width=5):
    found = words(text)
    if len(found) <= width:
        return {tuple(found)} if found else set()
    return {tuple(found[at:at + width]) for at in range(len(found) - width + 1)}


def plain(text):
    return " ".join(text.split())


def f1(precision, recall):
    return 2 * precision * recall / (precision + recall) if precision + recall else 0.0


def score_snippets(pages, texts):
    hits = misses = intruders = 0
    worst = []
    for page in pages:
        text = plain(texts.get(page["name"]) or "")
        missed = [wanted for wanted in page["with"] if plain(wanted) not in text]
        wrong = [unwanted for unwanted in page["without"] if plain(unwanted) in text]
        hits += len(page["with"]) - len(missed)
        misses += len(missed)
        intruders += len(wrong)
        if missed or wrong:
            worst.append((page["name"], missed, wrong))
    precision, recall = hits / max(1, hits + intruders), hits / max(1, hits + misses)
    return {"precision": precision, "recall": recall, "f1": f1(precision, recall)}, worst


def score_shingles(pages, texts):
    precisions, recalls, scores, worst = [], [], [], []
    for page in pages:
        wanted, found = shingles(page["text"]), shingles(texts.get(page["name"]) or "")
        both = len(wanted & found)
        precision = both / len(found) if found else float(not wanted)
        recall = both / len(wanted) if wanted else 1.0
        precisions.append(precision)
        recalls.append(recall)
        scores.append(f1(precision, recall))
        worst.append((scores[-1], page["name"], round(precision, 3), round(recall, 3)))
    count = len(pages)
    return {"precision": sum(precisions) / count, "recall": sum(recalls) / count, "f1": sum(scores) / count}, sorted(worst)


def with_trafilatura(pages):
    begun = time.perf_counter()
    texts = {page["name"]: trafilatura.extract(page["html"], url=page["url"], include_comments=False) for page in pages}
    return texts, time.perf_counter() - begun


def with_twin(pages, program):
    requests = [json.dumps({"name": page["name"], "url": page["url"], "html": page["html"].decode("latin-1")}) for page in pages]
    answer = subprocess.run([program], input="\n".join(requests), capture_output=True, text=True, check=True)
    answers = [json.loads(line) for line in answer.stdout.split("\n") if line]
    return {page["name"]: page["text"] for page in answers}, sum(page["seconds"] for page in answers)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("data", type=pathlib.Path)
    parser.add_argument("program")
    parser.add_argument("--worst", type=int, default=0, help="show so many of our worst pages")
    arguments = parser.parse_args()
    sets = [
        ("snippets", list(snippets(arguments.data / "extraction-trafilatura")), score_snippets),
        ("readability", list(readability(arguments.data / "extraction-readability")), score_shingles),
    ]
    for name, pages, score in sets:
        size = sum(len(page["html"]) for page in pages)
        for who, (texts, seconds) in [
            (f"trafilatura {trafilatura.__version__}", with_trafilatura(pages)),
            ("twin", with_twin(pages, arguments.program)),
        ]:
            result, worst = score(pages, texts)
            print(
                f"{name:12} {who:18} precision {result['precision']:.4f}  recall {result['recall']:.4f}  F1 {result['f1']:.4f}"
                f"  {len(pages) / seconds:7.1f} pages/s  {size / seconds / 1e6:6.1f} MB/s"
            )
        for case in worst[: arguments.worst]:
            print("   ", *case)


if __name__ == "__main__":
    main()

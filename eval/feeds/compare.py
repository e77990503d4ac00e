#!/usr/bin/env python3
"""Feeds: entries and titles of this project against feedparser's.

    TWIN_FEEDS_OUT=/tmp/feeds.jsonl cargo test --release -p twin-feature-pipeline every_feed_of
    pip install feedparser
    python3 eval/feeds/compare.py ../shared/data/dev/feeds-feedparser /tmp/feeds.jsonl
"""
import html
import json
import pathlib
import re
import sys

import feedparser


def plain(title):
    return " ".join(html.unescape(re.sub(r"<[^>]*>", "", title or "")).split())


def main():
    root, dump = pathlib.Path(sys.argv[1]), sys.argv[2]
    same_count = same_titles = refused_both = refused_ours = total = 0
    for line in open(dump, encoding="utf-8"):
        ours = json.loads(line)
        body = (root / ours["file"]).read_bytes()
        header = re.search(rb"(?i)^\s*Header:\s*Content-type:\s*(.+?)\s*$", body[:2000], re.M)
        headers = {"content-type": header.group(1).decode("latin-1")} if header else {}
        theirs = [plain(entry.get("title")) for entry in feedparser.parse(body, response_headers=headers).entries]
        total += 1
        if ours["titles"] is None:
            refused_both += not theirs
            refused_ours += bool(theirs)
            if theirs:
                print("refused:", ours["file"], ours["refused"])
            continue
        same_count += len(ours["titles"]) == len(theirs)
        mine = [plain(title) for title in ours["titles"]]
        same_titles += mine == theirs
        if mine != theirs:
            print("differs:", ours["file"], mine[:3], theirs[:3])
    print(f"{total} feeds: {same_count} with as many entries, {same_titles} with the same titles; {refused_both} refused where feedparser finds no entry, {refused_ours} where it does")


if __name__ == "__main__":
    main()

#!/usr/bin/env python3
"""The peer of `twin bench extraction`: trafilatura over pages as JSON lines (`name`, `url`, `html` with a character for each
byte), its texts with the seconds that each took out, once the first ten were gone through before
the clock runs. (What it remembers of a page that it has seen would make it faster than on new ones.)

    pip install trafilatura
"""
import json
import sys
import time

import trafilatura

print(json.dumps({"version": trafilatura.__version__}))
pages = [json.loads(line) for line in sys.stdin]


def extract(page):
    html = page["html"].encode("latin-1")
    begun = time.perf_counter()
    text = trafilatura.extract(html, url=page["url"], include_comments=False)
    return text, time.perf_counter() - begun


for page in pages[:10]:
    extract(page)
for page in pages:
    text, seconds = extract(page)
    print(json.dumps({"name": page["name"], "text": text or "", "seconds": seconds}))

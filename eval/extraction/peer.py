#!/usr/bin/env python3
"""The peer of `twin bench extraction`: trafilatura over pages as JSON lines (`name`, `url`, `html` with a character for each
byte), its texts with the seconds that each took out.

    pip install trafilatura
"""
import json
import sys
import time

import trafilatura

print(json.dumps({"version": trafilatura.__version__}))
for line in sys.stdin:
    page = json.loads(line)
    html = page["html"].encode("latin-1")
    begun = time.perf_counter()
    text = trafilatura.extract(html, url=page["url"], include_comments=False)
    print(json.dumps({"name": page["name"], "text": text or "", "seconds": time.perf_counter() - begun}))

"""Reads pages, one step each, and counts how often their words are in all of them. Input: {"pages": [...], "top": 5}."""

import collections
import json
import re
import sys
import urllib.request

from lantern import log, step


@step
def fetch(url):
    with urllib.request.urlopen(url) as page:
        return page.read(1 << 20).decode("utf-8", "replace")


@step
def count(text):
    return collections.Counter(re.findall(r"[a-z]{4,}", text.lower()))


def main():
    asked = json.load(sys.stdin) or {}
    total = collections.Counter()
    for url in asked.get("pages", []):
        total.update(count(fetch(url)))
        log(f"read {url}")
    best = sorted(total.items(), key=lambda word: (-word[1], word[0]))[: asked.get("top", 5)]
    print(" ".join(f"{word}={n}" for word, n in best))


main()

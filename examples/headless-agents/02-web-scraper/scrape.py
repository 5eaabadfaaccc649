"""Reads pages and follows their links, as far as the rules of its box let it. Input: {"pages": [...], "most": 10}."""

import json
import sys
import urllib.error
import urllib.request
from html.parser import HTMLParser
from urllib.parse import urldefrag, urljoin

PAGE_MAX = 1 << 20
WAIT_SECONDS = 30


class Page(HTMLParser):
    """The title of a page and where its links lead."""

    def __init__(self, url):
        super().__init__()
        self.url, self.title, self.links, self.in_title = url, "", [], False

    def handle_starttag(self, tag, attrs):
        self.in_title = tag == "title"
        target = dict(attrs).get("href") if tag == "a" else None
        if target:
            self.links.append(urldefrag(urljoin(self.url, target)).url)

    def handle_endtag(self, tag):
        self.in_title = False

    def handle_data(self, data):
        if self.in_title:
            self.title += data


def read(url):
    """A page, or why there is none: the box's listener says of a refusal which rule it lacks."""
    try:
        with urllib.request.urlopen(url, timeout=WAIT_SECONDS) as answer:
            page = Page(answer.url)
            page.feed(answer.read(PAGE_MAX).decode("utf-8", "replace"))
            return page, None
    except urllib.error.HTTPError as error:
        return None, error.headers.get("x-lantern-reason") or f"status {error.code}"
    except (OSError, ValueError) as error:
        return None, str(error)


def main():
    asked = json.load(sys.stdin) or {}
    waiting, most = list(asked.get("pages", [])), asked.get("most", 10)
    if not all(isinstance(url, str) for url in waiting):
        sys.exit("pages: expected a list of addresses")
    known = set(waiting)
    while waiting and most > 0:
        most -= 1
        url = waiting.pop(0)
        page, why = read(url)
        if page is None:
            print(json.dumps({"url": url, "not_read": why}))
            continue
        print(json.dumps({"url": url, "title": page.title.strip(), "links": len(page.links)}))
        for link in page.links:
            if link not in known and link.startswith(("http://", "https://")):
                known.add(link)
                waiting.append(link)


main()

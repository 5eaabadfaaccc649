"""Durable steps for a program in a box: what was done before is not done again.

    from lantern import step, log

    @step
    def fetch(url):                      # asked for twice with the same words, it is two steps: fetch#1, fetch#2
        return urllib.request.urlopen(url).read().decode()

    page = fetch("http://example.com/")  # after a crash: what it returned then
    total = step("total", lambda: count(page))

What a step returns is JSON, and is in the run's journal before the program gets it. When the box is lost and the workload may run
again (`idempotent: true`), the program is begun afresh and each step that was recorded answers at once. A step that was cut off before
it was recorded is done again. Outside of a box nothing is recorded, and everything is done.

Standard library alone. The spec must say `network: allowlist`; it may list no rules.
"""

import functools
import json
import os
import urllib.error
import urllib.request

URL = os.environ.get("LANTERN_LOCAL_URL")
_direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
_counts = {}


class LanternError(Exception):
    """The server did not take it. `code` says why: too_many_steps, steps_full, invalid_body, unavailable."""

    def __init__(self, code, message):
        super().__init__(message)
        self.code = code


def _ask(path, body):
    data = json.dumps(body).encode()
    request = urllib.request.Request(URL + path, data, {"content-type": "application/json"}, method="POST")
    try:
        with _direct.open(request) as answer:
            return json.load(answer)
    except urllib.error.HTTPError as error:
        told = json.load(error)
        raise LanternError(told["code"], told["error"]) from None


def log(message):
    """Writes a line to the workload's log."""
    if URL:
        _ask("/v1/log", {"message": str(message)})
    else:
        print(message, flush=True)


def _durable(name, work):
    _counts[name] = _counts.get(name, 0) + 1
    key = f"{name}#{_counts[name]}"
    if not URL:
        return work()
    known = _ask("/v1/steps/recall", {"key": key})
    if known["recorded"]:
        return known["value"]
    return _ask("/v1/steps/record", {"key": key, "value": work()})["value"]


def step(name, work=None):
    """`step("name", work)` does work once; `@step` makes every call of a function a step of the function's name."""
    if work is not None:
        return _durable(name, work)
    function = name

    @functools.wraps(function)
    def once(*args, **kwargs):
        return _durable(function.__name__, lambda: function(*args, **kwargs))

    return once

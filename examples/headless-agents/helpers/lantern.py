"""Durable steps for a program in a box: what was done before is not done again.

    from lantern import step, llm, sleep, log

    @step
    def fetch(url):                      # asked for twice with the same words, it is two steps: fetch#1, fetch#2
        return urllib.request.urlopen(url).read().decode()

    page = fetch("http://example.com/")  # after a crash: what it returned then
    total = step("total", lambda: count(page))
    answer = llm("sum up", {"model": "chat-small", "messages": [...]})   # paid once; what /v1/chat/completions answers
    sleep("a while", 3600)               # an hour in all, however often it is begun again

What a step returns is JSON, and is in the run's journal before the program gets it. When the box is lost and the workload may run
again (`idempotent: true`), the program is begun afresh and each step that was recorded answers at once. A step that was cut off before
it was recorded is done again. Outside of a box nothing is recorded, and everything is done.

Standard library alone. The spec must say `network: allowlist`; it may list no rules.
"""

import functools
import json
import os
import time
import urllib.error
import urllib.request

URL = os.environ.get("LANTERN_LOCAL_URL")
_direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
_counts = {}


class LanternError(Exception):
    """The server did not take it. `code` says why: too_many_steps, steps_full, step_under_way, invalid_body,
    unavailable; of a model call also what the door says, such as insufficient_quota."""

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
        # A refused model call is worded as its door does.
        inner = told["error"] if isinstance(told.get("error"), dict) else {"code": told["code"], "message": told["error"]}
        raise LanternError(inner["code"], inner["message"]) from None


def log(message):
    """Writes a line to the workload's log."""
    if URL:
        _ask("/v1/log", {"message": str(message)})
    else:
        print(message, flush=True)


def _key(name):
    _counts[name] = _counts.get(name, 0) + 1
    return f"{name}#{_counts[name]}"


def llm(name, request):
    """Calls a model once and answers ever after with what it said. `request` is one of /v1/chat/completions. Only in a box."""
    return _ask("/v1/steps/llm", {"key": _key(name), "request": request})["value"]


def sleep(name, seconds):
    """Sleeps until a time that is recorded when it is first asked for."""
    if URL:
        _ask("/v1/steps/sleep", {"key": _key(name), "seconds": seconds})
    else:
        time.sleep(seconds)


def _durable(name, work):
    key = _key(name)
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

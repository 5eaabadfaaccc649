#!/usr/bin/env python3
"""Checks Lantern receipt files without Lantern: bytes, hash chain, signatures, log proof, money and caps.

    verify.py --key KEYS.json FILE...     or --key BASE64, as often as there are keys

Needs Python 3.8 and the package `cryptography`. Prints a line for each file; exit code 0 only when every one holds.
Written from docs/receipts.md, and shares no code with the server. It does not follow every decision, as `lantern verify` does.
"""
import base64, datetime, hashlib, json, sys, uuid
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

P, L = 2**255 - 19, 2**252 + 27742317777372353535851937790883648493
SMALL = {bytes.fromhex(x)[:31] + bytes([bytes.fromhex(x)[31] & 127]) for x in (  # points of small order, without their sign
    "00" * 32, "01" + "00" * 31, "ec" + "ff" * 30 + "7f",
    "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a",
    "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05")}
FILE = ["algorithm", "appends", "checkpoint", "keyId", "payload", "proof", "publicKey", "signature"]
PAYLOAD = {"agentName": str, "agentVersion": "hex", "appends": int, "capMicroUsd": int, "catalogue": "hex",
           "costMicroUsd": int, "costUsd": None, "endedBy": str, "errorCode": str, "events": int, "finishedAt": str,
           "issuedAt": str, "journalHash": "hex", "limits": "hex", "log": str, "logIndex": int, "model": str, "models": list,
           "policies": list, "provider": str, "runId": str, "startedAt": str, "status": str, "tenantId": str,
           "tokensIn": int, "tokensOut": int, "unconfirmedMicroUsd": int, "version": int}
OPTIONAL = {"errorCode", "model", "provider", "startedAt"}

class Bad(Exception):
    """The file is not true."""

def need(holds, words):
    if not holds:
        raise Bad(words)

def sha(*parts):
    return hashlib.sha256(b"".join(parts)).digest()

def once(pairs):
    need(len({k for k, _ in pairs}) == len(pairs), "a member stands twice")
    return dict(pairs)

class Text(str):
    """A number that is no whole one, as it was written."""

def dumps(value):
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False)

def b64(text, size):
    need(isinstance(text, str) and text.isascii(), "no base64")
    raw = base64.b64decode(text.encode(), validate=True)
    need(len(raw) == size and base64.b64encode(raw).decode() == text, "base64 in another form")
    return raw

def is_hex(text):
    return isinstance(text, str) and len(text) == 64 and all(c in "0123456789abcdef" for c in text)

def whole(value):
    return type(value) is int and 0 <= value < 2**63

def amount(value, words):
    need(whole(value), words)
    return value

def when(micros):
    """A time as it is always written: RFC 3339 in UTC, with as many digits as it takes."""
    at = datetime.datetime(1970, 1, 1) + datetime.timedelta(microseconds=micros)
    text = "%04d%s" % (at.year, at.strftime("-%m-%dT%H:%M:%S.%f"))
    return text.rstrip("0").rstrip(".") + "Z"

def is_time(text):
    try:
        at = datetime.datetime.fromisoformat(text[:19]) - datetime.datetime(1970, 1, 1)
        fraction = text[19:-1]
        need(fraction == "" or fraction[0] == "." and fraction[1:].isascii() and fraction[1:].isdigit(), "time")
        return when(at // datetime.timedelta(microseconds=1) + int((fraction[1:] + "000000")[:6])) == text
    except (ValueError, OverflowError):
        return False

def usd(micros):
    return ("%d.%06d" % divmod(micros, 10**6)).rstrip("0").rstrip(".")

def key_of(raw):
    need(int.from_bytes(raw, "little") & (2**255 - 1) < P, "a key in another encoding")
    need(raw[:31] + bytes([raw[31] & 127]) not in SMALL, "a key of small order")
    return Ed25519PublicKey.from_public_bytes(raw)

def verify(raw_key, message, signature):
    r, s = signature[:32], int.from_bytes(signature[32:], "little")
    need(s < L and r[:31] + bytes([r[31] & 127]) not in SMALL, "a signature in another form")
    try:
        key_of(raw_key).verify(signature, message)
    except InvalidSignature:
        raise Bad("the signature is not the key's") from None

def payload_bytes(p):
    """The payload as it was signed. Dollars are written in the digits of the whole amount beside them."""
    return dumps({**p, "costUsd": 0}).replace('"costUsd":0', '"costUsd":' + usd(p["costMicroUsd"]), 1).encode()

def checked_payload(p):
    need(isinstance(p, dict) and list(p) == sorted(p) and set(PAYLOAD) - OPTIONAL <= set(p) <= set(PAYLOAD), "payload")
    is_kind = {"hex": is_hex, int: whole, None: lambda value: True}
    for name, value in p.items():
        need(is_kind.get(PAYLOAD[name], lambda value: isinstance(value, PAYLOAD[name]))(value), name)
    need(p["version"] == 2 and p["endedBy"] in ("event", "row"), "version")
    need(all(is_hex(x) for x in p["policies"]) and p["policies"] == sorted(set(p["policies"])), "policies")
    need(all(isinstance(x, str) for x in p["models"]), "models")
    need(all(is_time(p[name]) for name in ("finishedAt", "issuedAt", "startedAt") if name in p), "a time in another form")
    need(all(str(uuid.UUID(p[name])) == p[name] for name in ("runId", "tenantId")), "an id in another form")
    need(p["costMicroUsd"] + p["unconfirmedMicroUsd"] <= p["capMicroUsd"], "the run cost more than it could")

def checkpoint(note, log, key):
    """Size and head of the log, from a note that its key signed."""
    said, _, signed = note.partition("\n\n")
    lines = said.split("\n")
    need(len(lines) == 3 and lines[0] == log, "the checkpoint is another log's")
    need(log and not any(c.isspace() or not c.isprintable() or c == "+" for c in log), "no name of a log")
    need(lines[1].isascii() and lines[1].isdigit() and str(int(lines[1])) == lines[1], "the checkpoint's size")
    root, text, prefix = b64(lines[2], 32), said + "\n", "\u2014 " + log + " "
    need(signed.startswith(prefix) and signed.endswith("\n") and signed.count("\n") == 1, "one signature, the log's")
    raw = b64(signed[len(prefix):-1], 68)
    need(raw[:4] == sha(log.encode(), b"\n\x01", key)[:4], "the checkpoint names another key")
    verify(key, text.encode(), raw[4:])
    return int(lines[1]), root

def included(leaf, index, size, proof, root):
    """RFC 9162, 2.1.3.2."""
    need(index < size, "no such leaf")
    place, last, node = index, size - 1, leaf
    for sibling in proof:
        need(last, "the proof is too long")
        if place & 1 or place == last:
            node = sha(b"\1", sibling, node)
            while not place & 1 and place:
                place, last = place >> 1, last >> 1
        else:
            node = sha(b"\1", node, sibling)
        place, last = place >> 1, last >> 1
    need(last == 0 and node == root, "the payload is not in the log")

def stood(of, purse, n):
    """Whether facts have the run's purse as it stood; the most that a model call could cost: a token a byte, and 256."""
    facts, price = of["facts"], (of.get("route") or {}).get("price")
    amounts = [facts[name] for name in ("cap", "spent", "held", "requestBytes", "maxTokens")]
    need(all(whole(part) for part in amounts) and tuple(amounts[:3]) == purse, "event %d: its facts" % n)
    need(all(whole(part) for part in (price or {}).values()), "event %d: an amount" % n)
    return None if price is None else (-(-(facts["requestBytes"] + 256) * price["input"] // 10**6) - (-facts["maxTokens"] * price["output"] // 10**6))

def account(a, at, n):
    known = a["of"] in ("tenant", "agent") and a["period"] in ("day", "month") and a["began"] <= at
    need(known and all(whole(a[name]) for name in ("began", "cap", "spent", "held")), "event %d: an account" % n)

def way_of(route):
    return route.get("provider"), route.get("model"), route.get("key", 0)

def ruled(of, denied, n):
    """Whether what policies said fits what became of the step. Whether they do say so it cannot tell: it knows no Cedar."""
    said, ways = of["facts"].get("ruled"), (of["facts"].get("choice") or {}).get("ways", [])
    left = {"%s/%s" % way_of(way)[:2] for way in ways if way.get("out") == "forbidden"}
    if said is None:
        return need(not denied and not left, "event %d: it names no policies" % n)
    on, lets = {one["on"] for one in said.get("forbids", [])}, said.get("observes", False)
    need(is_hex(said["set"]) and left <= on and not (left and lets), "event %d: what policies forbid" % n)
    need(on and not lets if denied else lets or on <= left and not said.get("unread"), "event %d: policies say otherwise" % n)

def ledger(events, p):
    """Adds the money up: what was held, spent and let go of, and that the cap was kept."""
    need(events, "there are no events")
    cap = spent = held = unconfirmed = tokens_in = tokens_out = 0
    holds, keeps, policies, models, told, over, generation = {}, set(), set(), set(), set(), None, {}
    for n, e in enumerate(events, 1):
        need(whole(e.get("seq")) and e["seq"] == n and whole(e.get("at")) and isinstance(e.get("type"), str), "event %d: its number" % n)
        need(over is None and (e["type"] == "RunStarted") == (n == 1), "event %d: a run starts and ends once" % n)
        kind, step = e["type"], e.get("step")
        amounts = [e.get(name, 0) for name in ("cost", "unconfirmed", "tokensIn", "tokensOut")]
        need(all(whole(a) for a in amounts), "event %d: an amount" % n)
        (cost, doubt), tokens_in, tokens_out = amounts[:2], tokens_in + amounts[2], tokens_out + amounts[3]
        if kind == "RunStarted":
            cap, start = amount(e["cap"], "event 1: its cap"), e
            policies.add(e["policy"])
        elif kind == "StepAdmitted":
            grant = e["grant"]
            need(step not in holds and whole(grant["hold"]), "event %d: its hold" % n)
            worst, choice = stood(grant, (cap, spent, held), n), grant["facts"].get("choice")
            ruled(grant, False, n)
            need(worst in (None, grant["hold"]), "event %d: it holds another amount than its facts say" % n)
            need(grant["hold"] == 0 or spent + held + grant["hold"] <= cap, "event %d: it passes the cap" % n)
            for a in grant["facts"].get("accounts", []):
                account(a, e["at"], n)
                covered = grant["hold"] <= amount(a["slice"], "event %d: a slice" % n) <= a["held"]
                need(covered and a["spent"] + a["held"] <= a["cap"], "event %d: it passes a cap" % n)
            if choice is not None:  # The first that was not left out is the one that is asked.
                first = next((way for way in choice["ways"] if way.get("out") is None), {})
                need(way_of(first) == way_of(grant["route"]), "event %d: another route is first" % n)
            holds[step], held = grant, held + grant["hold"]
            policies.add(grant["policy"])
        elif kind in ("StepSettled", "StepFailed", "StepAbandoned", "StepDenied", "StepReused", "StepRetrying", "StepCharged"):
            hold = holds[step]["hold"] if step in holds else 0
            if kind == "StepDenied" and (e.get("grounds") is not None or e["code"] == "policy_denied"):
                ruled(e["grounds"], e["code"] == "policy_denied", n)
                worst, a = stood(e["grounds"], (cap, spent, held), n), e["grounds"].get("account")
                if a is not None:
                    account(a, e["at"], n)
                    need(worst is not None and a["spent"] + worst > a["cap"], "event %d: the cap leaves so much" % n)
            need(cost <= hold and doubt <= hold, "event %d: it costs more than was held" % n)
            if kind == "StepSettled" and e.get("provider") is not None:
                models.add("%s/%s" % (e["provider"], e.get("model", "")))
                price = holds[step]["route"]["price"]
                bill = -(-amounts[2] * price["input"] // 10**6) - (-amounts[3] * price["output"] // 10**6)
                need(cost == min(bill, hold) or amounts[2] == amounts[3] == 0 and cost == hold, "event %d: its bill" % n)
            need(not (step in keeps and kind != "StepCharged"), "event %d: the step was over" % n)
            spent += cost
            stays = e.get("owing", False) or kind == "StepRetrying" and (
                e["generation"] == generation.get(step, 1) and not e.get("readmit", False))
            keeps |= {step} if e.get("owing", False) else set()
            if stays:
                need(doubt == 0, "event %d: what stays held is not in doubt" % n)
            else:
                holds.pop(step, None)
                held, unconfirmed = held - hold + doubt, unconfirmed + doubt
                keeps.discard(step)
            generation.update({step: e["generation"]} if kind == "StepRetrying" else {})
        elif kind == "CallMetered":
            hold = amount(e["hold"], "event %d: its hold" % n)
            need(cost <= hold and spent + held + hold <= cap, "event %d: it costs more than was held" % n)
            need(e["call"] not in told, "event %d: a call that was told before" % n)
            need(cost == hold or not e.get("lost"), "event %d: a lost call costs what was held" % n)
            told.add(e["call"])
            models.add("%s/%s" % (e["provider"], e["model"]))
            spent += cost
        over = e if kind == "Finished" else None
        need(0 <= unconfirmed <= held and spent <= cap, "event %d: the ledger" % n)
    need(p.get("startedAt") == (when(events[1]["at"]) if len(events) > 1 else None), "when it started")
    if p["endedBy"] == "event":
        need(over is not None and over["outcome"] == p["status"] and over.get("code") == p.get("errorCode"), "how it ended")
        need(p["finishedAt"] == when(over["at"]), "when it ended")
        need((spent, held, unconfirmed) == (p["costMicroUsd"], p["unconfirmedMicroUsd"], p["unconfirmedMicroUsd"]), "totals")
    else:
        need(over is None and (spent + held, 0) == (p["costMicroUsd"], p["unconfirmedMicroUsd"]), "totals")
    need((tokens_in, tokens_out) == (p["tokensIn"], p["tokensOut"]), "tokens")
    same = [(start["manifest"], "agentVersion"), (start["catalogue"], "catalogue"), (start["limits"], "limits"),
            (cap, "capMicroUsd"), (sorted(policies), "policies"), (len(events), "events")]
    need(all(p[name] == value for value, name in same), "the payload says other than the events")
    need(sorted(p["models"]) == sorted(models), "models")
    one = p["models"][0] if len(p["models"]) == 1 else None
    need((p["provider"] + "/" + p["model"] if {"provider", "model"} & set(p) else None) == one, "model")

def check(data, trusted):
    text = data.decode("utf-8")
    file = json.loads(text, object_pairs_hook=once, parse_float=Text, parse_constant=lambda _: need(False, "no number"))
    need(isinstance(file, dict) and list(file) == FILE, "not the members of a receipt file")
    p = file["payload"]
    checked_payload(p)
    # One valid byte form: the file is what writing it again gives.
    again = dumps({**file, "payload": 0}).replace('"payload":0', '"payload":' + payload_bytes(p).decode(), 1)
    need(again == text, "not in the one byte form")
    need(file["algorithm"] == "Ed25519", "algorithm")
    key, message = b64(file["publicKey"], 32), payload_bytes(p)
    need(key in trusted, "signed with a key that is not trusted")
    need(file["keyId"] == sha(key)[:8].hex(), "key id")
    verify(key, message, b64(file["signature"], 64))
    size, root = checkpoint(file["checkpoint"], p["log"], key)
    need(isinstance(file["proof"], list) and len(file["proof"]) <= 64, "proof")
    included(sha(b"\0", sha(message)), p["logIndex"], size, [b64(h, 32) for h in file["proof"]], root)
    head, events = bytes(32), []
    for append in file["appends"]:
        need(isinstance(append, dict) and list(append) == ["body", "events"] and is_hex(append["body"]), "an append")
        need(isinstance(append["events"], list) and all(isinstance(e, dict) for e in append["events"]), "events")
        lines = "".join(dumps(e) + "\n" for e in append["events"])
        head = sha(head, lines.encode(), bytes.fromhex(append["body"]))
        events += append["events"]
    need(head.hex() == p["journalHash"] and len(file["appends"]) == p["appends"], "the hash chain ends elsewhere")
    ledger(events, p)
    return p

def main(arguments):
    trusted, files, words = set(), [], iter(arguments)
    for word in words:
        if word != "--key":
            files.append(word)
            continue
        key = next(words, "")
        try:
            keys = json.load(open(key, "rb"))["keys"] if key.endswith(".json") else [{"publicKey": key}]
            trusted |= {b64(k["publicKey"], 32) for k in keys}
        except (Bad, ValueError, KeyError, TypeError, OSError) as why:
            sys.exit("--key %s: no key, and no file of keys: %s" % (ascii(key), why))
    if not trusted or not files:
        sys.exit(__doc__)
    failed = 0
    for name in files:
        try:
            with open(name, "rb") as opened:
                p = check(opened.read(), trusted)
            print("ok   %s: run %s %s, number %d" % (name, p["runId"], p["status"], p["logIndex"]))
        except (Bad, ValueError, KeyError, TypeError, AttributeError, RecursionError, OverflowError, OSError) as why:
            failed += 1
            print("BAD  %s: %s" % (name, ascii(str(why) or type(why).__name__)))
    return 1 if failed else 0

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

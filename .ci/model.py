"""Runs agents, streams, a budget and a failover of a real `lantern dev` against a real model: llama.cpp's server with Gemma 270M.

So small a model answers little that makes sense, and never twice the same. So this looks at what must hold whatever it says: that text
arrives in pieces, that tokens are counted as the server counts them, that a schema holds, that money ends where it ends.
Needs nothing but Python; called by .ci/model.
"""

import http.server
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request

LANTERN, PYTHON, WEIGHTS = sys.argv[1:4]
BEGUN = time.monotonic()
# Everything together; each request has a limit of its own.
LATEST = 420
# Micro-dollars.
CAP = 200
folder = tempfile.mkdtemp(prefix="lantern-model.")
started = []

# llama.cpp's own HTTP server, which this wheel starts within a Python process. It ends when its input does.
MODEL = """
import sys, xllamacpp
params = xllamacpp.CommonParams()
params.model.path, params.model_alias = sys.argv[1], {"gemma-3-270m"}
params.port, params.n_ctx, params.n_parallel = 0, 4096, 2
params.cpuparams.n_threads = params.cpuparams_batch.n_threads = 2
server = xllamacpp.Server(params)
print(server.listening_address, flush=True)
sys.stdin.read()
"""


def say(words):
    print(f"{time.monotonic() - BEGUN:6.1f}s  {words}", flush=True)


def start(command, env, log, **more):
    """Starts a process and answers with the first line that it prints."""
    path = os.path.join(folder, log)
    process = subprocess.Popen(command, env=env, stdout=subprocess.PIPE, stderr=open(path, "a"), **more)
    started.append(process)
    line = process.stdout.readline()
    assert line, f"{command[0]} did not start:\n" + open(path).read()[-4000:]
    return process, line.decode().strip()


class Refusing(http.server.BaseHTTPRequestHandler):
    """A provider that is down, and counts who asks."""

    asked = 0

    def do_POST(self):
        Refusing.asked += 1
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        body = b'{"type": "error", "error": {"type": "overloaded_error", "message": "down"}}'
        self.send_response(529)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


class Lantern:
    """`lantern dev` on a data folder of its own."""

    def __init__(self, env):
        self.env = {"PATH": "/usr/local/bin:/usr/bin:/bin", "HOME": folder, "LOG_LEVEL": "warn", **env}
        self.start()

    def start(self):
        data = os.path.join(folder, "data")
        command = [LANTERN, "dev", "--no-open", "-o", "json", "--listen", "127.0.0.1:0", "--data-dir", data]
        self.process, ready = start(command, self.env, "lantern.log")
        self.api = json.loads(ready)["api"]
        self.token = ""
        self.token = self.ask("/auth/login", {"email": "admin@lantern.dev", "password": "lantern"})["token"]

    def kill(self):
        self.process.send_signal(signal.SIGKILL)
        self.process.wait(30)

    def open(self, path, body=None, method=None, headers=None):
        headers = {"Content-Type": "application/json", "Authorization": f"Bearer {self.token}", **(headers or {})}
        data = None if body is None else json.dumps(body).encode()
        return urllib.request.urlopen(urllib.request.Request(self.api + path, data, headers, method=method), timeout=120)

    def ask(self, path, body=None, method=None):
        with self.open(path, body, method) as answer:
            return json.loads(answer.read() or "null")

    def run(self, agent, prompt, **more):
        """A run to its end."""
        run = self.ask("/v1/runs", {"agentName": agent, "input": {"prompt": prompt}, **more})
        return self.over(run["id"])

    def over(self, run):
        frames = self.events(run)
        assert frames, "a run has events"
        return self.ask(f"/v1/runs/{run}"), frames

    def events(self, run):
        with self.open(f"/v1/runs/{run}/events") as stream:
            lines = stream.read().decode().splitlines()
        return [json.loads(line[5:]) for line in lines if line.startswith("data:")]

    def streamed(self, body):
        """The pieces of a stream of chat completions, and how many reads they came in."""
        with self.open("/v1/chat/completions", {**body, "stream": True, "stream_options": {"include_usage": True}}) as stream:
            frames = [line[5:].strip() for line in map(bytes.decode, stream) if line.startswith("data:")]
        assert frames[-1] == "[DONE]", frames[-3:]
        return [json.loads(frame) for frame in frames[:-1]]


def an_agent(lantern):
    lantern.ask("/v1/agents", {"name": "teller", "model": "gemma-3-270m", "systemPrompt": "You tell short stories.", "maxTokens": 80})
    run, frames = lantern.run("teller", "Once upon a time")
    assert run["status"] == "succeeded", run
    assert run["output"] and run["tokensIn"] > 0 and run["tokensOut"] > 0, run
    assert run["costUsd"] == 0, "a model of one's own costs nothing"
    say(f"an agent: {run['tokensIn']} tokens in, {run['tokensOut']} out, {len(frames)} frames")


def a_schema(lantern):
    schema = {
        "type": "object",
        "properties": {"colour": {"type": "string", "enum": ["red", "green", "blue"]}, "count": {"enum": [1, 2, 3]}},
        "required": ["colour", "count"],
        "additionalProperties": False,
    }
    lantern.ask("/v1/agents", {"name": "picker", "model": "gemma-3-270m", "outputSchema": schema, "temperature": 0, "maxTokens": 300})
    run, _ = lantern.run("picker", "Pick a colour and a number from one to three.")
    assert run["status"] == "succeeded", run
    output = run["output"]["structured"]
    assert output["colour"] in ("red", "green", "blue") and output["count"] in (1, 2, 3), output
    say(f"an answer of a schema: {json.dumps(output)}")


def a_kill(lantern):
    """Two model steps; the server dies once the first is recorded, and it is not asked for again."""
    step = lambda id: {"id": id, "kind": "llm", "data": {"model": "gemma-3-270m", "prompt": f"A word for {id}:", "maxTokens": 60}}
    lantern.ask("/v1/agents", {"name": "pair", "steps": [step("first"), step("second")]})
    run = lantern.ask("/v1/runs", {"agentName": "pair", "input": {}})["id"]
    with lantern.open(f"/v1/runs/{run}/events") as stream:
        for line in map(bytes.decode, stream):
            if line.startswith("data:") and json.loads(line[5:]).get("kind") == "step_completed":
                lantern.kill()
                break
        else:
            raise AssertionError("the run was over before the server was killed")
    lantern.start()
    done, frames = lantern.over(run)
    assert done["status"] == "succeeded", done
    kinds = [frame.get("kind") for frame in frames]
    assert kinds.count("step_completed") == 2, kinds
    say("a kill after the first model step: the run succeeded, and the first step stands once")


def a_stream(lantern):
    body = {"model": "gemma-3-270m", "max_tokens": 40, "messages": [{"role": "user", "content": "Count: one, two,"}]}
    frames = lantern.streamed(body)
    text = [frame for frame in frames if frame["choices"] and frame["choices"][0]["delta"].get("content")]
    usage = frames[-1]["usage"]
    assert len(text) > 5 and usage["completion_tokens"] <= 40, frames[-1]
    call = until(lambda: lantern.ask("/v1/calls"), "a record of the call")[0]
    assert (call["tokensIn"], call["tokensOut"]) == (usage["prompt_tokens"], usage["completion_tokens"]), (call, usage)
    say(f"a stream: {len(text)} pieces, {usage['completion_tokens']} tokens, counted alike")


def a_budget(lantern):
    """The name is one that the catalogue has a price for; the model that answers is the same."""
    body = {"model": "gpt-4o-mini", "max_tokens": 2000, "messages": [{"role": "user", "content": "Write a long story."}]}
    # At 0.60 dollars for a million tokens out: a few hundred tokens, in as many calls as it takes.
    lantern.ask("/v1/settings/caps", {"maxCostUsdPerDay": CAP / 1_000_000})
    until(lambda: stands(lantern)[0] == CAP, "the cap is read")

    def refused():
        try:
            lantern.streamed(body)
        except urllib.error.HTTPError as error:
            return error.code, json.loads(error.read())

    code, words = until(refused, "nothing is left")
    _, spent, held = until(lambda: stands(lantern) if stands(lantern)[2] == 0 else None, "nothing is held")
    assert code == 429 and "cap" in json.dumps(words), (code, words)
    assert CAP / 2 < spent <= CAP, f"spent {spent} of {CAP}: {words}"
    say(f"a cap of {CAP} micro-dollars: {spent} spent, {held} held, then {code}")
    lantern.ask("/v1/settings/caps", {"maxCostUsdPerDay": 5})

    lantern.ask("/v1/agents", {"name": "spender", "model": "gpt-4o-mini", "systemPrompt": "You write long stories."})
    run, _ = lantern.run("spender", "Begin.", maxCostUsd=0.000_001)
    assert run["status"] == "failed" and run["costUsd"] == 0, run
    say(f"a run whose cap is below any answer: {run['error']}")


def a_failover(lantern):
    """The first provider is down, so the real model answers under the name of the second."""
    body = {"model": "chat-large", "max_tokens": 20, "messages": [{"role": "user", "content": "Hello"}]}
    with lantern.open("/v1/chat/completions", body, headers={"Lantern-Strategy": "best"}) as answer:
        who, said = answer.headers["lantern-provider"], json.loads(answer.read())
    assert Refusing.asked == 1 and who == "openai", (Refusing.asked, who)
    assert said["usage"]["completion_tokens"] > 0, said
    say("a failover: the first provider was asked once, and the model answered")


def stands(lantern):
    """The cap of a day, and what is spent of it and held, in micro-dollars."""
    caps = [cap for cap in lantern.ask("/v1/settings/caps") if cap["scope"] == "tenant" and cap["period"] == "day"]
    return tuple(round(caps[0][name] * 1_000_000) for name in ("maxCostUsd", "spentUsd", "heldUsd")) if caps else (0, 0, 0)


def until(ask, what):
    while time.monotonic() - BEGUN < LATEST:
        found = ask()
        if found:
            return found
        time.sleep(0.1)
    raise AssertionError(f"in vain: {what}")


def main():
    _, model = start([PYTHON, "-c", MODEL, WEIGHTS], {"PATH": os.environ["PATH"]}, "model.log", stdin=subprocess.PIPE)
    say(f"the model answers at {model}")
    down = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Refusing)
    threading.Thread(target=down.serve_forever, daemon=True).start()
    lantern = Lantern({
        "OPENAI_BASE_URL": model + "/v1",
        "OPENAI_API_KEY": "sk-none-0123456789",
        "ANTHROPIC_BASE_URL": f"http://127.0.0.1:{down.server_address[1]}",
        "ANTHROPIC_API_KEY": "sk-none-0123456789",
    })
    for check in (an_agent, a_schema, a_kill, a_stream, a_budget, a_failover):
        check(lantern)
    say("all held")


try:
    main()
except Exception:
    for name in ("lantern.log", "model.log"):
        path = os.path.join(folder, name)
        if os.path.exists(path):
            print(f"--- {name}\n" + open(path).read()[-3000:], file=sys.stderr)
    raise
finally:
    for process in reversed(started):
        process.kill()
        process.wait()
    shutil.rmtree(folder, ignore_errors=True)

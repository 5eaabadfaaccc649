"""Runs work through an old and a new `lantern serve` on one private PostgreSQL while the new one migrates it.

Every run calls a counter outside, so that what is done twice is seen where it is done. A call may go out again only where the
journal of its run says so. Needs nothing but Python; called by .ci/upgrade.
"""

import collections
import glob
import http.server
import json
import os
import pwd
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request

OLD, NEW = sys.argv[1:3]
LOGIN = {"email": "ada@example.com", "password": "correct horse battery"}
LATEST = time.monotonic() + 180
folder = tempfile.mkdtemp(prefix="lantern-upgrade.")
started = []


def say(words):
    print(f"{180 - (LATEST - time.monotonic()):6.1f}s  {words}", flush=True)


class Counter(http.server.BaseHTTPRequestHandler):
    """Counts the calls by their path."""

    calls = collections.Counter()

    def do_GET(self):
        Counter.calls[self.path] += 1
        body = b'{"counted": true}'
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


class Server:
    """A `lantern serve` process."""

    # By which name each run calls outside.
    names = {}

    def __init__(self, name, program, owner=None):
        self.name, data = name, os.path.join(folder, name)
        url = "host={} user={} dbname=lantern"
        env = {
            "PATH": "/usr/local/bin:/usr/bin:/bin",
            "LANTERN_DATABASE_APP_URL": url.format(folder, "lantern_app"),
            "LANTERN_DATABASE_SYSTEM_URL": url.format(folder, "lantern_system"),
            "LANTERN_CREDENTIAL_KEY": "07" * 32,
            "LANTERN_SPAWN_RATE_PER_MIN": "0",
            "LANTERN_ADMIN_EMAIL": LOGIN["email"],
            "LANTERN_ADMIN_PASSWORD": LOGIN["password"],
            "LOG_LEVEL": "warn",
        }
        if owner:
            env["LANTERN_DATABASE_OWNER_URL"] = owner
        log = open(data + ".log", "a")
        command = [program, "serve", "-o", "json", "--listen", "127.0.0.1:0", "--data-dir", data, "--config", config]
        self.process = subprocess.Popen(command, env=env, stdout=subprocess.PIPE, stderr=log)
        started.append(self.process)
        ready = self.process.stdout.readline()
        assert ready, f"{name} did not start:\n" + open(data + ".log").read()
        self.api = json.loads(ready)["api"]
        self.token = self.ask("/auth/login", LOGIN)["token"]
        say(f"{name} is ready")

    def ask(self, path, body=None):
        headers = {"Content-Type": "application/json", "Authorization": f"Bearer {getattr(self, 'token', '')}"}
        data = None if body is None else json.dumps(body).encode()
        with urllib.request.urlopen(urllib.request.Request(self.api + path, data, headers), timeout=30) as answer:
            return json.loads(answer.read() or "null")

    def start_runs(self, count):
        names = [f"{self.name}-{n}" for n in range(len(Server.names), len(Server.names) + count)]
        ids = [self.ask("/v1/runs", {"agentName": "work", "input": {"name": name}})["id"] for name in names]
        Server.names.update(zip(ids, names))
        say(f"{count} runs were asked of {self.name}")
        return ids

    def events(self, run):
        headers = {"Authorization": f"Bearer {self.token}"}
        request = urllib.request.Request(f"{self.api}/v1/runs/{run}/events", headers=headers)
        with urllib.request.urlopen(request, timeout=30) as stream:
            lines = stream.read().decode().splitlines()
        frames = [json.loads(line[5:]) for line in lines if line.startswith("data:")]
        return [frame for frame in frames if "seq" in frame]

    def stop(self, how):
        self.process.send_signal(how)
        self.process.wait(40)
        say(f"{self.name} got {how.name}")


def postgres():
    """Starts a cluster as somebody else than root, and answers the URL of its owner."""
    bins = sorted(glob.glob("/usr/lib/postgresql/*/bin"), key=lambda path: int(path.split("/")[-2]))
    bins = bins or [subprocess.check_output(["pg_config", "--bindir"], text=True).strip()]
    user = {}
    if os.geteuid() == 0:
        names = [name for name in ("postgres", "nobody") if name in {entry.pw_name for entry in pwd.getpwall()}]
        user = {"user": names[0], "cwd": "/"}
        shutil.chown(folder, names[0])
    data = os.path.join(folder, "data")
    run = lambda program, *args: subprocess.run([f"{bins[-1]}/{program}", *args], check=True, stdout=subprocess.DEVNULL, **user)
    run("initdb", "-D", data, "-U", "postgres", "--auth=trust", "-E", "UTF8", "--locale=C", "--no-sync")
    options = f"-k {folder} -c listen_addresses= -c max_connections=100 -c fsync=off"
    run("pg_ctl", "-s", "-w", "-D", data, "-l", os.path.join(data, "log"), "-o", options, "start")
    started.append(lambda: run("pg_ctl", "-s", "-D", data, "-m", "immediate", "stop"))
    run("createdb", "-h", folder, "-U", "postgres", "lantern")
    return f"host={folder} user=postgres dbname=lantern"


def main():
    counter = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Counter)
    threading.Thread(target=counter.serve_forever, daemon=True).start()
    outside = f"http://127.0.0.1:{counter.server_address[1]}"
    owner = postgres()
    env = {"LANTERN_DATABASE_OWNER_URL": owner, "LANTERN_DATABASE_APP_PASSWORD": "a" * 16, "LANTERN_DATABASE_SYSTEM_PASSWORD": "b" * 16}
    subprocess.run([OLD, "migrate", "--create-roles"], env=env, check=True, stdout=subprocess.DEVNULL)

    old = [Server("old-1", OLD), Server("old-2", OLD)]
    call = lambda id: {"id": id, "kind": "tool", "data": {"tool": "http.fetch", "arguments": {"url": outside + "/{{input.name}}/" + id}}}
    nap = lambda id: {"id": id, "kind": "sleep", "data": {"durationMs": 2500}}
    steps = [call("first"), nap("nap"), call("second"), nap("again"), call("third")]
    old[0].ask("/v1/agents", {"name": "work", "program": "steps", "steps": steps})
    runs = old[0].start_runs(30)

    new = Server("new", NEW, owner)
    say("and has migrated the database under the old ones")
    runs += new.start_runs(30) + old[1].start_runs(30)
    old[0].stop(signal.SIGKILL)
    runs += new.start_runs(20)
    new.stop(signal.SIGKILL)
    runs += old[1].start_runs(10)
    new = Server("new-again", NEW, owner)
    runs += new.start_runs(10)
    old[1].stop(signal.SIGTERM)
    check(new, runs, [step["id"] for step in steps if step["kind"] == "tool"])


def check(server, runs, steps):
    """Every run is whole, and no call went out more often than its journal says."""
    again, log = 0, {}
    for run in runs:
        while (row := server.ask(f"/v1/runs/{run}"))["status"] not in ("succeeded", "failed", "cancelled"):
            assert time.monotonic() < LATEST, f"{run} is still {row['status']}: {row}"
            time.sleep(0.2)
        assert row["status"] == "succeeded", row
        events = log[run] = server.events(run)
        assert [event["seq"] for event in events] == list(range(1, len(events) + 1)), f"{run} has gaps"
        done = collections.Counter(event["stepId"] for event in events if event["kind"] == "step_completed")
        assert all(done[step] == 1 for step in steps), f"{run} did {done}"
        for step in steps:
            told = sum(event.get("stepId") == step and event["kind"] in ("step_reissued", "step_retrying") for event in events)
            seen = Counter.calls[f"/{Server.names[run]}/{step}"]
            assert 1 <= seen <= 1 + told, f"{run} called {step} {seen} times and says {told} were again"
            again += seen - 1
    for one, other in zip(runs, runs[1:]):
        # Folds both from their first events and checks the chains of their journals.
        assert server.ask(f"/v1/runs/{one}/diff/{other}")["sharedSteps"] >= 0
    assert len(set(runs)) == len(runs) == len({path.split("/")[1] for path in Counter.calls}), "somebody else called"
    say(f"{len(runs)} runs ended well; {sum(Counter.calls.values())} calls, {again} of them again, as their journals say")


config = os.path.join(folder, "lantern.toml")
with open(config, "w") as file:
    file.write('[tools]\nprivate_addresses = ["127.0.0.1"]\n')
os.chmod(folder, 0o755)
try:
    main()
finally:
    for thing in reversed(started):
        if callable(thing):
            thing()
        elif thing.poll() is None:
            thing.kill()
            thing.wait()
    shutil.rmtree(folder, ignore_errors=True)

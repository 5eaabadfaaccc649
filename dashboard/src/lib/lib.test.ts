import { describe, expect, test } from "vitest";
import { address } from "../api/client";
import { hear, silence } from "./chat";
import { auditCommand, auditQuery, ofField, readAudit, toField } from "./audit";
import { budgetBody, budgetCommand, byOwner, dayPasses } from "./caps";
import { clientName } from "./client-name";
import { asCommand, asQuery, readFilters, toggle, writeFilters } from "./filters";
import { count, duration, firstLine, money, relative, shell } from "./format";
import { gaps } from "./gaps";
import { merge } from "./pages";
import { ROLES, givable, offers, slipLink, slipOf } from "./people";
import { fit, ranked } from "./rank";
import { FrameReader, pause } from "./sse";
import { diffLines, hintFor, typed } from "./value";

describe("frames of a stream", () => {
  const stream = "id: 1\nevent: run_started\ndata: {\"a\":1}\n\n: a comment\n\nid: 2\r\nevent: x\r\ndata: one\r\ndata: two\r\n\r\ndata:🏮 end\n\n";
  const want = [
    { id: "1", event: "run_started", data: "{\"a\":1}" },
    { id: "2", event: "x", data: "one\ntwo" },
    { data: "🏮 end" },
  ];
  test("are the same wherever the stream is torn", () => {
    for (let at = 0; at <= stream.length; at++) {
      const reader = new FrameReader();
      expect([...reader.push(stream.slice(0, at)), ...reader.push(stream.slice(at))], `torn at ${at}`).toEqual(want);
    }
    const reader = new FrameReader();
    expect([...stream].flatMap((letter) => reader.push(letter))).toEqual(want);
  });
  test("that never end are none", () => {
    expect(new FrameReader().push("data: half\n")).toEqual([]);
  });
  test("are waited for longer after each failure, and never for ever", () => {
    const waits = [1, 2, 3, 6, 60].map((failures) => pause(failures, 1));
    expect(waits).toEqual([500, 1_000, 2_000, 5_000, 5_000]);
    expect(pause(1, 0)).toBe(250);
  });
});

describe("amounts and times", () => {
  test("a cost that is not nothing never reads as nothing", () => {
    for (const [usd, want] of [[0, "$0.00"], [0.000001, "$0.000001"], [0.0034, "$0.0034"], [0.5, "$0.50"], [1234.567, "$1,234.57"], [-2, "−$2.00"]] as const) {
      expect(money(usd)).toBe(want);
    }
  });
  test("durations", () => {
    for (const [ms, want] of [[0.2, "<1 ms"], [12.4, "12 ms"], [1_500, "1.5 s"], [61_000, "1 min 1 s"], [3_700_000, "1 h 1 min"], [259_200_000, "3 d 0 h"]] as const) {
      expect(duration(ms)).toBe(want);
    }
  });
  test("how long ago, and how long from now", () => {
    for (const [ms, want] of [[1_000, "just now"], [30_000, "30 s ago"], [119_000, "1 min ago"], [7_200_000, "2 h ago"], [-604_799_000, "in 7 d"], [-2_000, "in a moment"]] as const) {
      expect(relative(1_000_000_000, 1_000_000_000 + ms)).toBe(want);
    }
  });
  test("counts", () => expect(count(1_234_567)).toBe("1,234,567"));
  test("a first line is cut between letters", () => {
    expect(firstLine("\n\n  one\ntwo")).toBe("one");
    expect(firstLine("🏮🏮🏮🏮", 3)).toBe("🏮🏮…");
  });
  test("words for a shell", () => {
    for (const [word, want] of [["plain-1.x", "plain-1.x"], ["two words", "'two words'"], ["it's; rm -rf /", `'it'\\''s; rm -rf /'`], ["$(x)", "'$(x)'"], ["", "''"]] as const) {
      expect(shell(word)).toBe(want);
    }
  });
});

describe("filters in an address", () => {
  test("are read, written and asked the same", () => {
    const filters = readFilters({ status: "failed,queued,nonsense", agent: " release ", q: "", other: "x" });
    expect(filters).toEqual({ status: ["queued", "failed"], agent: "release" });
    expect(readFilters(writeFilters(filters))).toEqual(filters);
    expect(asQuery(filters)).toEqual({ status: "queued,failed", agent: "release" });
    expect(asCommand({ ...filters, q: "a b" }, shell)).toBe("lantern runs list --agent release --status queued,failed --query 'a b'");
  });
  test("are switched on and off", () => {
    expect(toggle(toggle({}, "failed"), "queued").status).toEqual(["queued", "failed"]);
    expect(toggle({ status: ["failed"] }, "failed")).toEqual({});
  });
  test("an address holds any word", () => {
    expect(address("/v1/agents/{name}/versions", { path: { name: "a/b?c" }, query: { "created[gte]": "x y", none: undefined } })).toBe("/v1/agents/a%2Fb%3Fc/versions?created%5Bgte%5D=x+y");
  });
});

describe("a list whose head changes", () => {
  test("has each row once, the newest state of it, and the new on top", () => {
    const rows = merge([{ id: "c", n: 1 }, { id: "b", n: 2 }], [[{ id: "b", n: 1 }, { id: "a", n: 1 }], [{ id: "a", n: 1 }]]);
    expect(rows).toEqual([{ id: "c", n: 1 }, { id: "b", n: 2 }, { id: "a", n: 1 }]);
  });
});

describe("what somebody means", () => {
  test("beginnings come before middles before scattered letters", () => {
    expect(ranked("run", ["Start a run", "Runs", "return", "other", "prune"], (name) => name)).toEqual(["Runs", "Start a run", "prune", "return"]);
    expect(fit("zz", "Runs")).toBeUndefined();
  });
  test("JSON is a value and the rest is text", () => {
    for (const [text, want] of [["", undefined], [" 5 ", 5], ['{"a":1}', { a: 1 }], ["hello", "hello"], ["{oops", "{oops"]] as const) expect(typed(text)).toEqual(want);
  });
  test("every refusal has a hint", () => {
    const known = { run_finished: "x" };
    expect([hintFor("run_finished", 409, known), hintFor("what", 404, known), hintFor("what", 400, known), hintFor("what", 503, known), hintFor("what", 500, known), hintFor("what", 409, known)])
      .toEqual(["run_finished", "not_found", "invalid", "busy", "internal", "other"]);
  });
  test("lines of a diff", () => {
    expect(diffLines("@@ -1 +1 @@\n-a\n+b\n c\n").map(({ kind }) => kind)).toEqual(["at", "del", "add", "same"]);
    expect(diffLines("")).toEqual([]);
  });
});

describe("a conversation", () => {
  const at = "2026-11-30T02:49:03Z";
  const frames = [
    { type: "connected", data: {} },
    { id: "1", type: "user.message", data: { content: "12*7?", runId: "r" }, timestamp: at },
    { id: "2", type: "agent.thinking", data: { runId: "r", status: "thinking", step: "llm-1" }, timestamp: at },
    { id: "3", type: "agent.tool_call_started", data: { name: "calc", args: "{}", step: "t" }, timestamp: at },
    { id: "4", type: "agent.tool_call_completed", data: { name: "calc", args: "{}", result: "84", step: "t" }, timestamp: at },
    { type: "agent.delta", data: { content: "It is ", runId: "r", step: "llm-2", offset: "0" }, timestamp: at },
    { type: "agent.delta", data: { content: "84", runId: "r", step: "llm-2", offset: "6" }, timestamp: at },
  ];
  test("shows the answer as it comes, with its tools", () => {
    const talk = hear(silence(), frames);
    expect(talk.said.map(({ role, text }) => [role, text])).toEqual([["user", "12*7?"], ["assistant", "It is 84"]]);
    expect(talk.said[1]?.tools).toEqual([{ step: "t", name: "calc", args: "{}", result: "84", error: undefined, status: "completed" }]);
    expect([talk.working, talk.doing]).toEqual(["r", "thinking"]);
  });
  test("takes nothing twice, whatever comes again", () => {
    const once = hear(silence(), frames);
    expect(hear(once, frames)).toEqual(once);
  });
  test("ends with the message, and says why when there is none", () => {
    const done = hear(hear(silence(), frames), [
      { id: "5", type: "agent.message", data: { content: "It is 84.", runId: "r", step: "llm-2" }, timestamp: at },
      { id: "6", type: "session.status_idle", data: { status: "succeeded", runId: "r" }, timestamp: at },
    ]);
    expect([done.said.at(-1)?.text, done.working]).toEqual(["It is 84.", undefined]);
    const failed = hear(silence(), [frames[1]!, { id: "2", type: "session.status_idle", data: { status: "failed", runId: "r", code: "no_llm", error: "none" }, timestamp: at }]);
    expect(failed.said.at(-1)?.failed).toBe("no_llm: none");
    const waits = hear(silence(), [frames[1]!, { id: "2", type: "agent.thinking", data: { status: "waiting_for_approval", runId: "r" }, timestamp: at }]);
    expect(waits.doing).toBe("waiting");
    expect(hear(waits, [{ id: "3", type: "session.stopped", data: {}, timestamp: at }]).stopped).toBe(true);
  });
});

describe("people", () => {
  const one = (role: string, id = "1") => ({ role, id });
  test("give no role above their own, and none below an admin", () => {
    expect(ROLES.map((role) => givable(role))).toEqual([[], [], ["viewer", "member", "admin"], ["viewer", "member", "admin", "owner"]]);
    expect([givable(undefined), givable("service")]).toEqual([[], []]);
  });
  test("are offered nothing about somebody above, nor an equal's password", () => {
    for (const [by, to, change, want] of [
      ["viewer", "viewer", "remove", false],
      ["member", "viewer", "role", false],
      ["admin", "owner", "remove", false],
      ["admin", "admin", "remove", true],
      ["admin", "admin", "reset", false],
      ["admin", "member", "reset", true],
      ["owner", "owner", "removeCode", true],
      ["owner", "owner", "signOut", true],
    ] as const) {
      expect(offers(one(by), one(to, "2"), change), `${by} ${change} ${to}`).toBe(want);
    }
    expect([offers(one("owner"), one("owner"), "reset"), offers(one("owner"), one("owner"), "role"), offers(undefined, one("viewer"), "role")]).toEqual([false, true, false]);
  });
  test("hand a slip on behind the #, and take it alone or in its link", () => {
    const link = slipLink("https://lantern.example", "invitation", "hlx_inv_AA-_");
    expect(new URL(link).pathname + new URL(link).search).toBe("/invitation");
    for (const text of [link, ` ${link}\n`, "hlx_inv_AA-_", new URL(link).hash]) expect(slipOf(text)).toBe("hlx_inv_AA-_");
    expect(slipOf("")).toBe("");
  });
});

test("a browser is called by its name and its system, and a program as it calls itself", () => {
  for (const [text, want] of [
    ["Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/131.0.0.0 Safari/537.36", "Chrome, Linux"],
    ["Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/131.0.0.0 Safari/537.36 Edg/131.0.0.0", "Edge, Windows"],
    ["Mozilla/5.0 (iPhone; CPU iPhone OS 18_1 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/18.1 Mobile/15E148 Safari/604.1", "Safari, iOS"],
    ["Mozilla/5.0 (Macintosh; Intel Mac OS X 10.15; rv:133.0) Gecko/20100101 Firefox/133.0", "Firefox, macOS"],
    ["Mozilla/5.0 (Linux; Android 15) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/131.0.0.0 Mobile Safari/537.36", "Chrome, Android"],
    ["lantern/0.1.0", "lantern/0.1.0"],
    ["", ""],
  ] as const) {
    expect(clientName(text)).toBe(want);
  }
});

test("the filters of the audit log are read, asked and said, and what is none is dropped", () => {
  const who = "01a22b58-0000-7000-8000-000000000000";
  const all = readAudit({ who, action: " agents.update ", outcome: "denied", since: "2026-01-31T12:00:00+01:00", until: "2026-02-01", entry: "7" });
  expect(all).toEqual({ who, action: "agents.update", outcome: "denied", since: "2026-01-31T11:00:00.000Z", until: "2026-02-01T00:00:00.000Z" });
  expect(auditQuery(all)).toMatchObject({ principalId: who, action: "agents.update" });
  expect(auditCommand(all, shell)).toBe(`lantern audit list --action agents.update --outcome denied --principal ${who} --since 2026-01-31T11:00:00.000Z --until 2026-02-01T00:00:00.000Z`);
  expect(readAudit({ who: "me", action: " ", outcome: "x", since: "soon", until: 7 })).toEqual({});
  expect(auditCommand({}, shell)).toBe("lantern audit list");
  expect([ofField(""), toField(undefined), ofField(toField("2026-01-31T11:00:00.000Z"))]).toEqual([undefined, "", "2026-01-31T11:00:00.000Z"]);
});

test("caps are put together by whose they are", () => {
  const cap = (scope: string, period: string, more = {}) => ({ scope, period, ...more });
  const found = byOwner([cap("apiKey", "day", { apiKeyId: "k" }), cap("agent", "month", { agentName: "b" }), cap("agent", "day", { agentName: "b" }), cap("agent", "day", { agentName: "a" }), cap("tenant", "month"), cap("tenant", "day")]);
  expect(found.map(({ scope, id, caps }) => [scope, id, caps.map(({ period }) => period).join()])).toEqual([["tenant", "", "day,month"], ["agent", "a", "day"], ["agent", "b", "day,month"], ["apiKey", "k", "day"]]);
});

test("a budget is sent whole, and said as a command", () => {
  const form = { day: " 0.50 ", month: "", run: "0.1", notifyAt: "", onLimit: "ask", runs: "", tools: {} } as const;
  const counted = { ...form, runs: "20", tools: { "http.fetch": 9 } };
  expect(budgetBody(counted)).toMatchObject({ maxRunsPerDay: 20, toolLimits: { "http.fetch": 9 } });
  expect(budgetCommand("a", counted, shell)).toBe("lantern budgets set a --day 0.50 --run 0.1 --runs-per-day 20 --tool http.fetch=9 --on-limit ask");
  expect(budgetBody(form)).toEqual({ maxCostUsdPerDay: "0.50", maxCostUsdPerMonth: undefined, maxCostUsdPerRun: "0.1", notifyAtPct: undefined, hardFail: false, onLimit: "ask" });
  expect(budgetBody({ ...form, notifyAt: "90", onLimit: "stop" })).toMatchObject({ notifyAtPct: 90, hardFail: true, onLimit: "stop" });
  expect(budgetCommand("a b", form, shell)).toBe("lantern budgets set 'a b' --day 0.50 --run 0.1 --on-limit ask");
  expect([dayPasses("1", "0.999999"), dayPasses("1", "1"), dayPasses("", "1"), dayPasses("2", "much")]).toEqual([true, false, false, false]);
});

test("the numbers that a list leaves out are found", () => {
  const none = undefined;
  for (const [numbers, size, whole, want] of [
    [[2, 1, 0], 3, true, [none, none, none, none]],
    [[5, 2, 1], 8, false, [{ from: 6, to: 7 }, { from: 3, to: 4 }, none, none]],
    [[5, 2, 1], none, true, [none, { from: 3, to: 4 }, none, { from: 0, to: 0 }]],
    [[], 3, true, [{ from: 0, to: 2 }]],
    [[], 0, true, [none]],
    [[], none, false, [none]],
  ] as const) {
    expect(gaps(numbers, size, whole), JSON.stringify([numbers, size, whole])).toEqual(want);
  }
});

import { expect, test } from "vitest";
import { type RunEvent, before, budgetAsks, nothing, record, waterfall } from "./recorder";

const BEGAN = Date.parse("2026-11-30T02:45:00Z");
let seq = 0;
function event(kind: string, ms: number, stepId?: string, data: Record<string, unknown> = {}, attempt = 1): RunEvent {
  seq += 1;
  return { seq, kind, stepId, attempt, data, ts: new Date(BEGAN + ms).toISOString() };
}
function story(...events: [string, number, string?, Record<string, unknown>?, number?][]): RunEvent[] {
  seq = 0;
  return events.map(([kind, ms, step, data, attempt]) => event(kind, ms, step, data, attempt));
}

const SUM = story(
  ["run_started", 0, undefined, { input: { n: 1 }, capUsd: 5 }],
  ["step_started", 10, "llm-1", { name: "llm-1", type: "llm", effect: "keyed", arguments: { turn: 1 } }],
  ["step_admitted", 20, "llm-1", { holdUsd: 0.5, provider: "p", model: "m" }],
  ["step_retrying", 30, "llm-1", { code: "provider_timeout", error: "slow", cost_usd: 0.1, due: "2026-11-30T02:45:01Z" }],
  ["step_admitted", 40, "llm-1", { holdUsd: 0.5, provider: "p", model: "m" }, 2],
  ["step_completed", 60, "llm-1", { result: "hi", tokens_in: 5, tokens_out: 7, cost_usd: 0.2, toolCalls: [{ id: "a", name: "calc", arguments: "{}" }], finish: "tool_calls" }],
  ["step_started", 60, "llm-1.tool-1", { name: "pay", type: "tool", parent: "llm-1", effect: "irreversible", arguments: { x: 1 } }],
  ["step_admitted", 70, "llm-1.tool-1", {}],
  ["step_in_doubt", 80, "llm-1.tool-1", { code: "crashed", error: "nobody knows" }],
);

test("a run is the fold of its events, however they arrive", () => {
  const whole = record(nothing(), SUM);
  let pieces = nothing();
  for (const one of SUM) pieces = record(pieces, [one]);
  expect(pieces).toEqual(whole);
  // Told again, as after a lost connection, it is the same.
  expect(record(whole, SUM)).toEqual(whole);
  expect(whole.events).toHaveLength(SUM.length);
  expect(whole.capUsd).toBe(5);
});

test("what is given is not changed", () => {
  const before = record(nothing(), SUM.slice(0, 3));
  const copy = structuredClone(before);
  record(before, SUM.slice(3));
  expect(before).toEqual(copy);
});

test("a step tells its retries, its doubt and its cost", () => {
  const { steps } = record(nothing(), SUM);
  const call = steps.get("llm-1");
  expect(call).toMatchObject({ state: "done", attempt: 2, tokensIn: 5, tokensOut: 7, provider: "p", model: "m", heldUsd: 0, output: "hi" });
  expect(call?.costUsd).toBeCloseTo(0.3);
  expect(call?.marks).toEqual([{ at: BEGAN + 30, kind: "retry", text: "provider_timeout: slow" }]);
  expect(steps.get("llm-1.tool-1")).toMatchObject({ state: "in_doubt", parent: "llm-1", effect: "irreversible", marks: [{ kind: "doubt" }] });
});

test("an approval is asked and decided", () => {
  const events = story(
    ["run_started", 0],
    ["step_started", 1, "ship", { name: "ship", type: "approval" }],
    ["approval_requested", 1, "ship", { expiresAt: "x" }],
    ["approval_granted", 9, "ship", { by: "ada", note: "fine" }],
    ["step_completed", 9, "ship", { type: "approval", output: { approved: true } }],
    ["run_succeeded", 9, undefined, { output: { result: "ok" } }],
  );
  const run = record(nothing(), events);
  expect(run.steps.get("ship")).toMatchObject({ approval: "granted", decidedBy: "ada", note: "fine", state: "done" });
  expect(run.endedAt).toBe(BEGAN + 9);
});

test("a question about a budget is known to the run that waits, until it is over", () => {
  const asked = story(["run_started", 0], ["step_started", 1, "s", { name: "s", type: "llm" }], ["budget_asked", 2, "s", { approvalId: "a", owner: "agent", expiresAt: "2026-12-01T00:00:00Z" }]);
  expect(budgetAsks(record(nothing(), asked))).toEqual(["a"]);
  const over = record(nothing(), [...asked, { ...event("budget_answered", 3, "s", { status: "granted", moreUsd: 0.5 }), seq: asked.length + 1 }]);
  expect(budgetAsks(over)).toEqual([]);
  expect(over.steps.get("s")?.marks.map(({ kind, text }) => [kind, text])).toEqual([["asked", ""], ["answered", "granted"]]);
});

test("what a model says is told once, whichever pieces come again", () => {
  const delta = (offset: number, text: string, generation = 1): RunEvent => ({ seq: 0, kind: "llm_delta", stepId: "llm-1", data: { offset, text, generation } });
  const working = record(nothing(), SUM.slice(0, 3));
  const said = (...pieces: RunEvent[]) => record(working, pieces).steps.get("llm-1")?.saying;
  expect(said(delta(0, "héllo"), delta(6, " you"))).toBe("héllo you");
  expect(said(delta(0, "héllo"), delta(0, "héllo"), delta(6, " you"))).toBe("héllo you");
  expect(said(delta(40, "the end"))).toBe("…the end");
  expect(said(delta(0, "first"), delta(0, "second", 2))).toBe("second");
  expect(record(record(working, [delta(0, "x")]), SUM.slice(3)).steps.get("llm-1")?.saying).toBeUndefined();
});

test("events of kinds from the future are kept and change nothing else", () => {
  const run = record(nothing(), story(["run_started", 0], ["step_teleported", 5, "s", { name: "s" }]));
  expect(run.events).toHaveLength(2);
  expect(run.steps.get("s")?.state).toBe("waiting");
});

test("bars lie where they belong, and none beyond the end", () => {
  const run = record(nothing(), SUM);
  const bars = waterfall(run, BEGAN + 100);
  expect(bars.map(({ left, width, depth }) => [Math.round(left), Math.round(width), depth])).toEqual([[10, 50, 0], [60, 40, 1]]);
  expect(bars[0]?.queued).toBeCloseTo(20);
  for (const { left, width } of waterfall(run, BEGAN - 50_000)) {
    expect(left).toBeGreaterThanOrEqual(0);
    expect(left + width).toBeLessThanOrEqual(100.001);
  }
});

test("a model call came after what began before it", () => {
  const run = record(nothing(), [...SUM, { ...event("step_started", 90, "llm-2", { name: "llm-2", type: "llm" }), seq: SUM.length + 1 }]);
  const ids = (id: string) => before(run, run.steps.get(id) as never).map((step) => step.id);
  expect([ids("llm-1"), ids("llm-2")]).toEqual([[], ["llm-1", "llm-1.tool-1"]]);
});

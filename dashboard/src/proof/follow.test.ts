// What follows from caps and choices that were recorded is believed, and nothing else is: each lie is signed anew, and found at its event.
import { describe, expect, test } from "vitest";
import { verify } from "./receipt";
import { LIAR, RECEIPTS, type Story, insert, lie, signed, withEvent } from "./story";

const check = (story: Story) => verify(new TextEncoder().encode(signed(story)), [LIAR]);
const BEGAN = 1_800_000_000_000_000;
const DAY = 86_400_000_000;
const PAID = '"priceSource":"catalogue"';

test("caps and choices that are recorded are counted", async () => {
  let choices = 0;
  for (const [name, text] of RECEIPTS) {
    const { followed } = await verify(new TextEncoder().encode(text), []);
    // Of denials no choice is counted: they record what was left out and ask nobody.
    const admitted = text.split('"type":"StepAdmitted"').slice(1).filter((rest) => rest.split('"seq":')[0]?.includes('"choice":{')).length;
    expect(followed, name).toEqual({ caps: 0, choices: admitted });
    choices += admitted;
  }
  expect(choices).toBeGreaterThan(3);
});

describe("a hold", () => {
  const account = (of: string, began: number, [cap, spent, held, slice]: number[]) => ({ of, period: "day", began, cap, spent, held, slice });
  test.each([
    [true, account("tenant", BEGAN, [1_000_000, 5, 100_000, 100_000])],
    [true, account("agent", BEGAN, [100_005, 5, 100_000, 50_000])],
    [false, account("tenant", BEGAN, [1_000_000, 5, 100_000, 0])],
    [false, account("tenant", BEGAN, [1_000_000, 5, 100_000, 100_001])],
    [false, account("tenant", BEGAN, [100_004, 5, 100_000, 100_000])],
    [false, account("key", BEGAN, [1_000_000, 5, 100_000, 100_000])],
    [false, account("tenant", BEGAN + DAY, [1_000_000, 5, 100_000, 100_000])],
    [false, { ...account("tenant", BEGAN, [1_000_000, 5, 100_000, 100_000]), period: "week" }],
    [false, { ...account("tenant", BEGAN, [1_000_000, 5, 100_000, 100_000]), spent: -1 }],
    [false, { ...account("tenant", BEGAN, [1_000_000, 5, 100_000, 100_000]), slice: undefined }],
  ])("may pass within the caps that it names: %s %j", async (may, named) => {
    const story = withEvent(PAID, '"choice"');
    const seq = lie(story, '"choice"', ']}},"policy"', `]},"accounts":[${JSON.stringify(named)}]},"policy"`);
    const { fault, followed } = await check(story);
    if (may) expect([fault, followed?.caps]).toEqual([undefined, 1]);
    else expect(fault).toMatchObject({ check: "caps", event: seq });
  });
});

describe("a denial", () => {
  /** 567 bytes and 70 tokens at these prices come to 166 millionths at the most. */
  const MOST = 124 + 42;
  test.each([
    [true, 1_000, 1_000 - MOST + 1],
    [false, 1_000, 1_000 - MOST],
    [false, 1_000_000, 0],
  ])("by a cap had to be: %s of %i with %i spent", async (holds, cap, spent) => {
    const story = withEvent('"grounds"', '"route"');
    const named = { of: "tenant", period: "month", began: BEGAN, cap, spent, held: 0 };
    const seq = lie(story, '"grounds"', '"grounds":{', `"grounds":{"account":${JSON.stringify(named)},`);
    const { fault, followed } = await check(story);
    if (holds) expect([fault, followed?.caps]).toEqual([undefined, 1]);
    else expect(fault).toMatchObject({ check: "caps", event: seq });
  });

  test("by a cap names what it could have cost", async () => {
    const story = withEvent('"grounds"', '"tool"');
    const seq = lie(story, '"grounds"', '"grounds":{', `"grounds":{"account":{"of":"agent","period":"day","began":${BEGAN},"cap":1,"spent":1,"held":0},`);
    expect((await check(story)).fault).toMatchObject({ check: "caps", event: seq });
  });

  test("has the run's money as it stood", async () => {
    const story = withEvent('"grounds"');
    const seq = lie(story, '"grounds"', '"spent":', '"spent":1');
    expect((await check(story)).fault).toMatchObject({ check: "ledger", event: seq });
  });
});

test.each([
  ['"out":"over_budget"', ',"out":"over_budget"', ""],
  ['"out":"tried"', ',"out":"tried"', ""],
  ['"choice"', '"model":"gpt-4o-mini"}]}}', '"model":"gpt-4o-mini","key":1}]}}'],
  ['"choice"', '"model":"gpt-4o-mini"}]}}', '"model":"gpt-4o"}]}}'],
  ['"choice"', '"model":"gpt-4o-mini"}]}}', '"model":"gpt-4o-mini","out":"tried"}]}}'],
])("the first way that was not left out is asked: %s, %s as %s", async (words, from, to) => {
  const story = withEvent(words, '"type":"StepAdmitted"');
  // Of several events that tell of it, the first that has a grant.
  const seq = lie(story, '"type":"StepAdmitted"', from, to);
  const { fault, held } = await check(story);
  expect(fault).toMatchObject({ check: "choices", event: seq });
  expect(held).toContain("ledger");
});

const OVER = { owner: "tenant", period: "day", beganAt: 0, endsAt: DAY, asked: 0, cap: 10, spent: 9, hold: 100 };
test.each([
  [["CapAsked", "CapAnswered"], true],
  [["CapAsked", "CapAnswered", "CapAsked", "CapAnswered"], true],
  [["CapAsked"], false],
  [["CapAnswered"], false],
  [["CapAsked", "CapAsked", "CapAnswered"], false],
])("a question about a cap is answered before its step is admitted: %j", async (kinds, holds) => {
  const story = withEvent('"route":');
  insert(story, '"route":', ({ step }) => kinds.map((type) => ({ type, step, ...(type === "CapAsked" ? { over: OVER } : { answer: { status: "granted", by: "ada", more: 5 } }) })));
  const { fault } = await check(story);
  if (holds) expect(fault).toBeUndefined();
  else expect(fault).toMatchObject({ check: "caps" });
});

test.each([
  [[{ call: "a" }, { call: "b" }], true],
  [[{ call: "a" }, { call: "a" }], false],
  [[{ call: "a", hold: 0, lost: true }], true],
  [[{ call: "a", hold: 5, lost: true }], false],
  [[{ hold: 0 }], false],
])("a call of a program in a box is told once, and a lost one costs what was held: %j", async (calls, holds) => {
  const story = withEvent('"provider":', '"type":"StepSettled"');
  const models = JSON.parse(story.payload.get("models") ?? "[]") as string[];
  const [provider, model] = (models[0] ?? "/").split("/");
  const seq = insert(story, '"type":"StepRequested"', () => calls.map((call) => ({ type: "CallMetered", provider, model, hold: 0, cost: 0, ...call })));
  const { fault } = await check(story);
  if (holds) expect(fault).toBeUndefined();
  else expect(fault).toMatchObject({ check: "ledger", event: seq - 1 });
});

test("of several events that do not follow, the first is named", async () => {
  const story = withEvent('"out":"over_budget"', '"type":"StepAdmitted"');
  const seq = lie(story, '"type":"StepAdmitted"', ',"out":"over_budget"', "");
  lie(story, '"type":"Finished"', '"outcome":"', '"outcome":"x');
  const { fault, held, also } = await check(story);
  expect(fault).toMatchObject({ check: "choices", event: seq });
  expect([held.includes("ledger"), held.includes("caps"), also]).toEqual([false, true, ["ledger"]]);
});

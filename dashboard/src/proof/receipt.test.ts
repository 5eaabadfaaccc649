// The receipts that are recorded hold, and nothing that was changed does: the same as the two other verifiers are held to.
import { describe, expect, test } from "vitest";
import { CHECKS, type Verdict, readKeys, verify } from "./receipt";
import { KEYS, LIAR, RECEIPTS, lie, put, signed, told, withEvent } from "./story";

const utf8 = (text: string) => new TextEncoder().encode(text);
const check = (text: string, keys = KEYS): Promise<Verdict> => verify(utf8(text), keys);
const first = RECEIPTS[0]?.[1] ?? "";

describe("a recorded receipt", () => {
  test.each(RECEIPTS)("%s holds, by a key that is trusted", async (_, text) => {
    const verdict = await check(text);
    expect(verdict).toMatchObject({ held: CHECKS, fault: undefined, trusted: true });
    expect(await check(text, [])).toMatchObject({ held: CHECKS, fault: undefined, trusted: false });
    expect(await check(text, [LIAR])).toMatchObject({ held: ["form"], fault: { check: "key" }, trusted: false });
  });
});

/** SplitMix64: the same numbers every time. */
function dice(seed: bigint): (n: number) => number {
  const MASK = 2n ** 64n - 1n;
  let state = seed;
  return (n) => {
    state = (state + 0x9e3779b97f4a7c15n) & MASK;
    let z = state;
    z = ((z ^ (z >> 30n)) * 0xbf58476d1ce4e5b9n) & MASK;
    z = ((z ^ (z >> 27n)) * 0x94d049bb133111ebn) & MASK;
    return Number((z ^ (z >> 31n)) % BigInt(Math.max(n, 1)));
  };
}
const at = <T>(list: T[], n: number): T => list[n] as T;

const KINDS: Record<string, (roll: (n: number) => number, text: string, other: string) => Uint8Array> = {
  flipped: (roll, text) => {
    const bytes = utf8(text);
    const n = roll(bytes.length);
    bytes[n] = (bytes[n] ?? 0) ^ (1 << roll(8));
    return bytes;
  },
  digit: (roll, text) => {
    const digits = [...text.matchAll(/(?<=:)\d+(?=[,}])/g)];
    const { 0: number, index } = at(digits, roll(digits.length));
    return utf8(text.slice(0, index) + String(BigInt(number) + BigInt(1 + roll(9))) + text.slice(index + number.length));
  },
  reordered: (roll, text) => {
    const story = told(text);
    const n = roll(story.appends.length);
    const { events } = at(story.appends, n);
    const one = roll(events.length);
    const how = roll(4);
    if (how === 0) [story.appends[0], story.appends[n]] = [at(story.appends, n), at(story.appends, 0)];
    else if (how === 1) events.splice(one, 1);
    else if (how === 2) events.push(at(events, one));
    else story.appends.splice(n, 1);
    return utf8(put(story));
  },
  truncated: (roll, text) => utf8(text).slice(0, roll(utf8(text).length)),
  spliced: (roll, text, other) => {
    const [own, theirs] = [told(text), told(other)];
    const n = roll(own.appends.length);
    const taken = at(theirs.appends, roll(theirs.appends.length));
    if (roll(2) === 0) own.appends[n] = taken;
    else at(own.appends, n).body = taken.body;
    if (roll(3) === 0) own.rest = theirs.rest;
    return utf8(put(own));
  },
};

describe("what was changed", () => {
  test.each(Object.keys(KINDS))("is not believed: %s", async (kind) => {
    const roll = dice(2n);
    const whole = new Set(RECEIPTS.map(([, text]) => text));
    for (let n = 0; n < 200; ) {
      const [name, text] = at(RECEIPTS, roll(RECEIPTS.length));
      const changed = KINDS[kind]?.(roll, text, at(RECEIPTS, roll(RECEIPTS.length))[1]) ?? utf8("");
      // An order that was changed into itself changed nothing.
      if (whole.has(new TextDecoder().decode(changed))) continue;
      n += 1;
      for (const keys of [KEYS, []]) expect((await verify(changed, keys)).fault, `${kind} ${n} of ${name}`).toBeDefined();
    }
  });

  test("is named by the first thing that does not hold", async () => {
    for (const [from, to, which] of [
      ['"costMicroUsd":', '"costMicroUsd":1', "form"],
      ['"keyId":"', '"keyId":"0', "key"],
      ['"payload":{"agentName":"', '"payload":{"agentName":"x', "signature"],
      ['"checkpoint":"', '"checkpoint":"x', "checkpoint"],
      ['"proof":[', '"proof":["AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=",', "inclusion"],
      ['"proof":["', '"proof":["AAAA', "inclusion"],
      ['"events":[{"seq":1,"at":1', '"events":[{"seq":1,"at":2', "chain"],
    ] as const) {
      const text = RECEIPTS.map(([, one]) => one).find((one) => one.includes(from)) ?? "";
      const changed = which === "inclusion" || text.includes('"proof":[]') ? text.replace(from, to).replace('=",]', '="]') : text.replace(from, to);
      expect(changed).not.toBe(text);
      const { fault, held } = await check(changed);
      expect([fault?.check, held], `${to}: ${fault?.words}`).toEqual([which, CHECKS.slice(0, CHECKS.indexOf(which))]);
    }
  });
});

describe("other forms of the same", () => {
  const value = JSON.parse(first) as { signature: string; publicKey: string; payload: { journalHash: string; runId: string; finishedAt: string } };
  const deep = (n: number) => "[".repeat(n) + "]".repeat(n);
  const forms: string[] = [
    "", "null", "\ufeff" + first, `${first}\n`, first + first, `${first}\0`, "[".repeat(1 << 20), " ".repeat(1 << 20), JSON.stringify(value, null, 1),
    ...(
      [
        [value.signature, value.signature.replace(/=+$/, "")],
        [value.signature, value.signature.replaceAll("=", "%3d")],
        [value.publicKey, ` ${value.publicKey}`],
        [value.payload.journalHash, value.payload.journalHash.toUpperCase()],
        [value.payload.runId, value.payload.runId.toUpperCase()],
        [value.payload.runId, value.payload.runId.replaceAll("-", "")],
        [value.payload.finishedAt, value.payload.finishedAt.replace("Z", "+00:00")],
        [value.payload.finishedAt, value.payload.finishedAt.replace("Z", "0Z")],
        ['"payload":{', '"payload":{"agentName":"x",'],
        ['"payload":{', '"payload":{},"payload":{'],
        ['{"body":', '{"body":"","body":'],
        ['"appends":[', `"appends":[${deep(100_000)},`],
        ['"appends":', `"more":${deep(100_000)},"appends":`],
        ['"logIndex":', '"logIndex":1e'],
        ['"logIndex":', `"logIndex":${"9".repeat(5_000)}`],
        ['"tokensIn":', '"tokensIn":-'],
        ['"version":2', '"version":2.0'],
        ['"version":2', '"version":NaN'],
        ['"version":2', '"version":true'],
        ['"__proto__":1,"algorithm"', '"algorithm"'],
      ] as const
    ).map(([from, to]) => (first.includes(from) ? first.replace(from, to) : first.replace(to, from))),
  ];
  test.each(forms.map((form, n): [number, string] => [n, form]))("are refused (%i)", async (_, form) => {
    expect(form).not.toBe(first);
    for (const keys of [KEYS, []]) expect((await check(form, keys)).fault).toBeDefined();
  });
  test("as is what is no text", async () => {
    expect((await verify(Uint8Array.of(0xff), KEYS)).fault?.check).toBe("form");
  });
});

describe("who signs a lie", () => {
  test.each(RECEIPTS)("anew and changes nothing is believed: %s", async (_, text) => {
    expect(await check(signed(told(text)), [LIAR])).toMatchObject({ fault: undefined, trusted: true });
  });

  test.each([
    ['"route":', '"spent":', '"spent":1'],
    ['"route":', '"hold":', '"hold":1'],
    ['"route":', '"maxTokens":', '"maxTokens":1'],
    ['"type":"StepAdmitted"', '"cap":', '"cap":9'],
    ['"provider":', '"tokensIn":', '"tokensIn":9'],
    ['"provider":', '"cost":', '"cost":9'],
  ])("about money in an event with %s, %s as %s, is found at that event", async (words, from, to) => {
    const story = withEvent(words, from);
    const seq = lie(story, words, from, to);
    expect((await check(signed(story), [LIAR])).fault).toMatchObject({ check: "ledger", event: seq });
  });

  test.each([
    ['"seq":1,', '"seq": 1,'],
    ['"seq":1,', '"seq":1.0,'],
    ['"seq":1,', '"seq":true,'],
    ['"seq":1,', '"seq":01,'],
    ['"seq":1,', '"seq":1,"seq":1,'],
    ['"type":"RunStarted"', '"type":"Run\\u0053tarted"'],
    ['"depth":0', `"depth":${"[".repeat(100_000)}${"]".repeat(100_000)}`],
    ['"depth":0', '"depth":1e400'],
    ['"cap":', '"cap":-'],
  ])("in another form is no less refused: %s as %.40s", async (from, to) => {
    const story = withEvent('"provider":');
    lie(story, '"type":"RunStarted"', from, to);
    expect((await check(signed(story), [LIAR])).fault).toBeDefined();
  });

  test.each([
    ["costMicroUsd", "0"], ["unconfirmedMicroUsd", "1"], ["capMicroUsd", "999999999"], ["tokensOut", "1"], ["tokensIn", "1"], ["status", '"refunded"'],
    ["agentVersion", `"${"0".repeat(64)}"`], ["limits", `"${"0".repeat(64)}"`], ["catalogue", `"${"0".repeat(64)}"`], ["policies", "[]"], ["models", '["z/another"]'],
    ["events", "1"], ["appends", "1"], ["startedAt", '"2026-01-01T00:00:00Z"'], ["finishedAt", '"2026-01-01T00:00:00Z"'], ["log", '"a log"'], ["endedBy", '"row"'],
  ])("in the payload's %s is found", async (name, value) => {
    const story = withEvent('"provider":');
    story.payload.set(name, value);
    if (name === "costMicroUsd") story.payload.set("costUsd", "0");
    const { fault } = await check(signed(story), [LIAR]);
    expect(["chain", "ledger", "checkpoint"], fault?.words).toContain(fault?.check);
  });

  test("by a key or a signature that passes too easily is refused", async () => {
    const weak = ["01" + "00".repeat(31), "00".repeat(32), "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a", "ee" + "ff".repeat(30) + "7f"].map((said) => Buffer.from(said, "hex"));
    const text = signed(withEvent('"provider":'));
    const { signature } = JSON.parse(text) as { signature: string };
    for (const point of weak) {
      const under = text.replace(signature, Buffer.concat([point, Buffer.alloc(32)]).toString("base64"));
      expect((await check(under, [LIAR])).fault).toMatchObject({ check: "signature" });
      const key = text.replace(/"publicKey":"[^"]+"/, `"publicKey":"${point.toString("base64")}"`);
      expect((await check(key, [new Uint8Array(point)])).fault).toMatchObject({ check: "key" });
    }
    const raw = Buffer.from(signature, "base64");
    const order = Buffer.from("edd3f55c1a631258d69cf7a2def9de1400000000000000000000000000000010", "hex");
    let carry = 0;
    for (let n = 0; n < 32; n += 1) {
      carry += (raw[32 + n] ?? 0) + (order[n] ?? 0);
      raw[32 + n] = carry & 255;
      carry >>= 8;
    }
    expect((await check(text.replace(signature, raw.toString("base64")), [LIAR])).fault).toMatchObject({ check: "signature", words: "the signature is in another form" });
  });
});

test("keys are read as they are published, and one alone", () => {
  expect(readKeys(` ${Buffer.from(LIAR).toString("base64")}\n`)).toEqual([LIAR]);
  expect(KEYS).toHaveLength(15);
  for (const not of ["", "{}", '{"keys":[]}', '{"keys":[{}]}', "{", "AAAA"]) expect(() => readKeys(not), not).toThrow();
});

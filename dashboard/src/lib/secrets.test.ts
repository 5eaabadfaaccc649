import { describe, expect, test } from "vitest";
import { VALUE_BYTES, hasLines, isLast, rekey, standing, textOf, usesOf } from "./secrets";

const one = (version: number, enabled = true) => ({ version, enabled });

describe("a secret", () => {
  test("has one version that counts, and others that stand by", () => {
    expect([standing(one(3, false), 2), standing(one(2), 2), standing(one(1), 2), standing(one(1, false), undefined)]).toEqual(["disabled", "counts", "enabled", "disabled"]);
  });
  test("has a last version, without which nothing counts", () => {
    for (const [versions, want] of [
      [[one(1)], true],
      [[one(2), one(1)], false],
      [[one(2, false), one(1)], true],
      [[one(2), one(1, false)], false],
    ] as const) {
      expect(isLast(versions.at(-1)!, versions), JSON.stringify(versions)).toBe(want);
    }
  });
  test("is the key of the providers that name it, and of no other", () => {
    const providers = [{ provider: "a", keyMasked: "lantern.secret://tenant/x" }, { provider: "b", keyMasked: "lantern.secret://tenant/xy" }, { provider: "c", keyMasked: null }, { provider: "d" }];
    expect(usesOf("lantern.secret://tenant/x", providers)).toEqual(["a"]);
  });
  test("is not joined from several lines", () => {
    for (const [text, want] of [["a", false], ["a\n", false], ["a\r\n", false], ["a\nb", true], ["a\n\n", true], ["\na", true], ["a\rb", true]] as const) expect(hasLines(text), JSON.stringify(text)).toBe(want);
  });
  test("is what a file is, byte for byte, or is refused", () => {
    const bytes = (...some: number[]) => new Uint8Array(some).buffer;
    expect(textOf(bytes(0xef, 0xbb, 0xbf, 0x61, 0x0a))).toEqual({ text: "\ufeffa\n" });
    expect(textOf(bytes(0xff))).toEqual({ not: "text" });
    expect(textOf(new Uint8Array(VALUE_BYTES).buffer)).toHaveProperty("text");
    expect(textOf(new Uint8Array(VALUE_BYTES + 1).buffer)).toEqual({ not: "short" });
  });
});

describe("a change of keys", () => {
  test("goes on to the key that was made first, until nothing remains", async () => {
    const asked: unknown[] = [];
    const left: number[] = [];
    const answers = [{ keyVersion: 4, resealed: 100, remaining: 150 }, { keyVersion: 4, resealed: 100, remaining: 50 }, { keyVersion: 4, resealed: 50, remaining: 0 }];
    const done = await rekey(async (body) => (asked.push(body), answers[asked.length - 1]!), (remaining) => left.push(remaining));
    expect([done, asked, left]).toEqual([{ key: 4, resealed: 250 }, [{}, { toVersion: 4 }, { toVersion: 4 }], [150, 50, 0]]);
  });
  test("is told to have no end, and does not go on for ever", async () => {
    expect(await rekey(async () => ({ keyVersion: 2, resealed: 0, remaining: 1 }), () => {})).toBeUndefined();
  });
});

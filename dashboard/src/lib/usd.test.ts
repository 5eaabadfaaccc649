import { expect, test } from "vitest";
import { fieldOf, lacks, microsOf, ofWire, plainUsd, shownUsd, wrongWith } from "./usd";

test("dollars are read to the millionth, and nothing else is", () => {
  for (const [text, want] of [
    ["5", 5_000_000n], [" 0.50 ", 500_000n], ["0.000001", 1n], ["0", 0n], ["1000000000", 1_000_000_000_000_000n],
    ["1000000000.000001", undefined], ["0.0000001", undefined], ["-1", undefined], ["1e3", undefined], ["", undefined], [".5", undefined], ["5.", undefined],
    ["1,000", undefined], ["٥", undefined], ["0x10", undefined], ["5 5", undefined], ["NaN", undefined], ["99999999999", undefined],
  ] as const) {
    expect(microsOf(text), text).toBe(want);
  }
});

test("what is read is what is said again", () => {
  for (const text of ["5", "0.5", "0.000001", "1234567.89", "999999999.999999"]) expect(plainUsd(microsOf(text) ?? -1n)).toBe(text);
  expect(["0", "5", "0.5", "0.0001", "1234567.89"].map((text) => shownUsd(microsOf(text) ?? -1n))).toEqual(["$0.00", "$5.00", "$0.50", "$0.0001", "$1,234,567.89"]);
});

test("an amount of an answer is exact, whatever a float makes of it", () => {
  for (const usd of [0.1, 0.2, 0.3, 0.000001, 0.285001, 123456.789012, 1e-6, 999999999.999999]) expect(plainUsd(ofWire(usd))).toBe(String(usd) === "0.000001" || usd === 1e-6 ? "0.000001" : String(usd));
});

test("a step lacks what its hold passes the cap by", () => {
  // As floats these come to 0.30000000000000004 and -2.7e-17.
  expect(lacks({ maxCostUsd: 0.3, spentUsd: 0.1, holdUsd: 0.2 })).toBe(0n);
  expect(lacks({ maxCostUsd: 0.0001, spentUsd: 0.00003, holdUsd: 0.000611 })).toBe(541n);
  expect(lacks({ maxCostUsd: 1, spentUsd: 0, holdUsd: 0.5 })).toBe(0n);
});

test("a field is told what is wrong with it", () => {
  for (const [text, may, want] of [["", { empty: true }, undefined], ["", {}, "nothing"], ["0", { empty: true }, "nothing"], ["0", { zero: true }, undefined], ["0.5", {}, undefined], ["much", { empty: true }, "amount"]] as const) {
    expect(wrongWith(text, may), text).toBe(want);
  }
  expect([fieldOf(0.000001), fieldOf(5), fieldOf(0), fieldOf(null), fieldOf(undefined)]).toEqual(["0.000001", "5", "0", "", ""]);
});

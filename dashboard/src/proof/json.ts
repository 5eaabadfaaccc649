// JSON in its one byte form, and in no other: no space, the shortest escapes, plain numbers, no member twice.
//
// What is read so needs not be written again to be compared. Numbers are exact, and every value knows where it stood.

/** A number that is no whole one, as it was written. */
export class Decimal {
  constructor(readonly text: string) {}
}
export type Json = null | boolean | string | bigint | Decimal | Json[] | Members;
export type Members = Map<string, Json>;

/** What was read, and where in the text each object began and ended. */
export interface Read {
  value: Json;
  spans: Map<Members, [number, number]>;
  decimals: number;
}

/** As deep as the server reads. */
const DEEP = 127;
const NUMBER = /-?(?:0|[1-9][0-9]*)(\.[0-9]+)?/y;
const WORDS: [string, Json][] = [["true", true], ["false", false], ["null", null]];
const SHORT: Record<string, string> = { '"': '"', "\\": "\\", b: "\b", f: "\f", n: "\n", r: "\r", t: "\t" };
/** The control characters that have no short escape. */
const HEX = /u00(0[0-7bef]|1[0-9a-f])/y;

export class Unreadable extends Error {}

/** Reads a text. Throws `Unreadable` at the first character that does not belong. */
export function read(text: string): Read {
  let at = 0;
  let decimals = 0;
  const spans: Read["spans"] = new Map();
  const fail = (): never => {
    throw new Unreadable(`character ${at + 1} is not what a receipt has there`);
  };
  const take = (character: string): void => {
    if (text[at] !== character) fail();
    at += 1;
  };
  const string = (): string => {
    take('"');
    let said = "";
    for (let from = at; ; ) {
      const code = text.charCodeAt(at);
      if (Number.isNaN(code) || code < 0x20) fail();
      if (code !== 0x22 && code !== 0x5c) {
        at += 1;
        continue;
      }
      said += text.slice(from, at);
      at += 1;
      if (code === 0x22) return said;
      const short = SHORT[text[at] ?? ""];
      HEX.lastIndex = at;
      if (short !== undefined) at += 1;
      else if (HEX.test(text)) at += 5;
      else fail();
      said += short ?? String.fromCharCode(Number.parseInt(text.slice(at - 2, at), 16));
      from = at;
    }
  };
  const list = (end: string, one: () => void): void => {
    at += 1;
    if (text[at] === end) {
      at += 1;
      return;
    }
    for (;;) {
      one();
      if (text[at] === end) break;
      take(",");
    }
    at += 1;
  };
  const value = (deep: number): Json => {
    if (deep > DEEP) fail();
    const first = text[at];
    if (first === '"') return string();
    if (first === "[") {
      const items: Json[] = [];
      list("]", () => items.push(value(deep + 1)));
      return items;
    }
    if (first === "{") {
      const from = at;
      const members: Members = new Map();
      list("}", () => {
        const name = string();
        if (members.has(name)) fail();
        take(":");
        members.set(name, value(deep + 1));
      });
      spans.set(members, [from, at]);
      return members;
    }
    for (const [word, meant] of WORDS) {
      if (text.startsWith(word, at)) {
        at += word.length;
        return meant;
      }
    }
    NUMBER.lastIndex = at;
    const [number, fraction] = NUMBER.exec(text) ?? fail();
    if (number === "-0" || number.length > 40) fail();
    at += number.length;
    if (fraction === undefined) return BigInt(number);
    decimals += 1;
    return new Decimal(number);
  };
  const whole = value(0);
  if (at !== text.length) fail();
  return { value: whole, spans, decimals };
}

// For tests: what a receipt says, taken apart, changed, and put together again, also signed anew by somebody who lies.
import { createHash, createPrivateKey, createPublicKey, sign } from "node:crypto";
import { readFileSync, readdirSync } from "node:fs";
import { join } from "node:path";
import { type Members, read } from "./json";
import { readKeys } from "./receipt";

const golden = join(import.meta.dirname, "../../../crates/verify/tests/golden");

/** The receipts that are recorded for every verifier, by name. */
export const RECEIPTS: [string, string][] = readdirSync(golden)
  .filter((name) => name !== "keys.json")
  .sort()
  .map((name) => [name, readFileSync(join(golden, name), "utf8")]);
export const KEYS = readKeys(readFileSync(join(golden, "keys.json"), "utf8"));

export interface Story {
  appends: { body: string; events: string[] }[];
  /** The members of the payload, each as it is written. */
  payload: Map<string, string>;
  /** What stands behind the appends. */
  rest: string;
}

const sha = (...parts: (Buffer | string)[]) => {
  const hash = createHash("sha256");
  for (const part of parts) hash.update(part);
  return hash.digest();
};

export function told(text: string): Story {
  const { value, spans } = read(text);
  const file = value as Members;
  const slice = (of: Members) => text.slice(...(spans.get(of) as [number, number]));
  const appends = (file.get("appends") as Members[]).map((append) => ({ body: append.get("body") as string, events: (append.get("events") as Members[]).map(slice) }));
  const payload = new Map<string, string>();
  const written = slice(file.get("payload") as Members);
  const names = [...(file.get("payload") as Members).keys()];
  names.forEach((name, n) => {
    const from = written.indexOf(`"${name}":`) + name.length + 3;
    const next = names[n + 1];
    payload.set(name, written.slice(from, next === undefined ? -1 : written.indexOf(`,"${next}":`, from)));
  });
  return { appends, payload, rest: text.slice(text.indexOf(',"checkpoint":')) };
}

/** A recorded receipt that has an event with these words, and these besides. */
export function withEvent(words: string, more = ""): Story {
  const found = RECEIPTS.find(([, text]) => told(text).appends.some(({ events }) => events.some((one) => one.includes(words) && one.includes(more))));
  if (!found) throw new Error(`no recorded event has ${words} and ${more}`);
  return told(found[1]);
}

/** Writes `to` for `from` in the first event that has `words`, and answers that event's number. */
export function lie(story: Story, words: string, from: string, to: string): number {
  let n = 0;
  for (const append of story.appends) {
    for (const [place, one] of append.events.entries()) {
      n += 1;
      if (!one.includes(words) || !one.includes(from)) continue;
      append.events[place] = one.replace(from, to);
      return n;
    }
  }
  throw new Error(`no event has ${words} and ${from}`);
}

/** Puts events before the first that has `words`, numbers all anew, and answers the number that it has then. `like` has that event's members. */
export function insert(story: Story, words: string, made: (like: { at: number; step: string }) => Record<string, unknown>[]): number {
  const append = story.appends.find(({ events }) => events.some((one) => one.includes(words)));
  if (!append) throw new Error(`no event has ${words}`);
  const place = append.events.findIndex((one) => one.includes(words));
  const like = JSON.parse(append.events[place] ?? "{}");
  append.events.splice(place, 0, ...made(like).map((event) => JSON.stringify({ seq: 0, at: like.at, ...event })));
  let n = 0;
  for (const one of story.appends) one.events = one.events.map((event) => event.replace(/^\{"seq":\d+/, `{"seq":${(n += 1)}`));
  story.payload.set("events", String(n));
  return story.appends.flatMap(({ events }) => events).findIndex((one) => one.includes(words)) + 1;
}

const list = (appends: Story["appends"]) => `[${appends.map(({ body, events }) => `{"body":"${body}","events":[${events.join(",")}]}`).join(",")}]`;

/** The file with these appends, and nothing else changed. */
export const put = (story: Story): string => `{"algorithm":"Ed25519","appends":${list(story.appends)}${story.rest}`;

const PRIVATE = createPrivateKey({ key: Buffer.concat([Buffer.from("302e020100300506032b657004220420", "hex"), Buffer.alloc(32, 42)]), format: "der", type: "pkcs8" });
const PUBLIC = createPublicKey(PRIVATE).export({ format: "der", type: "spki" }).subarray(-32);
/** The key of those who lie. */
export const LIAR = new Uint8Array(PUBLIC);

/** Chains, signs and logs a story as a server would. */
export function signed({ appends, payload }: Story): string {
  const head = appends.reduce((chain, { body, events }) => sha(chain, ...events.map((event) => `${event}\n`), Buffer.from(body, "hex")), Buffer.alloc(32));
  const said = new Map(payload).set("journalHash", `"${head.toString("hex")}"`).set("logIndex", "0");
  const bytes = `{${[...said].map(([name, value]) => `"${name}":${value}`).join(",")}}`;
  const log = JSON.parse(said.get("log") ?? '""') as string;
  const note = `${log}\n1\n${sha("\0", sha(bytes)).toString("base64")}\n`;
  const id = sha(log, "\n\u0001", PUBLIC).subarray(0, 4);
  const checkpoint = `${note}\n— ${log} ${Buffer.concat([id, sign(null, Buffer.from(note), PRIVATE)]).toString("base64")}\n`;
  const key = PUBLIC.toString("base64");
  const signature = sign(null, Buffer.from(bytes), PRIVATE).toString("base64");
  return `{"algorithm":"Ed25519","appends":${list(appends)},"checkpoint":${JSON.stringify(checkpoint)},"keyId":"${sha(PUBLIC).toString("hex", 0, 8)}","payload":${bytes},"proof":[],"publicKey":"${key}","signature":"${signature}"}`;
}

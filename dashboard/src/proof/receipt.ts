// Whether a receipt file is true. Written from docs/receipts.md; asks nobody, and believes nothing because the file says so.
import { Caps } from "./caps";
import { Choices } from "./choice";
import { type Members, Unreadable, read } from "./json";
import { type Sums, ledger } from "./ledger";
import { checkpoint, included } from "./log";
import { Fault, base64, hex, inTurn, isHex, isMembers, list, members, need, same, sha, unhex, utf8 } from "./need";
import { checkPayload } from "./payload";
import { checkKey, checkSignature } from "./signature";

/** What is looked at, in this order; the last three each by itself. */
export const CHECKS = ["form", "key", "signature", "checkpoint", "inclusion", "chain", "ledger", "caps", "choices"] as const;
export type Check = (typeof CHECKS)[number];

export interface Verdict {
  /** What holds. */
  held: Check[];
  /** The first that does not. What comes after it was not looked at, but for what is made of the same events. */
  fault?: { check: Check; words: string; event?: number };
  /** What does not hold further on in the same events. */
  also: Check[];
  /** Whether a key that is trusted signed it, or only the key inside the file. */
  trusted: boolean;
  keyId?: string;
  /** What it says, as soon as its form is known. */
  payload?: Members;
  logSize?: bigint;
  sums?: Sums;
  /** How many caps and choices of models the events record. */
  followed?: { caps: number; choices: number };
}

const MEMBERS = "algorithm appends checkpoint keyId payload proof publicKey signature";
const names = (of: Members): string => [...of.keys()].join(" ");

/** Checks a file. With keys, one of them must have signed it; without any, it is only checked against itself. */
export async function verify(bytes: Uint8Array, keys: Uint8Array[]): Promise<Verdict> {
  const verdict: Verdict = { held: [], fault: undefined, also: [], trusted: false };
  let check: Check = "form";
  const then = (next: Check) => {
    verdict.held.push(check);
    check = next;
  };
  try {
    const { file, p, appends, slice } = form(bytes);
    verdict.payload = p;
    then("key");
    const key = base64(file.get("publicKey"), 32, "the key");
    checkKey(key);
    verdict.keyId = hex((await sha(key)).slice(0, 8));
    need(file.get("keyId") === verdict.keyId, "the key id is not that of the key");
    need(keys.length === 0 || keys.some((one) => same(one, key)), `it was signed with the key ${verdict.keyId}, which is not among those that you trust`);
    verdict.trusted = keys.length > 0;
    then("signature");
    const message = utf8(slice(p));
    await checkSignature(key, message, base64(file.get("signature"), 64, "the signature"));
    then("checkpoint");
    const head = await checkpoint(file.get("checkpoint"), p.get("log") as string, key);
    verdict.logSize = head.size;
    then("inclusion");
    const proof = list(file.get("proof"), "the proof");
    need(proof.length <= 64, "the proof is too long");
    const leaf = await sha(Uint8Array.of(0), await sha(message));
    await included(leaf, p.get("logIndex") as bigint, head, proof.map((node) => base64(node, 32, "a hash of the proof")));
    then("chain");
    let chain: Uint8Array = new Uint8Array(32);
    for (const { body, events } of appends) chain = await sha(chain, utf8(events.map((event) => `${slice(event)}\n`).join("")), body);
    need(hex(chain) === p.get("journalHash"), "the events are not those that were signed: the hash chain ends elsewhere");
    need(BigInt(appends.length) === p.get("appends"), "the payload counts other appends");
    verdict.held.push(check);
    follow(verdict, appends.flatMap(({ events }) => events), p);
  } catch (error) {
    if (!(error instanceof Fault || error instanceof Unreadable)) throw error;
    verdict.fault = { check, words: error.message, event: error instanceof Fault ? error.event : undefined };
  }
  return verdict;
}

/** Makes again what can be made of the events. Of several things that do not follow, the first event is named. */
function follow(verdict: Verdict, events: Members[], p: Members): void {
  const [caps, choices] = [new Caps(), new Choices()];
  const passes: [Check, () => void][] = [
    ["ledger", () => (verdict.sums = ledger(events, p))],
    ["caps", () => inTurn(events, (event) => caps.take(event))],
    ["choices", () => inTurn(events, (event) => choices.take(event))],
  ];
  const faults: NonNullable<Verdict["fault"]>[] = [];
  for (const [check, pass] of passes) {
    try {
      pass();
      verdict.held.push(check);
    } catch (error) {
      if (!(error instanceof Fault)) throw error;
      faults.push({ check, words: error.message, event: error.event });
    }
  }
  // What is of no event is of all of them.
  const place = ({ event }: { event?: number }) => event ?? Number.POSITIVE_INFINITY;
  verdict.fault = faults.reduce<Verdict["fault"]>((first, one) => (first && place(first) <= place(one) ? first : one), undefined);
  verdict.also = faults.filter((one) => one !== verdict.fault).map(({ check }) => check);
  verdict.followed = { caps: caps.count, choices: choices.count };
}

function form(bytes: Uint8Array) {
  let text: string;
  try {
    text = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(bytes);
  } catch {
    throw new Fault("the file is no text");
  }
  const { value, spans, decimals } = read(text);
  const file = members(value, "the receipt");
  need(names(file) === MEMBERS, "these are not the members of a receipt file: it was exported without its events, or is something else");
  need(file.get("algorithm") === "Ed25519", "the algorithm is not Ed25519");
  const p = members(file.get("payload"), "the payload");
  checkPayload(p);
  need(decimals === (typeof p.get("costUsd") === "bigint" ? 0 : 1), "a number is no whole one");
  const appends = list(file.get("appends"), "the appends").map((append) => {
    need(isMembers(append) && names(append) === "body events", "an append has other members");
    const [body, events] = [append.get("body"), list(append.get("events"), "the events")];
    need(isHex(body) && events.every(isMembers), "an append is in another form");
    return { body: unhex(body), events };
  });
  const slice = (of: Members): string => text.slice(...(spans.get(of) as [number, number]));
  return { file, p, appends, slice };
}

/** Keys as they are published, or one in base64. */
export function readKeys(said: string): Uint8Array[] {
  const trimmed = said.trim();
  if (!trimmed.startsWith("{")) return [base64(trimmed, 32, "the key")];
  let document: { keys?: { publicKey?: string }[] };
  try {
    document = JSON.parse(trimmed);
  } catch {
    throw new Fault("the keys are no JSON");
  }
  need(Array.isArray(document.keys) && document.keys.length > 0, "the file has no keys");
  return document.keys.map((key) => base64(key?.publicKey, 32, "a key"));
}

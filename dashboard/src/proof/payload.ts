// What was signed: which members it has, and that each is written in its one form.
import { Decimal, type Json, type Members } from "./json";
import { isHex, isText, isWhole, list, need } from "./need";

const TEXT = ["agentName", "endedBy", "finishedAt", "issuedAt", "log", "runId", "status", "tenantId"];
const MAYBE = ["errorCode", "model", "provider", "startedAt"];
const HEX = ["agentVersion", "catalogue", "journalHash", "limits"];
const WHOLE = ["appends", "capMicroUsd", "costMicroUsd", "events", "logIndex", "tokensIn", "tokensOut", "unconfirmedMicroUsd", "version"];
const ALL = new Set([...TEXT, ...MAYBE, ...HEX, ...WHOLE, "costUsd", "models", "policies"]);
const UUID = /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/;

/** Millionths of a dollar as dollars. */
export function usd(micros: bigint): string {
  const fraction = String(micros % 1_000_000n).padStart(6, "0").replace(/0+$/, "");
  return `${micros / 1_000_000n}${fraction && `.${fraction}`}`;
}

/** A time as it is always written: RFC 3339 in UTC, with as many digits as it takes. */
export function when(micros: bigint): string | undefined {
  const seconds = new Date(Number(micros / 1_000_000n) * 1_000);
  if (Number.isNaN(seconds.getTime()) || seconds.getUTCFullYear() > 9_999) return undefined;
  const fraction = String(micros % 1_000_000n).padStart(6, "0").replace(/0+$/, "");
  return `${seconds.toISOString().slice(0, 19)}${fraction && `.${fraction}`}Z`;
}

function isTime(said: Json | undefined): boolean {
  const found = isText(said) ? /^(?!0000)(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(?:\.\d{0,5}[1-9])?Z$/.exec(said) : null;
  const at = found ? new Date(`${found[1]}Z`) : undefined;
  return at !== undefined && !Number.isNaN(at.getTime()) && at.toISOString().slice(0, 19) === found?.[1];
}

export const sorted = (words: string[]): string[] => [...words].sort((a, b) => (a < b ? -1 : a > b ? 1 : 0));
const alike = (a: string[], b: string[]): boolean => a.length === b.length && a.every((word, n) => word === b[n]);

export function checkPayload(p: Members): void {
  const names = [...p.keys()];
  need(alike(names, sorted(names)) && names.every((name) => ALL.has(name)), "the payload has members that a receipt has not");
  need([...ALL].every((name) => p.has(name) || MAYBE.includes(name)), "the payload lacks members");
  const are = (which: string[], is: (value: Json | undefined) => boolean) => {
    for (const name of which) if (p.has(name)) need(is(p.get(name)), `the payload's ${name} is in another form`);
  };
  are([...TEXT, ...MAYBE], isText);
  are(HEX, isHex);
  are(WHOLE, isWhole);
  are(["finishedAt", "issuedAt", "startedAt"], isTime);
  are(["runId", "tenantId"], (id) => isText(id) && UUID.test(id));
  need(p.get("version") === 2n, "the receipt's version is not 2");
  need(p.get("endedBy") === "event" || p.get("endedBy") === "row", "the payload's endedBy is in another form");
  const policies = list(p.get("policies"), "policies");
  need(policies.every(isHex) && alike(policies, sorted([...new Set(policies)])), "the payload's policies are in another form");
  need(list(p.get("models"), "models").every(isText), "the payload's models are in another form");
  const [cost, cap, doubt] = ["costMicroUsd", "capMicroUsd", "unconfirmedMicroUsd"].map((name) => p.get(name) as bigint) as [bigint, bigint, bigint];
  const dollars = p.get("costUsd");
  need((dollars instanceof Decimal ? dollars.text : String(dollars)) === usd(cost) && !isText(dollars), "costUsd and costMicroUsd differ");
  need(cost + doubt <= cap, "the run cost more than it could");
}

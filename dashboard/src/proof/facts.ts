// What a decision was made on, as an event records it: the run's money as it stood, and the most that a model call could cost.
import type { Members } from "./json";
import { isMembers, members, need, whole } from "./need";

const MILLION = 1_000_000n;
/** So many bytes more than a request has may come to be sent, and a token is a byte at the least. */
const ENVELOPE = 256n;

/** Millionths of millionths, in whole millionths, never less. */
export const up = (amount: bigint): bigint => (amount + MILLION - 1n) / MILLION;

/** A run's money. */
export interface Purse {
  cap: bigint;
  spent: bigint;
  held: bigint;
}

/** What a million tokens cost, in millionths of a dollar. */
export interface Price {
  input: bigint;
  output: bigint;
}

/** The price of what a grant, or the grounds of a denial, asks; nothing where no model is asked. */
export function priceOf(of: Members): Price | undefined {
  const route = of.get("route");
  if (!isMembers(route)) return undefined;
  const prices = members(route.get("price"), "the price");
  for (const [name, value] of prices) whole(value, name);
  return { input: whole(prices.get("input"), "the price"), output: whole(prices.get("output"), "the price") };
}

/** The most that a model call could cost; nothing where no model is asked. */
export function worst(of: Members): bigint | undefined {
  const facts = members(of.get("facts"), "the facts");
  const [bytes, most] = [whole(facts.get("requestBytes"), "requestBytes"), whole(facts.get("maxTokens"), "maxTokens")];
  const price = priceOf(of);
  return price && up((bytes + ENVELOPE) * price.input) + up(most * price.output);
}

/** Demands that the facts have the run's money as the events before leave it. */
export function stood(of: Members, purse: Purse): void {
  const facts = members(of.get("facts"), "the facts");
  const is = (name: keyof Purse) => whole(facts.get(name), name) === purse[name];
  need(is("cap") && is("spent") && is("held"), "its facts are not what the events before come to");
}

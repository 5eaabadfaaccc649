// Adds the money up, event by event: what was held, spent, let go of and left in doubt, and that the cap was never passed.
//
// As `docs/verify/verify.py` does; caps and choices are looked at beside it. It does not make every decision again, as `lantern verify` does.
import { type Price, priceOf, stood, up, worst } from "./facts";
import type { Json, Members } from "./json";
import { inTurn, isMembers, isText, isWhole, members, need, text, whole } from "./need";
import { sorted, when } from "./payload";

const ENDS = new Set(["StepSettled", "StepFailed", "StepAbandoned", "StepDenied", "StepReused", "StepRetrying", "StepCharged"]);

interface Hold {
  amount: bigint;
  price?: Price;
}

/** What the events come to. */
export interface Sums {
  admissions: number;
  bills: number;
}

class Ledger {
  cap = 0n;
  spent = 0n;
  held = 0n;
  unconfirmed = 0n;
  tokensIn = 0n;
  tokensOut = 0n;
  start?: Members;
  over?: Members;
  readonly sums: Sums = { admissions: 0, bills: 0 };
  readonly policies = new Set<string>();
  readonly models = new Set<string>();
  private readonly holds = new Map<string, Hold>();
  private readonly keeps = new Set<string>();
  private readonly generation = new Map<string, bigint>();
  /** The calls of programs in boxes that were told. */
  private readonly told = new Set<string>();

  take(e: Members, n: number): void {
    const kind = e.get("type");
    need(e.get("seq") === BigInt(n) && isWhole(e.get("at")) && isText(kind), "it is not numbered in turn");
    need(!this.over, "the run was over");
    need((kind === "RunStarted") === (n === 1), "a run starts once, at its first event");
    const amount = (name: string): bigint => (e.has(name) ? whole(e.get(name), name) : 0n);
    const [cost, doubt, tokensIn, tokensOut] = [amount("cost"), amount("unconfirmed"), amount("tokensIn"), amount("tokensOut")];
    this.tokensIn += tokensIn;
    this.tokensOut += tokensOut;
    if (kind === "RunStarted") {
      [this.cap, this.start] = [whole(e.get("cap"), "the cap"), e];
      this.policies.add(text(e.get("policy"), "the policy"));
    } else if (kind === "StepAdmitted") {
      this.admit(text(e.get("step"), "the step"), members(e.get("grant"), "the grant"));
    } else if (ENDS.has(kind)) {
      this.settle(e, kind, cost, doubt, tokensIn, tokensOut);
    } else if (kind === "CallMetered") {
      const hold = whole(e.get("hold"), "the hold");
      const call = text(e.get("call"), "the call");
      need(!this.told.has(call), "the call was told before");
      this.told.add(call);
      need(cost === hold || e.get("lost") !== true, "a call that nobody heard of costs what was held");
      need(cost <= hold && this.spent + this.held + hold <= this.cap, "it costs more than was held");
      this.models.add(`${text(e.get("provider"), "the provider")}/${text(e.get("model"), "the model")}`);
      this.spent += cost;
    } else if (kind === "Finished") {
      this.over = e;
    }
    need(this.unconfirmed >= 0n && this.unconfirmed <= this.held && this.spent <= this.cap, "the ledger does not add up");
  }

  private admit(step: string, grant: Members): void {
    need(!this.holds.has(step), "something is held for the step already");
    const amount = whole(grant.get("hold"), "the hold");
    stood(grant, this);
    const [most, price] = [worst(grant), priceOf(grant)];
    need(most === undefined || amount === most, "it holds another amount than its facts say");
    need(amount === 0n || this.spent + this.held + amount <= this.cap, "it passes the cap");
    this.holds.set(step, { amount, price });
    this.held += amount;
    this.policies.add(text(grant.get("policy"), "the policy"));
    this.sums.admissions += 1;
  }

  private settle(e: Members, kind: string, cost: bigint, doubt: bigint, tokensIn: bigint, tokensOut: bigint): void {
    const step = text(e.get("step"), "the step");
    const grant = this.holds.get(step);
    const hold = grant?.amount ?? 0n;
    const grounds = e.get("grounds");
    if (kind === "StepDenied" && isMembers(grounds)) stood(grounds, this);
    need(cost <= hold && doubt <= hold, "it costs more than was held");
    const provider = e.get("provider") ?? null;
    if (kind === "StepSettled" && provider !== null) {
      this.models.add(`${text(provider, "the provider")}/${text(e.get("model") ?? "", "the model")}`);
      need(grant?.price, "a bill has no price");
      const bill = up(tokensIn * grant.price.input) + up(tokensOut * grant.price.output);
      const unsaid = tokensIn === 0n && tokensOut === 0n;
      need(cost === (bill < hold ? bill : hold) || (unsaid && cost === hold), "its usage comes to another bill");
      this.sums.bills += 1;
    }
    need(!this.keeps.has(step) || kind === "StepCharged", "the step was over");
    this.spent += cost;
    const owes = e.get("owing") === true;
    const generation = kind === "StepRetrying" ? whole(e.get("generation"), "the generation") : undefined;
    const again = generation !== undefined && generation === (this.generation.get(step) ?? 1n) && e.get("readmit") !== true;
    if (owes) this.keeps.add(step);
    if (owes || again) {
      need(doubt === 0n, "what stays held is not in doubt");
    } else {
      this.holds.delete(step);
      this.held += doubt - hold;
      this.unconfirmed += doubt;
      this.keeps.delete(step);
    }
    if (generation !== undefined) this.generation.set(step, generation);
  }
}

/** Demands that the events come to what the payload says. */
export function ledger(events: Members[], p: Members): Sums {
  need(events.length > 0, "there are no events");
  const sum = new Ledger();
  inTurn(events, (event, n) => sum.take(event, n));
  const says = (name: string, value: Json | undefined, words: string) => need(p.get(name) === value, words);
  const at = (event: Members | undefined) => (event ? when(event.get("at") as bigint) : undefined);
  says("startedAt", at(events[1]), "the payload says that it started at another time");
  if (p.get("endedBy") === "event") {
    need(sum.over, "the events do not say how it ended");
    need(sum.over.get("outcome") === p.get("status") && sum.over.get("code") === p.get("errorCode"), "the payload says that it ended otherwise");
    says("finishedAt", at(sum.over), "the payload says that it ended at another time");
    need(sum.held === sum.unconfirmed, "something is held at the end");
    says("costMicroUsd", sum.spent, "the payload says another cost than the events");
    says("unconfirmedMicroUsd", sum.unconfirmed, "the payload says another amount in doubt than the events");
  } else {
    need(!sum.over, "the events say how it ended, and the payload says that they do not");
    says("costMicroUsd", sum.spent + sum.held, "the payload says another cost than the events");
    says("unconfirmedMicroUsd", 0n, "the payload says another amount in doubt than the events");
  }
  says("tokensIn", sum.tokensIn, "the payload counts other tokens than the events");
  says("tokensOut", sum.tokensOut, "the payload counts other tokens than the events");
  says("capMicroUsd", sum.cap, "the payload says another cap than the events");
  says("events", BigInt(events.length), "the payload counts other events");
  for (const [name, member] of [["agentVersion", "manifest"], ["catalogue", "catalogue"], ["limits", "limits"]] as const) {
    need(isText(p.get(name)) && p.get(name) === sum.start?.get(member), `the payload says another ${name} than the events`);
  }
  const list = (name: string, values: Set<string>) => need(JSON.stringify(sorted(p.get(name) as string[])) === JSON.stringify(sorted([...values])), `the payload says other ${name} than the events`);
  list("policies", sum.policies);
  list("models", sum.models);
  const [one, ...others] = p.get("models") as string[];
  const named = p.has("provider") && p.has("model") ? `${p.get("provider")}/${p.get("model")}` : undefined;
  need(named === (others.length === 0 ? one : undefined) && p.has("provider") === p.has("model"), "the payload names another model than its list");
  return sum.sums;
}

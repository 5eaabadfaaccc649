// The caps of workspace and agent, as admissions and denials record them, and the questions whether one may be passed.
//
// How an account stood is the server's word; what follows from it is checked. What was not recorded is not.
import { worst } from "./facts";
import type { Members } from "./json";
import { isMembers, isText, isWhole, list, members, need, text, whole } from "./need";

const OWNERS = new Set(["tenant", "agent"]);
const PERIODS = new Set(["day", "month"]);

interface Account {
  cap: bigint;
  spent: bigint;
  held: bigint;
}

function account(a: Members, at: bigint): Account {
  const [owner, period, began] = [a.get("of"), a.get("period"), a.get("began")];
  need(isText(owner) && OWNERS.has(owner) && isText(period) && PERIODS.has(period), "that is no account of a workspace or an agent");
  need(isWhole(began) && began <= at, "its account's period had not begun");
  const amount = (name: string) => whole(a.get(name), `the account's ${name}`);
  return { cap: amount("cap"), spent: amount("spent"), held: amount("held") };
}

/** Demands that a hold was granted within each cap that it names; answers how many. */
function within(grant: Members, at: bigint): number {
  const accounts = members(grant.get("facts"), "the facts").get("accounts") ?? [];
  const hold = whole(grant.get("hold"), "the hold");
  for (const one of list(accounts, "the accounts")) {
    const a = members(one, "an account");
    const { cap, spent, held } = account(a, at);
    const slice = whole(a.get("slice"), "the slice");
    need(hold <= slice && slice <= held && spent + held <= cap, "its hold passes a cap that it names");
  }
  return (accounts as unknown[]).length;
}

/** Demands that a denial by a cap had to be; answers how many caps it names. */
function beyond(grounds: Members, at: bigint): number {
  const named = grounds.get("account");
  if (!isMembers(named)) {
    need(named === undefined || named === null, "that is no account of a workspace or an agent");
    return 0;
  }
  const { cap, spent } = account(named, at);
  const most = worst(grounds);
  need(most !== undefined && spent + most > cap, "it was denied by a cap that leaves enough");
  return 1;
}

/** Looks at events in turn; counts the caps that they name. */
export class Caps {
  count = 0;
  /** The steps that wait for people to say whether a cap may be passed. */
  private readonly asked = new Set<string>();

  take(e: Members): void {
    const kind = e.get("type");
    const at = e.get("at");
    need(isWhole(at), "it has no time");
    if (kind === "CapAsked" || kind === "CapAnswered") {
      const step = text(e.get("step"), "the step");
      members(e.get(kind === "CapAsked" ? "over" : "answer"), "what is said of the cap");
      need(this.asked.has(step) === (kind === "CapAnswered"), "a question about a cap is asked, and then answered");
      if (kind === "CapAsked") this.asked.add(step);
      else this.asked.delete(step);
    } else if (kind === "StepAdmitted") {
      need(!this.asked.has(text(e.get("step"), "the step")), "it waits for people to say whether a cap may be passed");
      this.count += within(members(e.get("grant"), "the grant"), at);
    } else if (kind === "StepDenied" && isMembers(e.get("grounds"))) {
      this.count += beyond(e.get("grounds") as Members, at);
    }
  }
}

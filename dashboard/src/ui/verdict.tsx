// What the check of a receipt came to: whether it holds, what was looked at, and the first thing that does not.
import { exact, money } from "../lib/format";
import { m } from "../messages/en";
import type { Verdict } from "../proof/receipt";
import { type Fact, Facts } from "./facts";

const words = m.proof;

/** `published`: the keys are those that this server publishes, and nobody else vouches for them. */
export function VerdictCard({ verdict, checks, published }: { verdict: Verdict; checks: readonly string[]; published?: boolean }) {
  const { fault } = verdict;
  const how = fault ? "false" : verdict.trusted ? "true" : "alone";
  const text = { true: words.trueText(verdict.keyId ?? ""), alone: words.aloneText(verdict.keyId ?? ""), false: words.falseText }[how];
  return (
    <section className={`card verdict is-${how}`} data-verdict={how} aria-label={words.verdict[how]}>
      <div className="said-of-it" role="status">
        <h2>{words.verdict[how === "true" && published ? "published" : how]}</h2>
        {fault && (
          <p className="why">
            {fault.event !== undefined && <strong>{`${words.atEvent(fault.event)}: `}</strong>}
            {fault.words}
          </p>
        )}
        <p className="note">{text}</p>
      </div>
      <ol className="checks-made">
        {checks.map((check) => {
          const state = verdict.held.some((held) => held === check) ? "holds" : fault?.check === check || verdict.also.some((also) => also === check) ? "fails" : "unseen";
          const none = state === "holds" && (check === "caps" || check === "choices") && verdict.followed?.[check] === 0;
          const [name, what] = words.checks[check] ?? [check, ""];
          return (
            <li key={check} className={none ? "unseen" : state} data-check={check} data-state={state}>
              <span className="tick" aria-hidden="true">
                {none ? "·" : { holds: "✓", fails: "✗", unseen: "·" }[state]}
              </span>
              <span className="name">{name}</span>
              <span className="what">{what}</span>
              <span className="state">{none ? words.none : words[state]}</span>
            </li>
          );
        })}
      </ol>
      {verdict.payload && !fault && <Says verdict={verdict} />}
    </section>
  );
}

function Says({ verdict }: { verdict: Verdict }) {
  const said = (name: string): string => String(verdict.payload?.get(name) ?? "");
  const dollars = (name: string) => money(Number(verdict.payload?.get(name) ?? 0n) / 1e6);
  const names = m.receipt.facts;
  const models = verdict.payload?.get("models");
  const facts: (Fact | false)[] = [
    [names.run, <span className="mono">{said("runId")}</span>],
    [names.agent, <span className="isolate">{said("agentName")}</span>],
    [names.status, `${m.status[said("status")] ?? said("status")}${said("errorCode") && ` (${said("errorCode")})`}`],
    [names.cost, `${dollars("costMicroUsd")} ${m.receipt.ofCap(dollars("capMicroUsd"))}`],
    said("unconfirmedMicroUsd") !== "0" && [names.doubt, dollars("unconfirmedMicroUsd")],
    [names.tokens, `${said("tokensIn")} → ${said("tokensOut")}`],
    Array.isArray(models) && models.length > 0 && [names.models, <span className="isolate">{models.join(", ")}</span>],
    [names.events, said("events")],
    [names.log, <span className="mono">{said("log")}</span>],
    [names.number, m.receipt.numberOf(said("logIndex"), String(verdict.logSize ?? ""))],
    [names.issued, exact(said("issuedAt"))],
  ];
  return (
    <div className="in stack tight">
      <h3>{words.says}</h3>
      <Facts of={facts} />
      {verdict.sums && (
        <p className="note">
          {words.sums(verdict.sums.admissions, verdict.sums.bills)} {verdict.followed && words.followed(verdict.followed.caps, verdict.followed.choices)}
        </p>
      )}
    </div>
  );
}

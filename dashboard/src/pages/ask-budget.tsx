// A question whether a budget may be passed: what it is about, and an amount, the rest of its period, or a no.
import { useMutation, useQueryClient } from "@tanstack/react-query";
import { Link } from "@tanstack/react-router";
import { useId, useState } from "react";
import { type Approval, post } from "../api/client";
import { useMe } from "../app/session";
import { isAdmin } from "../lib/people";
import { lacks, microsOf, ofWire, plainUsd, shownUsd, wrongWith } from "../lib/usd";
import { m } from "../messages/en";
import { type Fact, Facts } from "../ui/facts";
import { Failure, Field, SameCommand, Status, useToast } from "../ui/pieces";
import { AskedWhen } from "./ask-when";

const words = m.budgets.asked;
type Budget = NonNullable<Approval["budget"]>;

export function BudgetAsk({ ask, budget, inRun }: { ask: Approval; budget: Budget; inRun?: string }) {
  const may = isAdmin(useMe()?.role);
  const waits = ask.status === "pending";
  const title = budget.scope === "tenant" ? words.tenant : words.title(ask.agentName);
  const lack = lacks(budget);
  const facts: (Fact | false)[] = [
    [words.cap[budget.period] ?? budget.period, shownUsd(ofWire(budget.maxCostUsd))],
    [words.spent, shownUsd(ofWire(budget.spentUsd))],
    [words.hold, shownUsd(ofWire(budget.holdUsd))],
    waits && lack > 0n && [words.lacks, <strong>{shownUsd(lack)}</strong>],
  ];
  return (
    <article className="ask" aria-label={title}>
      <div className="row between wrap">
        <h2 className="isolate">{title}</h2>
        {!waits && <Status of={ask.status} />}
      </div>
      <p className="question">{words.question[budget.period]}</p>
      <Facts of={facts} className="amounts" />
      {waits && <p className="note">{words.once}</p>}
      {ask.status === "granted" && <p className="note">{budget.moreUsd == null ? words.letRest[budget.period] : words.letMore(shownUsd(ofWire(budget.moreUsd)))}</p>}
      <div className="meta">
        <AskedWhen ask={ask} />
        {inRun !== ask.runId && (
          <Link to="/runs/$id" params={{ id: ask.runId }}>
            {words.firstRun}
          </Link>
        )}
      </div>
      {waits && (may ? <Answer ask={ask} period={budget.period} lack={lack} /> : <p className="note">{words.whoMay}</p>)}
    </article>
  );
}

function Answer({ ask, period, lack }: { ask: Approval; period: string; lack: bigint }) {
  const client = useQueryClient();
  const toast = useToast();
  const group = useId();
  const [rest, setRest] = useState(false);
  const [text, setText] = useState("");
  const micros = microsOf(text);
  const wrong = wrongWith(text, { empty: true });
  const more = rest || micros === undefined ? undefined : plainUsd(micros);
  const ready = rest || (micros !== undefined && wrong === undefined);
  const decide = useMutation({
    mutationFn: (granted: boolean) =>
      granted
        ? post("/v1/approvals/{id}/grant", { path: { id: ask.id }, body: { moreUsd: more } })
        : post("/v1/approvals/{id}/deny", { path: { id: ask.id }, body: {} }),
    onSuccess: (_, granted) => toast(granted ? m.approvals.granted : m.approvals.denied),
    // Also when it was refused: somebody else may have been quicker.
    onSettled: async () => {
      for (const key of ["approvals", "run", "caps", "budget"]) await client.invalidateQueries({ queryKey: [key] });
    },
  });
  return (
    <form
      className="stack tight"
      onSubmit={(event) => {
        event.preventDefault();
        if (ready) decide.mutate(true);
      }}
    >
      <fieldset className="choice">
        <legend className="legend">{words.how}</legend>
        <label className="check">
          <input type="radio" name={group} checked={!rest} onChange={() => setRest(false)} /> {words.more}
        </label>
        {!rest && (
          <Field label={words.more} hint={m.budgets.amountHint} quiet>
            <input type="text" inputMode="decimal" autoComplete="off" aria-invalid={wrong !== undefined} value={text} onChange={(event) => setText(event.target.value)} />
          </Field>
        )}
        <label className="check">
          <input type="radio" name={group} checked={rest} onChange={() => setRest(true)} /> {words.rest[period]}
        </label>
      </fieldset>
      {!rest && wrong !== undefined && (
        <p className="bad" role="alert">
          {m.budgets.wrong[wrong]}
        </p>
      )}
      {!rest && wrong === undefined && micros !== undefined && micros < lack && <p className="banner">{words.little(shownUsd(lack))}</p>}
      <div className="row wrap">
        <button type="submit" className="btn first" disabled={decide.isPending || !ready}>
          {words.grant}
        </button>
        <button type="button" className="btn danger" disabled={decide.isPending} onClick={() => decide.mutate(false)}>
          {words.deny}
        </button>
      </div>
      <p className="hint">{words.denyText[period]}</p>
      <Failure error={decide.error} />
      <SameCommand line={[`lantern approvals grant ${ask.id}${rest ? "" : ` --more ${more ?? "USD"}`}`, `lantern approvals deny ${ask.id}`]} />
    </form>
  );
}

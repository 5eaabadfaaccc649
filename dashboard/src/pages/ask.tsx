// A question to a person, and the two answers to it.
import { useMutation, useQuery, useQueryClient } from "@tanstack/react-query";
import { Link } from "@tanstack/react-router";
import { useState } from "react";
import { type Approval, get, page, post } from "../api/client";
import { pretty, shell } from "../lib/format";
import { m } from "../messages/en";
import { Failure, Field, SameCommand, Status, useToast } from "../ui/pieces";
import { BudgetAsk } from "./ask-budget";
import { AskedWhen } from "./ask-when";

/** What a run waits for. A question about a budget names the run that asked first; the others know it by its id, from their events. */
export function useApprovals(runId: string, waits: boolean, budgetAsks: string[]): Approval[] {
  const asks = useQuery({
    queryKey: ["approvals", "run", runId],
    queryFn: ({ signal }) => page("/v1/approvals", { query: { status: "pending", runId, limit: 50 }, signal }),
    enabled: waits,
    refetchInterval: 4_000,
  });
  const shared = useQuery({
    queryKey: ["approvals", "budgets", ...budgetAsks],
    queryFn: ({ signal }) => Promise.all(budgetAsks.map((id) => get("/v1/approvals/{id}", { path: { id }, signal }))),
    enabled: waits && budgetAsks.length > 0,
    refetchInterval: 4_000,
  });
  if (!waits) return [];
  const own = asks.data?.items ?? [];
  return [...own, ...(shared.data ?? []).filter((ask) => ask.status === "pending" && own.every(({ id }) => id !== ask.id))];
}

export function AskCard(props: { ask: Approval; may: boolean; inRun?: string }) {
  const { budget } = props.ask;
  return budget ? <BudgetAsk ask={props.ask} budget={budget} inRun={props.inRun} /> : <StepAsk {...props} />;
}

function StepAsk({ ask, may, inRun }: { ask: Approval; may: boolean; inRun?: string }) {
  const client = useQueryClient();
  const toast = useToast();
  const [note, setNote] = useState("");
  const decide = useMutation({
    mutationFn: (granted: boolean) =>
      granted
        ? post("/v1/approvals/{id}/grant", { path: { id: ask.id }, body: { note: note || undefined } })
        : post("/v1/approvals/{id}/deny", { path: { id: ask.id }, body: { note: note || undefined } }),
    onSuccess: async (_, granted) => {
      toast(granted ? m.approvals.granted : m.approvals.denied);
      await client.invalidateQueries({ queryKey: ["approvals"] });
      await client.invalidateQueries({ queryKey: ["run", ask.runId] });
    },
  });
  const waits = ask.status === "pending";
  const question = ask.reason ?? (ask.tool ? m.approvals.tool(ask.tool) : ask.stepId);
  return (
    <article className="ask" aria-label={m.approvals.asks(ask.agentName)}>
      <div className="row between wrap">
        <h2 className="isolate">{m.approvals.asks(ask.agentName)}</h2>
        {!waits && <Status of={ask.status} />}
      </div>
      <p className="question text">{question}</p>
      {ask.arguments !== undefined && ask.arguments !== null && (
        <pre className="block" tabIndex={0} aria-label={m.approvals.arguments}>
          {pretty(ask.arguments)}
        </pre>
      )}
      <div className="meta">
        <AskedWhen ask={ask} />
        {ask.approvers && ask.approvers.length > 0 && <span>{m.approvals.only(ask.approvers.join(", "))}</span>}
        {!inRun && (
          <Link to="/runs/$id" params={{ id: ask.runId }}>
            {m.approvals.openRun}
          </Link>
        )}
      </div>
      {ask.note && !waits && <p className="note text">{ask.note}</p>}
      {waits && may && (
        <>
          <Field label={m.approvals.note}>
            <input type="text" value={note} onChange={(event) => setNote(event.target.value)} />
          </Field>
          <div className="row wrap">
            <button type="button" className="btn first" disabled={decide.isPending} onClick={() => decide.mutate(true)}>
              {m.approvals.approve}
            </button>
            <button type="button" className="btn danger" disabled={decide.isPending} onClick={() => decide.mutate(false)}>
              {m.approvals.deny}
            </button>
          </div>
          <Failure error={decide.error} />
          <SameCommand line={["grant", "deny"].map((how) => `lantern approvals ${how} ${ask.id}${note ? ` --note ${shell(note)}` : ""}`)} />
        </>
      )}
    </article>
  );
}

// What the runs of one agent may spend, what they did, and what happens when that is reached.
import { useMutation, useQuery, useQueryClient } from "@tanstack/react-query";
import { useState } from "react";
import { ApiError, type Budget, get, put, remove } from "../api/client";
import { useMe } from "../app/session";
import { type BudgetForm, budgetBody, budgetCommand, dayPasses } from "../lib/caps";
import { money, shell } from "../lib/format";
import { isAdmin } from "../lib/people";
import { fieldOf, wrongWith } from "../lib/usd";
import { m } from "../messages/en";
import { Amount } from "../ui/amount";
import { Facts } from "../ui/facts";
import { Gauge } from "../ui/gauge";
import { Confirm, Empty, Failure, Field, Loading, SameCommand, Time, useToast } from "../ui/pieces";
import { WhenReached } from "./set-caps";

const words = m.budgets.agent;
const MAY = { empty: true };

/** The budget of an agent; `null` when it has none. */
async function budgetOf(name: string, signal: AbortSignal): Promise<Budget | null> {
  try {
    return await get("/v1/agents/{name}/budget", { path: { name }, signal });
  } catch (error) {
    if (error instanceof ApiError && error.code === "budget_not_found") return null;
    throw error;
  }
}

export function AgentBudget({ name }: { name: string }) {
  const may = isAdmin(useMe()?.role);
  const [doing, setDoing] = useState<"set" | "remove">();
  const budget = useQuery({ queryKey: ["budget", name], queryFn: ({ signal }) => budgetOf(name, signal), refetchInterval: 4_000 });
  const close = () => setDoing(undefined);
  if (budget.isPending) return <Loading />;
  return (
    <div className="stack">
      <section className="card" aria-label={words.title}>
        <header>
          <h2>{words.title}</h2>
          {may && (
            <span className="row">
              {budget.data && (
                <button type="button" className="btn small danger" onClick={() => setDoing("remove")}>
                  {words.remove}
                </button>
              )}
              <button type="button" className="btn small" onClick={() => setDoing("set")}>
                {words.set}
              </button>
            </span>
          )}
        </header>
        <Failure error={budget.error} retry={() => void budget.refetch()} />
        {budget.data === null && <Empty title={words.empty} hint={words.emptyHint} command={`lantern budgets set ${shell(name)} --day 1 --on-limit ask`} />}
        {budget.data && <Stands budget={budget.data} />}
      </section>
      {budget.data && <SameCommand line={`lantern budgets get ${shell(name)}`} />}
      {doing === "set" && <SetBudget name={name} now={budget.data ?? undefined} onClose={close} />}
      {doing === "remove" && <RemoveBudget name={name} onClose={close} />}
    </div>
  );
}

function Stands({ budget }: { budget: Budget }) {
  const names = words.facts;
  return (
    <div className="in stack">
      <Gauge title={m.spending.day} spent={budget.spentTodayUsd} held={budget.heldTodayUsd} cap={budget.maxCostUsdPerDay ?? undefined} />
      <Gauge title={m.spending.month} spent={budget.spentThisMonthUsd} held={0} cap={budget.maxCostUsdPerMonth ?? undefined} />
      <Facts
        of={[
          [names.run, budget.maxCostUsdPerRun == null ? m.spending.noCap : money(budget.maxCostUsdPerRun)],
          ...(budget.maxRunsPerDay == null ? [] : [[names.runs, words.of(budget.runsToday ?? 0, budget.maxRunsPerDay)] as const]),
          ...Object.entries(budget.toolLimits ?? {}).map(([tool, most]) => [tool, words.of(budget.toolCallsToday?.[tool] ?? 0, most)] as const),
          [names.notify, words.percent(budget.notifyAtPct)],
          [names.onLimit, words.does[budget.onLimit] ?? budget.onLimit],
          [names.set, <Time at={budget.updatedAt} />],
        ]}
      />
      {budget.warnings.length > 0 && (
        <div className="stack tight">
          <h3>{words.warnings}</h3>
          <ul className="stack tight">
            {budget.warnings.map((one) => (
              <li key={`${one.period} ${one.at}`}>
                {words.warned[one.period]?.(money(one.spentUsd), money(one.maxCostUsd))}{" "}
                <span className="dim">
                  <Time at={one.at} />
                </span>
              </li>
            ))}
          </ul>
        </div>
      )}
    </div>
  );
}

function SetBudget({ name, now, onClose }: { name: string; now?: Budget; onClose: () => void }) {
  const client = useQueryClient();
  const toast = useToast();
  const [form, setForm] = useState<BudgetForm>({
    day: fieldOf(now?.maxCostUsdPerDay),
    month: fieldOf(now?.maxCostUsdPerMonth),
    run: fieldOf(now?.maxCostUsdPerRun),
    notifyAt: now ? String(now.notifyAtPct) : "",
    onLimit: now?.onLimit === "ask" ? "ask" : "stop",
    runs: now?.maxRunsPerDay == null ? "" : String(now.maxRunsPerDay),
    tools: now?.toolLimits ?? {},
  });
  const set = (more: Partial<BudgetForm>) => setForm((before) => ({ ...before, ...more }));
  const amounts = [form.day, form.month, form.run];
  const none = [...amounts, form.runs].every((text) => text.trim() === "") && Object.keys(form.tools).length === 0;
  const wrong = none || amounts.some((text) => wrongWith(text, MAY) !== undefined);
  const save = useMutation({
    mutationFn: () => put("/v1/agents/{name}/budget", { path: { name }, body: budgetBody(form) }),
    onSuccess: async () => {
      toast(words.saved);
      onClose();
      for (const key of ["budget", "caps", "approvals"]) await client.invalidateQueries({ queryKey: [key] });
    },
  });
  const says = words.form;
  return (
    <Confirm title={says.title(name)} text={says.text} action={says.save} command={budgetCommand(name, form, shell)} busy={save.isPending || wrong} error={save.error} onConfirm={() => save.mutate()} onClose={onClose}>
      <Amount label={says.day} hint={m.budgets.amountHint} value={form.day} onChange={(day) => set({ day })} may={MAY} first />
      <Amount label={says.month} value={form.month} onChange={(month) => set({ month })} may={MAY} />
      <Amount label={says.run} hint={says.runHint} value={form.run} onChange={(run) => set({ run })} may={MAY} />
      <Field label={says.runs} hint={says.runsHint}>
        <input type="number" min="1" step="1" value={form.runs} onChange={(event) => set({ runs: event.target.value })} />
      </Field>
      <Field label={says.notify} hint={says.notifyHint}>
        <input type="number" min="1" max="100" step="1" placeholder="80" value={form.notifyAt} onChange={(event) => set({ notifyAt: event.target.value })} />
      </Field>
      <WhenReached value={form.onLimit} onChange={(onLimit) => set({ onLimit })} />
      {none && <p className="note">{says.none}</p>}
      {dayPasses(form.day, form.month) && <p className="banner">{m.budgets.dayPasses}</p>}
    </Confirm>
  );
}

function RemoveBudget({ name, onClose }: { name: string; onClose: () => void }) {
  const client = useQueryClient();
  const toast = useToast();
  const gone = useMutation({
    mutationFn: () => remove("/v1/agents/{name}/budget", { path: { name } }),
    onSuccess: async () => {
      toast(words.removed);
      onClose();
      for (const key of ["budget", "caps", "approvals"]) await client.invalidateQueries({ queryKey: [key] });
    },
  });
  return <Confirm title={words.removeTitle(name)} text={words.removeText} action={words.remove} command={`lantern budgets delete ${shell(name)}`} danger busy={gone.isPending} error={gone.error} onConfirm={() => gone.mutate()} onClose={onClose} />;
}

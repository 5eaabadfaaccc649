// Caps, put together by whose they are.

import { microsOf } from "./usd";

export interface Cap {
  scope: string;
  period: string;
  apiKeyId?: string | null;
  agentName?: string | null;
}

/** What is done when a cap is reached. */
export type OnLimit = "ask" | "stop";

/** The budget of an agent as a form has it: amounts as they are typed, and empty ones that bound nothing. */
export interface BudgetForm {
  day: string;
  month: string;
  run: string;
  notifyAt: string;
  onLimit: OnLimit;
  /** So many runs a day. */
  runs: string;
  /** So many calls of each tool a day, which the form keeps as they were said elsewhere. */
  tools: Readonly<Record<string, number>>;
}

const amount = (text: string) => text.trim() || undefined;

/** What is sent of it, which replaces all that was said before. A budget that asks is not hard, and a hard one stops. */
export function budgetBody({ day, month, run, notifyAt, onLimit, runs, tools }: BudgetForm) {
  return {
    maxRunsPerDay: runs.trim() === "" ? undefined : Number(runs),
    toolLimits: Object.keys(tools).length === 0 ? undefined : tools,
    maxCostUsdPerDay: amount(day), maxCostUsdPerMonth: amount(month), maxCostUsdPerRun: amount(run),
    notifyAtPct: notifyAt.trim() === "" ? undefined : Number(notifyAt), hardFail: onLimit === "stop", onLimit,
  };
}

/** The command that does the same. */
export function budgetCommand(agent: string, form: BudgetForm, quote: (word: string) => string): string {
  const flag = (name: string, text: string) => (text.trim() === "" ? "" : ` --${name} ${quote(text.trim())}`);
  const tools = Object.entries(form.tools).map(([tool, most]) => ` --tool ${quote(`${tool}=${most}`)}`);
  const amounts = `${flag("day", form.day)}${flag("month", form.month)}${flag("run", form.run)}${flag("runs-per-day", form.runs)}`;
  return `lantern budgets set ${quote(agent)}${amounts}${tools.join("")}${flag("notify-at", form.notifyAt)} --on-limit ${form.onLimit}`;
}

/** Whether a day's amount passes the month's, which the server refuses. */
export function dayPasses(day: string, month: string): boolean {
  const [a, b] = [microsOf(day), microsOf(month)];
  return a !== undefined && b !== undefined && a > b;
}

const ORDER = ["tenant", "agent", "apiKey"];

/** Those of the workspace first, then those of agents, then those of keys; of each owner the day before the month. */
export function byOwner<C extends Cap>(caps: readonly C[]): { scope: string; id: string; caps: C[] }[] {
  const owners = new Map<string, { scope: string; id: string; caps: C[] }>();
  for (const cap of caps) {
    const id = cap.apiKeyId ?? cap.agentName ?? "";
    const owner = owners.get(`${cap.scope} ${id}`) ?? { scope: cap.scope, id, caps: [] };
    owner.caps.push(cap);
    owners.set(`${cap.scope} ${id}`, owner);
  }
  const place = ({ scope }: { scope: string }) => ORDER.indexOf(scope);
  const found = [...owners.values()].sort((a, b) => place(a) - place(b) || (a.id < b.id ? -1 : 1));
  for (const owner of found) owner.caps.sort((a, b) => (a.period < b.period ? -1 : 1));
  return found;
}

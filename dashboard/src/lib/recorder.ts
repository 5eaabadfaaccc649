// What a run's events come to: its steps, as they stand after the last event that was told. A fold, like the server's own.
//
// Total: an event of a kind that this build does not know stands among the raw events and changes nothing here.

export interface RunEvent {
  seq: number;
  kind: string;
  stepId?: string;
  attempt?: number;
  ts?: string;
  data: Record<string, unknown>;
}

export type StepState = "waiting" | "working" | "retrying" | "done" | "failed" | "in_doubt" | "denied" | "abandoned";

export interface Mark {
  at: number;
  kind: "retry" | "resent" | "doubt" | "resolved" | "granted" | "denied" | "asked" | "answered";
  text: string;
}

export interface Step {
  id: string;
  name: string;
  type: string;
  parent?: string;
  effect?: string;
  state: StepState;
  startedAt: number;
  admittedAt?: number;
  endedAt?: number;
  due?: string;
  attempt: number;
  costUsd: number;
  heldUsd: number;
  tokensIn: number;
  tokensOut: number;
  provider?: string;
  model?: string;
  finish?: string;
  asked?: unknown;
  output?: unknown;
  toolCalls: { id?: string; name: string; arguments: string }[];
  code?: string;
  error?: string;
  reused: boolean;
  childRunId?: string;
  approval?: "asked" | "granted" | "denied";
  /** The question about a budget that it waits for. */
  budgetAsk?: string;
  decidedBy?: string;
  note?: string;
  marks: Mark[];
  /** What streams back and is stored nowhere. */
  saying?: string;
  said?: { generation: number; bytes: number };
}

export interface Recorded {
  steps: Map<string, Step>;
  events: RunEvent[];
  startedAt?: number;
  endedAt?: number;
  lastAt?: number;
  input?: unknown;
  output?: unknown;
  capUsd?: number;
  ending?: string;
  paused: boolean;
}

export function nothing(): Recorded {
  return { steps: new Map(), events: [], paused: false };
}

const text = (value: unknown): string | undefined => (typeof value === "string" ? value : undefined);
const number = (value: unknown): number => (typeof value === "number" ? value : 0);
const millis = (event: RunEvent): number | undefined => (event.ts ? Date.parse(event.ts) : undefined);

/** Takes events in. Those that were taken before change nothing. What is given is not changed. */
export function record(before: Recorded, events: RunEvent[]): Recorded {
  const after: Recorded = { ...before, steps: new Map(before.steps), events: before.events.slice() };
  let last = after.events.at(-1)?.seq ?? 0;
  for (const event of events) {
    if (event.kind === "llm_delta") {
      say(after, event);
      continue;
    }
    if (event.kind === "end" || event.seq <= last) continue;
    last = event.seq;
    after.events.push(event);
    after.lastAt = millis(event) ?? after.lastAt;
    take(after, event);
  }
  return after;
}

/** A piece of what a model says. Pieces say where they belong, so that one that comes twice is told once. */
function say(run: Recorded, event: RunEvent): void {
  const step = event.stepId === undefined ? undefined : run.steps.get(event.stepId);
  if (!step || step.endedAt !== undefined) return;
  const generation = number(event.data.generation);
  const same = step.said?.generation === generation ? step.said : { generation, bytes: 0 };
  const before = same.bytes === 0 ? "" : (step.saying ?? "");
  const offset = number(event.data.offset);
  const piece = text(event.data.text) ?? "";
  const end = offset + new TextEncoder().encode(piece).length;
  if (end <= same.bytes) return;
  // What was said before this page began to listen is not told again until it is whole.
  const gap = offset > same.bytes ? (before === "" ? "…" : " … ") : "";
  run.steps.set(step.id, { ...step, saying: before + gap + piece, said: { generation, bytes: end } });
}

function take(run: Recorded, event: RunEvent): void {
  const at = millis(event) ?? 0;
  const { data } = event;
  switch (event.kind) {
    case "run_started":
      run.startedAt = at;
      run.input = data.input;
      run.capUsd = number(data.capUsd);
      return;
    case "run_succeeded":
    case "run_failed":
    case "run_cancelled":
      run.endedAt = at;
      run.output = data.output;
      run.paused = false;
      return;
    case "paused":
      run.paused = true;
      return;
    case "resumed":
      run.paused = false;
      return;
    case "run_ending":
      run.ending = text(data.outcome);
      return;
  }
  if (event.stepId === undefined) return;
  const known = run.steps.get(event.stepId) ?? fresh(event.stepId, at);
  run.steps.set(event.stepId, { ...known, ...change(known, event, at) });
}

function fresh(id: string, at: number): Step {
  return {
    id, name: id, type: "", state: "waiting", startedAt: at, attempt: 1, costUsd: 0, heldUsd: 0,
    tokensIn: 0, tokensOut: 0, toolCalls: [], reused: false, marks: [],
  };
}

function change(step: Step, event: RunEvent, at: number): Partial<Step> {
  const { data } = event;
  const marked = (kind: Mark["kind"], words: string): Mark[] => [...step.marks, { at, kind, text: words }];
  const trouble = () => [text(data.code), text(data.error)].filter(Boolean).join(": ");
  const named = { name: text(data.name) ?? step.name, type: text(data.type) ?? step.type };
  switch (event.kind) {
    case "step_started":
    case "sleep_started":
    case "signal_waiting":
    case "child_started":
      return {
        ...named, startedAt: at, asked: data.arguments ?? undefined, parent: text(data.parent), effect: text(data.effect),
        due: text(data.due), childRunId: text(data.childRunId),
      };
    case "step_admitted":
      return {
        state: "working", admittedAt: step.admittedAt ?? at, attempt: event.attempt ?? 1, heldUsd: number(data.holdUsd),
        provider: text(data.provider) ?? step.provider, model: text(data.model) ?? step.model,
      };
    case "step_readmitted":
      // Another try of a child is another run.
      return { state: "working", attempt: event.attempt ?? step.attempt, childRunId: text(data.childRunId) ?? step.childRunId };
    case "step_retrying":
      return {
        state: "retrying", due: text(data.due), attempt: (event.attempt ?? step.attempt) + 1,
        costUsd: step.costUsd + number(data.cost_usd), saying: undefined, marks: marked("retry", trouble()),
      };
    case "step_reissued":
      return { state: "working", attempt: event.attempt ?? step.attempt, saying: undefined, marks: marked("resent", "") };
    case "step_in_doubt":
      return { state: "in_doubt", code: text(data.code), error: text(data.error), marks: marked("doubt", trouble()) };
    case "step_resolved":
      return { state: "working", marks: marked("resolved", text(data.by) ?? "") };
    case "step_completed":
    case "sleep_completed":
    case "child_completed":
      return {
        ...named, state: "done", endedAt: at, heldUsd: 0, saying: undefined, reused: data.reused === true,
        costUsd: step.costUsd + number(data.cost_usd), tokensIn: step.tokensIn + number(data.tokens_in),
        tokensOut: step.tokensOut + number(data.tokens_out), output: data.output ?? data.result, finish: text(data.finish),
        provider: text(data.provider) ?? step.provider, model: text(data.model) ?? step.model,
        toolCalls: Array.isArray(data.toolCalls) ? (data.toolCalls as Step["toolCalls"]) : [],
      };
    case "step_failed":
      return {
        ...named, state: "failed", endedAt: at, heldUsd: 0, saying: undefined, code: text(data.code), error: text(data.error),
        costUsd: step.costUsd + number(data.cost_usd), reused: data.reused === true,
      };
    case "step_denied":
      return { state: "denied", endedAt: at, heldUsd: 0, code: text(data.code), error: text(data.error) };
    case "step_abandoned":
      return { state: "abandoned", endedAt: at, heldUsd: 0, code: text(data.code), costUsd: step.costUsd + number(data.cost_usd) };
    case "step_charged":
      return { costUsd: step.costUsd + number(data.cost_usd) };
    case "budget_asked":
      return { budgetAsk: text(data.approvalId), due: text(data.expiresAt), marks: marked("asked", "") };
    case "budget_answered":
      return { budgetAsk: undefined, marks: marked("answered", text(data.status) ?? "") };
    case "approval_requested":
      return { approval: "asked", due: text(data.expiresAt) };
    case "approval_granted":
    case "approval_denied": {
      const granted = event.kind === "approval_granted";
      const by = text(data.by);
      return {
        approval: granted ? "granted" : "denied", decidedBy: by, note: text(data.note),
        marks: marked(granted ? "granted" : "denied", by ?? ""),
      };
    }
    default:
      return {};
  }
}

/** The questions about budgets that a run waits for, by their ids. */
export function budgetAsks(run: Recorded): string[] {
  return [...new Set([...run.steps.values()].flatMap(({ budgetAsk }) => (budgetAsk === undefined ? [] : [budgetAsk])))];
}

/** The model and tool calls that a model call came after, in the order they began. */
export function before(run: Recorded, step: Step): Step[] {
  const earlier: Step[] = [];
  for (const one of run.steps.values()) {
    if (one.id === step.id) break;
    if (one.type === "llm" || one.type === "tool") earlier.push(one);
  }
  return earlier;
}

export interface Bar {
  /** Where it begins and how long it is, in hundredths of the whole. */
  left: number;
  width: number;
  /** How much of it was waiting to be let in. */
  queued: number;
  depth: number;
  step: Step;
}

/** The waterfall: steps in the order they began, children under their parents' time. */
export function waterfall(run: Recorded, now: number): Bar[] {
  const steps = [...run.steps.values()];
  const from = run.startedAt ?? steps[0]?.startedAt ?? now;
  const open = run.endedAt === undefined;
  const to = Math.max(open ? now : (run.endedAt ?? now), run.lastAt ?? from, from + 1);
  const share = (ms: number) => (100 * ms) / (to - from);
  return steps.map((step) => {
    const end = step.endedAt ?? (open ? to : (run.endedAt ?? to));
    const left = Math.min(Math.max(share(step.startedAt - from), 0), 100);
    const width = Math.min(Math.max(share(end - step.startedAt), 0.4), 100 - Math.min(left, 99.6));
    const waited = (step.admittedAt ?? step.startedAt) - step.startedAt;
    const queued = width === 0 ? 0 : Math.min((100 * waited) / Math.max(end - step.startedAt, 1), 100);
    return { left: Math.min(left, 99.6), width, queued, depth: depth(run, step), step };
  });
}

function depth(run: Recorded, step: Step): number {
  let deep = 0;
  let above = step.parent === undefined ? undefined : run.steps.get(step.parent);
  while (above && deep < 8) {
    deep += 1;
    above = above.parent === undefined ? undefined : run.steps.get(above.parent);
  }
  return deep;
}

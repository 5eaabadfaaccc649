// A conversation as its stream tells it: what was said, the tools that were called, and whether an answer is on its way. A fold.

export interface ToolUse {
  step: string;
  name: string;
  args: string;
  result?: string;
  error?: string;
  status: "running" | "completed" | "failed";
}

export interface Said {
  key: string;
  role: "user" | "assistant";
  text: string;
  at: string;
  runId?: string;
  /** The step whose pieces `text` is made of while they come, and how many bytes of them there are. */
  piece?: { step: string; bytes: number };
  tools: ToolUse[];
  /** Why there is no answer. */
  failed?: string;
  cancelled?: boolean;
}

export interface Conversation {
  said: Said[];
  /** The run that answers now. */
  working?: string;
  /** What it does: it thinks, or a person is waited for. */
  doing?: "thinking" | "waiting";
  stopped: boolean;
  last: number;
}

export interface ChatFrame {
  id?: string;
  type: string;
  data: Record<string, unknown>;
  timestamp?: string;
}

export function silence(): Conversation {
  return { said: [], stopped: false, last: 0 };
}

/** What a run does that waits for somebody. */
const WAITS = new Set(["waiting_for_approval", "in_doubt", "paused"]);

const text = (value: unknown): string => (typeof value === "string" ? value : "");

/** Takes frames in. Those that were taken before change nothing. */
export function hear(before: Conversation, frames: ChatFrame[]): Conversation {
  let now: Conversation = { ...before, said: before.said.slice() };
  for (const frame of frames) {
    const id = frame.id === undefined ? undefined : Number(frame.id);
    if (id !== undefined) {
      if (id <= now.last) continue;
      now.last = id;
    }
    now = one(now, frame);
  }
  return now;
}

function one(now: Conversation, frame: ChatFrame): Conversation {
  const { data, type } = frame;
  const at = frame.timestamp ?? "";
  const run = text(data.runId) || now.working;
  switch (type) {
    case "user.message":
      now.said.push({ key: frame.id ?? at, role: "user", text: text(data.content), at, runId: run, tools: [] });
      return { ...now, working: run, doing: "thinking" };
    case "agent.thinking":
      return { ...now, working: run, doing: WAITS.has(text(data.status)) ? "waiting" : "thinking" };
    case "agent.tool_call_started": {
      const answer = open(now, frame, run);
      const tool: ToolUse = { step: text(data.step), name: text(data.name), args: text(data.args), status: "running" };
      answer.tools = [...answer.tools.filter((used) => used.step !== tool.step), tool];
      return now;
    }
    case "agent.tool_call_completed":
    case "agent.tool_call_failed": {
      const answer = open(now, frame, run);
      const step = text(data.step);
      const known = answer.tools.find((used) => used.step === step);
      const failed = type.endsWith("failed") || text(data.error) !== "";
      const done: ToolUse = {
        step, name: known?.name ?? text(data.name), args: known?.args ?? text(data.args),
        result: text(data.result) || undefined, error: text(data.error) || undefined, status: failed ? "failed" : "completed",
      };
      answer.tools = known ? answer.tools.map((used) => (used.step === step ? done : used)) : [...answer.tools, done];
      return now;
    }
    case "agent.delta": {
      const answer = open(now, frame, run);
      const step = text(data.step);
      const content = text(data.content);
      const begun = answer.piece?.step === step ? answer.piece.bytes : 0;
      const end = Number(text(data.offset)) + new TextEncoder().encode(content).length;
      // A piece that was heard before a connection broke may come again.
      if (end <= begun) return now;
      answer.text = begun === 0 ? content : answer.text + content;
      answer.piece = { step, bytes: end };
      return now;
    }
    case "agent.message": {
      const answer = open(now, frame, run);
      answer.text = text(data.content);
      answer.piece = undefined;
      return now;
    }
    case "session.status_idle": {
      const status = text(data.status);
      if (status === "cancelled") open(now, frame, run).cancelled = true;
      else if (status === "failed") open(now, frame, run).failed = [text(data.code), text(data.error)].filter(Boolean).join(": ");
      return { ...now, working: undefined, doing: undefined };
    }
    case "session.stopped":
      return { ...now, working: undefined, doing: undefined, stopped: true };
    default:
      return now;
  }
}

/** The answer that is on its way: a copy in its place, which may be changed. */
function open(now: Conversation, frame: ChatFrame, run: string | undefined): Said {
  const last = now.said.at(-1);
  if (last?.role === "assistant" && last.runId === run) {
    const copy = { ...last };
    now.said[now.said.length - 1] = copy;
    return copy;
  }
  const fresh: Said = { key: `answer-${run}-${frame.id ?? now.said.length}`, role: "assistant", text: "", at: frame.timestamp ?? "", runId: run, tools: [] };
  now.said.push(fresh);
  return fresh;
}

// What a list of runs is about, as the address of its page says it. Pure; unknown words are dropped, never sent on.
import type { Query } from "../api/client";

export const STATUSES = ["queued", "running", "paused", "succeeded", "failed", "cancelled"] as const;
export type Status = (typeof STATUSES)[number];

export interface RunFilters {
  status?: Status[];
  agent?: string;
  q?: string;
  parent?: string;
  session?: string;
}

/** The filters in an address. */
export function readFilters(search: Record<string, unknown>): RunFilters {
  const words = (value: unknown) => (typeof value === "string" && value.trim() !== "" ? value.trim().slice(0, 256) : undefined);
  const asked = typeof search.status === "string" ? search.status.split(",") : [];
  const status = STATUSES.filter((known) => asked.includes(known));
  return clean({
    status: status.length > 0 ? status : undefined,
    agent: words(search.agent), q: words(search.q), parent: words(search.parent), session: words(search.session),
  });
}

/** What stands in the address for them. */
export function writeFilters(filters: RunFilters): Record<string, string | undefined> {
  return clean({ ...filters, status: filters.status?.length ? filters.status.join(",") : undefined });
}

/** What the API is asked. */
export function asQuery(filters: RunFilters): Query {
  return clean({
    status: filters.status?.join(","), agent: filters.agent, q: filters.q, parent: filters.parent, sessionId: filters.session,
  });
}

/** The command that lists the same. */
export function asCommand(filters: RunFilters, shell: (word: string) => string): string {
  const flags = [
    ...(filters.agent ? [`--agent ${shell(filters.agent)}`] : []),
    ...(filters.status ? [`--status ${filters.status.join(",")}`] : []),
    ...(filters.q ? [`--query ${shell(filters.q)}`] : []),
    ...(filters.parent ? [`--parent ${shell(filters.parent)}`] : []),
    ...(filters.session ? [`--session ${shell(filters.session)}`] : []),
  ];
  return ["lantern runs list", ...flags].join(" ");
}

export function toggle(filters: RunFilters, status: Status): RunFilters {
  const has = filters.status?.includes(status) ?? false;
  const rest = (filters.status ?? []).filter((one) => one !== status);
  const next = has ? rest : STATUSES.filter((one) => one === status || rest.includes(one));
  return clean({ ...filters, status: next.length > 0 ? next : undefined });
}

function clean<T extends object>(value: T): T {
  return Object.fromEntries(Object.entries(value).filter(([, one]) => one !== undefined)) as T;
}

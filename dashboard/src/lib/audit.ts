// What a page of the audit log is about, as its address says it. Pure; what is none of these words is dropped, never sent on.
import type { Query } from "../api/client";

export const OUTCOMES = ["succeeded", "replayed", "denied", "refused", "failed", "abandoned"] as const;

export interface AuditFilters {
  /** The id of a person or a key. */
  who?: string;
  action?: string;
  outcome?: (typeof OUTCOMES)[number];
  /** Times in UTC, as the API takes them. */
  since?: string;
  until?: string;
}

const ID = /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/i;

export function readAudit(search: Record<string, unknown>): AuditFilters {
  const text = (name: string) => (typeof search[name] === "string" && search[name].trim() !== "" ? search[name].trim().slice(0, 128) : undefined);
  const time = (name: string) => {
    const at = Date.parse(text(name) ?? "");
    return Number.isNaN(at) ? undefined : new Date(at).toISOString();
  };
  const who = text("who");
  const found = { who: who && ID.test(who) ? who : undefined, action: text("action"), outcome: OUTCOMES.find((one) => one === search.outcome), since: time("since"), until: time("until") };
  return Object.fromEntries(Object.entries(found).filter(([, value]) => value !== undefined));
}

export function auditQuery({ who, ...same }: AuditFilters): Query {
  return { ...same, principalId: who };
}

/** The command that lists the same. */
export function auditCommand(filters: AuditFilters, shell: (word: string) => string): string {
  const flags = { action: filters.action, outcome: filters.outcome, principal: filters.who, since: filters.since, until: filters.until };
  return ["lantern audit list", ...Object.entries(flags).flatMap(([name, value]) => (value ? [`--${name} ${shell(value)}`] : []))].join(" ");
}

/** A time as a field for local times takes it, and back; nothing for what is none. */
export function toField(iso: string | undefined): string {
  if (!iso) return "";
  const at = new Date(iso);
  return new Date(at.getTime() - at.getTimezoneOffset() * 60_000).toISOString().slice(0, 16);
}
export function ofField(local: string): string | undefined {
  const at = new Date(local);
  return Number.isNaN(at.getTime()) ? undefined : at.toISOString();
}

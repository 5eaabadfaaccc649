// Who did what in this workspace, and what was denied to whom.
import { useQuery } from "@tanstack/react-query";
import { Link, useNavigate, useSearch } from "@tanstack/react-router";
import { useState } from "react";
import { type AuditEntry, page } from "../api/client";
import { type AuditFilters, OUTCOMES, auditCommand, auditQuery, ofField, readAudit, toField } from "../lib/audit";
import { count, exact, shell } from "../lib/format";
import { m } from "../messages/en";
import { type Fact, Facts } from "../ui/facts";
import { More, usePages } from "../ui/more";
import { Command, Dialog, Empty, Failure, Field, Head, Loading, Time, useTitle } from "../ui/pieces";
import { Chain } from "./audit-chain";

const words = m.audit;
const TONES: Record<string, string> = { succeeded: "good", replayed: "off", denied: "bad", refused: "asks", failed: "bad", abandoned: "off" };
const LIVE_MS = 5_000;

function Outcome({ of }: { of: string }) {
  return <span className={`status ${TONES[of] ?? "off"}`}>{words.outcomes[of] ?? of}</span>;
}

/** Whom an entry is of, as far as they are known. */
const actorOf = (entry: AuditEntry) => entry.actorName ?? entry.principalId ?? words.actors[entry.actor] ?? entry.actor;

export function Audit() {
  useTitle(words.title);
  const search = useSearch({ from: "/shell/audit" });
  const navigate = useNavigate({ from: "/audit" });
  const filters = readAudit(search);
  const set = (next: AuditFilters, entry?: number) => void navigate({ search: { ...readAudit({ ...next }), entry: entry === undefined ? undefined : String(entry) }, replace: entry === undefined });
  const list = usePages(["audit", filters], (cursor, signal) => page("/v1/audit", { query: { ...auditQuery(filters), limit: 50, cursor }, signal }), { live: LIVE_MS });
  const chosen = Number(search.entry ?? "");
  return (
    <div className="page">
      <Head title={words.title} lead={words.lead} />
      <Filters filters={filters} seen={list.items} set={set} />
      <Failure error={list.error} retry={() => void list.refetch()} />
      {list.isPending ? (
        <Loading />
      ) : (
        !list.error && (
          <div className="card">
            {list.items.length > 0 ? (
              <Entries items={list.items} filters={filters} />
            ) : Object.keys(filters).length > 0 ? (
              <Empty title={words.emptyFiltered} hint={words.emptyFilteredHint} command={auditCommand(filters, shell)} />
            ) : (
              <Empty title={words.empty} hint={words.emptyHint} command="lantern audit list" />
            )}
          </div>
        )
      )}
      <More list={list} />
      {list.items.length > 0 && <Command line={auditCommand(filters, shell)} />}
      {!list.error && <Chain />}
      {chosen > 0 && <Entry id={chosen} known={list.items.find((entry) => entry.id === chosen)} filters={filters} set={set} />}
    </div>
  );
}

function Entries({ items, filters }: { items: AuditEntry[]; filters: AuditFilters }) {
  const names = words.columns;
  return (
    <table className="table" aria-label={words.table}>
      <thead>
        <tr>
          <th className="fit num wide">{names.number}</th>
          <th>{names.action}</th>
          <th className="wide">{names.who}</th>
          <th className="wide">{names.resource}</th>
          <th className="fit">{names.outcome}</th>
          <th className="fit num">{names.at}</th>
        </tr>
      </thead>
      <tbody>
        {items.map((entry) => (
          <tr key={entry.id}>
            <td className="fit num dim wide">{count(entry.id)}</td>
            <td className="cut mono">
              <Link to="/audit" search={{ ...filters, entry: String(entry.id) }}>
                {entry.action}
              </Link>
            </td>
            <td className="cut isolate wide">{actorOf(entry)}</td>
            <td className="cut mono dim isolate wide">{entry.resource}</td>
            <td className="fit">
              <Outcome of={entry.outcome} /> {entry.times > 1 && <span className="tag">{words.times(entry.times)}</span>}
            </td>
            <td className="fit num dim">
              <Time at={entry.at} />
            </td>
          </tr>
        ))}
      </tbody>
    </table>
  );
}

/** The people and keys of the workspace, to choose one of them. */
function useActors(): { id: string; name: string }[] {
  const members = useQuery({ queryKey: ["members", "names"], queryFn: ({ signal }) => page("/v1/members", { query: { limit: 100 }, signal }), staleTime: 60_000 });
  const keys = useQuery({ queryKey: ["keys", "names"], queryFn: ({ signal }) => page("/v1/api-keys", { query: { limit: 100 }, signal }), staleTime: 60_000 });
  return [...(members.data?.items ?? []).map(({ id, email }) => ({ id, name: email })), ...(keys.data?.items ?? []).map(({ id, name }) => ({ id, name: words.keyNamed(name) }))];
}

function Filters({ filters, seen, set }: { filters: AuditFilters; seen: AuditEntry[]; set: (next: AuditFilters) => void }) {
  const actors = useActors();
  const [action, setAction] = useState(filters.action ?? "");
  const names = words.filters;
  // Somebody who has left is in the log and in no list.
  const left = filters.who && !actors.some(({ id }) => id === filters.who) ? [{ id: filters.who, name: seen.find((entry) => entry.principalId === filters.who)?.actorName ?? filters.who }] : [];
  return (
    <form
      className="filters wide"
      role="search"
      aria-label={names.label}
      onSubmit={(event) => {
        event.preventDefault();
        set({ ...filters, action });
      }}
    >
      <Field label={names.who}>
        <select value={filters.who ?? ""} onChange={(event) => set({ ...filters, who: event.target.value })}>
          <option value="">{names.anybody}</option>
          {[...left, ...actors].map(({ id, name }) => (
            <option key={id} value={id}>
              {name}
            </option>
          ))}
        </select>
      </Field>
      <Field label={names.action}>
        <input type="search" list="audit-actions" placeholder={names.anyAction} value={action} onChange={(event) => setAction(event.target.value)} onBlur={() => action !== (filters.action ?? "") && set({ ...filters, action })} />
        <datalist id="audit-actions">
          {[...new Set(seen.map((entry) => entry.action))].sort().map((one) => (
            <option key={one} value={one} />
          ))}
        </datalist>
      </Field>
      <Field label={names.outcome}>
        <select value={filters.outcome ?? ""} onChange={(event) => set({ ...filters, outcome: event.target.value as AuditFilters["outcome"] })}>
          <option value="">{names.anyOutcome}</option>
          {OUTCOMES.map((one) => (
            <option key={one} value={one}>
              {words.outcomes[one]}
            </option>
          ))}
        </select>
      </Field>
      <Field label={names.since}>
        <input type="datetime-local" value={toField(filters.since)} onChange={(event) => set({ ...filters, since: ofField(event.target.value) })} />
      </Field>
      <Field label={names.until}>
        <input type="datetime-local" value={toField(filters.until)} onChange={(event) => set({ ...filters, until: ofField(event.target.value) })} />
      </Field>
      {Object.keys(filters).length > 0 && (
        <button type="button" className="btn plain" onClick={() => (setAction(""), set({}))}>
          {m.runs.reset}
        </button>
      )}
    </form>
  );
}

/** One entry, all of it; it need not be among those that are listed. */
function Entry({ id, known, filters, set }: { id: number; known?: AuditEntry; filters: AuditFilters; set: (next: AuditFilters) => void }) {
  const fetched = useQuery({
    queryKey: ["audit", "entry", id],
    queryFn: async ({ signal }) => (await page("/v1/audit", { query: { before: id + 1, limit: 1 }, signal })).items.find((entry) => entry.id === id) ?? null,
    enabled: !known,
  });
  const entry = known ?? fetched.data;
  const names = words.facts;
  const mono = (text: string) => <span className="mono">{text}</span>;
  const maybe = (name: string, value: string | null | undefined): Fact | false => !!value && [name, mono(value)];
  return (
    <Dialog title={words.entry(id)} onClose={() => set(filters)}>
      <Failure error={fetched.error} />
      {!entry && !fetched.error && (fetched.data === null ? <p className="note">{words.missing}</p> : <Loading />)}
      {entry && (
        <Facts
          of={[
            [names.action, mono(entry.action)],
            [names.outcome, <Outcome of={entry.outcome} />],
            [names.answer, [entry.status > 0 ? String(entry.status) : words.abandoned, entry.code].filter(Boolean).join(" ")],
            [names.who, <span className="isolate">{[words.actors[entry.actor] ?? entry.actor, entry.actorName].filter(Boolean).join(", ")}</span>],
            maybe(names.id, entry.principalId),
            [names.resource, mono(entry.resource)],
            [names.at, exact(entry.at)],
            entry.times > 1 && [names.times, count(entry.times)],
            maybe(names.from, entry.sourceAddress),
            maybe(names.request, entry.requestId),
            maybe(names.before, entry.before),
            maybe(names.after, entry.after),
            [names.hash, mono(entry.hash)],
          ]}
        />
      )}
      <div className="formfoot">
        {entry && (
          <button type="button" className="btn" onClick={() => set({ ...filters, action: entry.action })}>
            {words.onlyAction}
          </button>
        )}
        {entry?.principalId && (
          <button type="button" className="btn" onClick={() => set({ ...filters, who: entry.principalId ?? undefined })}>
            {words.onlyActor}
          </button>
        )}
        <button type="button" className="btn first" onClick={() => set(filters)}>
          {m.common.close}
        </button>
      </div>
    </Dialog>
  );
}

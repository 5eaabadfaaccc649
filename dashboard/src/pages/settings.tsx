// The emergency stops, for how long content is kept, and the limits in force.
import { useMutation, useQuery, useQueryClient } from "@tanstack/react-query";
import { useState } from "react";
import { get, page, post, remove } from "../api/client";
import { useMe } from "../app/session";
import { count, shell } from "../lib/format";
import { isAdmin } from "../lib/people";
import { m } from "../messages/en";
import { Confirm, Empty, Failure, Field, Head, SameCommand, Status, Time, useTitle, useToast } from "../ui/pieces";

export function Settings() {
  useTitle(m.settings.title);
  const may = isAdmin(useMe()?.role);
  return (
    <div className="page">
      <Head title={m.settings.title} lead={m.settings.lead} />
      <Stops may={may} />
      <Retention may={may} />
      <Limits />
    </div>
  );
}

function Stops({ may }: { may: boolean }) {
  const client = useQueryClient();
  const toast = useToast();
  const [setting, setSetting] = useState(false);
  const [reason, setReason] = useState("");
  const stops = useQuery({ queryKey: ["stops", "list"], queryFn: ({ signal }) => page("/v1/stops", { query: { limit: 50 }, signal }), refetchInterval: 5_000 });
  const done = async (words: string) => {
    toast(words);
    setSetting(false);
    await client.invalidateQueries({ queryKey: ["stops"] });
  };
  const set = useMutation({ mutationFn: () => post("/v1/stops", { body: { scope: "tenant", reason } }), onSuccess: () => done(m.settings.stopSet) });
  const lift = useMutation({ mutationFn: (id: string) => remove("/v1/stops/{id}", { path: { id } }), onSuccess: () => done(m.settings.lifted) });
  const items = stops.data?.items ?? [];
  const liftable = items.find((stop) => !stop.liftedAt && stop.scope !== "server");
  return (
    <section className="card">
      <header>
        <h2>{m.settings.stops}</h2>
        {may && (
          <button type="button" className="btn danger small" onClick={() => setSetting(true)}>
            {m.settings.stopAll}
          </button>
        )}
      </header>
      <Failure error={stops.error ?? lift.error} />
      {stops.data && items.length === 0 ? (
        <Empty title={m.settings.stopsEmpty} hint={m.settings.stopsText} command="lantern stop --tenant --reason 'why'" />
      ) : (
        <ul className="items">
          {items.map((stop) => (
            <li key={stop.id}>
              <Status of={stop.liftedAt ? "lifted" : "holds"} />
              <span className="nowrap isolate">{stop.agentName ?? m.settings.scope[stop.scope] ?? stop.scope}</span>
              <span className="cut dim grow isolate">{stop.reason}</span>
              <span className="when">
                {m.approvals.by(stop.setBy)} <Time at={stop.setAt} />
              </span>
              {may && !stop.liftedAt && stop.scope !== "server" && (
                <button type="button" className="btn small" disabled={lift.isPending} onClick={() => lift.mutate(stop.id)}>
                  {m.settings.lift}
                </button>
              )}
            </li>
          ))}
        </ul>
      )}
      {may && liftable && (
        <div className="in">
          <SameCommand line={`lantern stops lift ${liftable.id}`} />
        </div>
      )}
      {setting && (
        <Confirm
          title={m.settings.stopTitle}
          text={m.settings.stopDo}
          action={m.settings.stopAll}
          command={`lantern stop --tenant --reason ${shell(reason || "why")}`}
          danger
          busy={set.isPending || reason.trim() === ""}
          error={set.error}
          onConfirm={() => set.mutate()}
          onClose={() => setSetting(false)}
        >
          <Field label={m.settings.stopReason}>
            <input type="text" required autoFocus value={reason} onChange={(event) => setReason(event.target.value)} />
          </Field>
        </Confirm>
      )}
    </section>
  );
}

function Retention({ may }: { may: boolean }) {
  const client = useQueryClient();
  const toast = useToast();
  const [content, setContent] = useState("");
  const kept = useQuery({ queryKey: ["retention"], queryFn: ({ signal }) => get("/v1/settings/retention", { signal }) });
  // An empty field asks for nothing: only the word leaves it to the server.
  const asked = content.trim();
  const wished = asked === "default" ? null : asked;
  const preview = useMutation({ mutationFn: () => post("/v1/retention/preview", { body: { content: wished } }) });
  const save = useMutation({
    mutationFn: () => post("/v1/settings/retention", { body: { content: wished } }),
    onSuccess: async () => {
      toast(m.settings.retentionSaved(wished));
      setContent("");
      await client.invalidateQueries({ queryKey: ["retention"] });
    },
  });
  const source = kept.data?.source ?? "";
  return (
    <section className="card">
      <header>
        <h2>{m.settings.retention}</h2>
      </header>
      <div className="in stack">
        <p className="note">{m.settings.retentionText}</p>
        <Failure error={kept.error} />
        {kept.data && (
          <p>
            {m.settings.retentionKept} <strong>{kept.data.content ?? m.settings.retentionNever}</strong> <span className="dim">{m.settings.retentionSource[source] ?? source}</span>
          </p>
        )}
        {may && (
          <form
            className="stack"
            onSubmit={(event) => {
              event.preventDefault();
              save.mutate();
            }}
          >
            <Field label={m.settings.retentionField} hint={m.settings.retentionHint}>
              <input type="text" value={content} required onChange={(event) => (setContent(event.target.value), preview.reset())} />
            </Field>
            <Failure error={preview.error ?? save.error} />
            {preview.data && <p className="banner">{m.settings.previewed(preview.data.runs, preview.data.bodies)}</p>}
            <div className="formfoot">
              <button type="button" className="btn" disabled={preview.isPending || asked === ""} onClick={() => preview.mutate()}>
                {m.settings.preview}
              </button>
              <button type="submit" className="btn first" disabled={save.isPending || asked === ""}>
                {m.common.save}
              </button>
            </div>
            <SameCommand line={asked === "" ? "lantern retention" : [`lantern retention --content ${shell(asked)} --dry-run`, `lantern retention --content ${shell(asked)}`]} />
          </form>
        )}
      </div>
    </section>
  );
}

function Limits() {
  const limits = useQuery({ queryKey: ["limits"], queryFn: ({ signal }) => get("/v1/limits", { signal }), staleTime: 300_000 });
  const names = m.settings.limitColumns;
  const rows = Object.entries((limits.data?.limits ?? {}) as Record<string, number>);
  const defaults = (limits.data?.defaults ?? {}) as Record<string, number>;
  return (
    <section className="card">
      <header>
        <h2>{m.settings.limits}</h2>
        <span className="dim">{m.settings.limitsText}</span>
      </header>
      <Failure error={limits.error} />
      <table className="table" aria-label={m.settings.limits}>
        <thead>
          <tr>
            <th>{names.name}</th>
            <th className="fit num">{names.value}</th>
            <th className="fit num">{names.default}</th>
          </tr>
        </thead>
        <tbody>
          {rows.map(([name, value]) => (
            <tr key={name}>
              <td className="mono cut">{name}</td>
              <td className="fit num">{typeof value === "number" ? count(value) : String(value)}</td>
              <td className="fit num dim">{typeof defaults[name] === "number" ? count(defaults[name]) : m.common.none}</td>
            </tr>
          ))}
        </tbody>
      </table>
      <div className="in">
        <SameCommand line="lantern limits" />
      </div>
    </section>
  );
}

// Caps of the workspace, of its keys and of its agents: what may be spent in a day and a month, and what was.
import { useMutation, useQuery, useQueryClient } from "@tanstack/react-query";
import { useState } from "react";
import { get, page, post } from "../api/client";
import { useMe } from "../app/session";
import { shell } from "../lib/format";
import { byOwner } from "../lib/caps";
import { isAdmin } from "../lib/people";
import { m } from "../messages/en";
import { Gauge } from "../ui/gauge";
import { Confirm, Empty, Failure, Field, Head, Loading, SameCommand, useTitle, useToast } from "../ui/pieces";

export function Spending() {
  useTitle(m.spending.title);
  const may = isAdmin(useMe()?.role);
  const [setting, setSetting] = useState(false);
  const caps = useQuery({ queryKey: ["caps"], queryFn: ({ signal }) => get("/v1/settings/caps", { signal }), refetchInterval: 3_000 });
  const items = caps.data ?? [];
  const ours = items.filter((cap) => cap.scope === "tenant");
  const names = useKeyNames(items.some((cap) => cap.apiKeyId));
  const cap = (period: string) => ours.find((one) => one.period === period)?.maxCostUsd;
  return (
    <div className="page">
      <Head title={m.spending.title} lead={m.spending.lead}>
        {may && (
          <button type="button" className="btn first" onClick={() => setSetting(true)}>
            {m.spending.set}
          </button>
        )}
      </Head>
      <Failure error={caps.error} retry={() => void caps.refetch()} />
      {caps.isPending ? (
        <Loading />
      ) : items.length === 0 && !caps.error ? (
        <div className="card">
          <Empty title={m.spending.empty} hint={m.spending.emptyHint} command="lantern caps --day 5 --month 50" />
        </div>
      ) : (
        byOwner(items).map(({ scope, id, caps: theirs }) => (
          <section key={`${scope} ${id}`} className="card">
            <header>
              <h2 className="isolate">{m.spending.owner[scope]?.(names.get(id) ?? id) ?? id}</h2>
              {theirs[0]?.timeZone && <span className="dim">{m.spending.zone(theirs[0].timeZone)}</span>}
            </header>
            <div className="in stack">
              {theirs.map((one) => (
                <Gauge key={one.period} title={one.period === "month" ? m.spending.month : m.spending.day} spent={one.spentUsd} held={one.heldUsd} cap={one.maxCostUsd ?? undefined} />
              ))}
            </div>
          </section>
        ))
      )}
      <p className="note">{m.spending.counts}</p>
      <SameCommand line={ours.length === items.length ? "lantern caps" : ["lantern caps", "lantern caps --agent NAME --day 1"]} />
      {setting && <SetCaps day={cap("day")} month={cap("month")} onClose={() => setSetting(false)} />}
    </div>
  );
}

/** What the keys are called that have caps. */
function useKeyNames(asked: boolean): Map<string, string> {
  const keys = useQuery({ queryKey: ["keys", "names"], queryFn: ({ signal }) => page("/v1/api-keys", { query: { limit: 100 }, signal }), staleTime: 60_000, enabled: asked });
  return new Map((keys.data?.items ?? []).map(({ id, name }) => [id, name]));
}

function SetCaps({ day: dayNow, month: monthNow, onClose }: { day?: number | null; month?: number | null; onClose: () => void }) {
  const client = useQueryClient();
  const toast = useToast();
  const [day, setDay] = useState(dayNow?.toString() ?? "");
  const [month, setMonth] = useState(monthNow?.toString() ?? "");
  const words = m.spending.form;
  const save = useMutation({
    mutationFn: () => post("/v1/settings/caps", { body: { maxCostUsdPerDay: day.trim() || null, maxCostUsdPerMonth: month.trim() || null } }),
    onSuccess: async () => {
      toast(m.spending.saved);
      await client.invalidateQueries({ queryKey: ["caps"] });
      onClose();
    },
  });
  return (
    <Confirm
      title={words.title}
      text={words.hint}
      action={words.save}
      command={`lantern caps --day ${shell(day.trim() || "none")} --month ${shell(month.trim() || "none")}`}
      busy={save.isPending}
      error={save.error}
      onConfirm={() => save.mutate()}
      onClose={onClose}
    >
      <Field label={words.day}>
        <input type="text" inputMode="decimal" autoFocus value={day} onChange={(event) => setDay(event.target.value)} />
      </Field>
      <Field label={words.month}>
        <input type="text" inputMode="decimal" value={month} onChange={(event) => setMonth(event.target.value)} />
      </Field>
    </Confirm>
  );
}

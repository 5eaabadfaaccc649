// Caps of the front doors for models: what may be spent in a day and a month, and what was.
import { useMutation, useQuery, useQueryClient } from "@tanstack/react-query";
import { useState } from "react";
import { get, post } from "../api/client";
import { useMe } from "../app/session";
import { shell } from "../lib/format";
import { m } from "../messages/en";
import { Gauge } from "../ui/gauge";
import { Confirm, Empty, Failure, Field, Head, Loading, SameCommand, useTitle, useToast } from "../ui/pieces";

export function Spending() {
  useTitle(m.spending.title);
  const role = useMe()?.role;
  const may = role === "owner" || role === "admin";
  const [setting, setSetting] = useState(false);
  const caps = useQuery({ queryKey: ["caps"], queryFn: ({ signal }) => get("/v1/settings/caps", { signal }), refetchInterval: 3_000 });
  const items = caps.data ?? [];
  const owners = [...new Set(items.map((cap) => cap.apiKeyId ?? ""))].sort();
  const ours = items.filter((cap) => !cap.apiKeyId);
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
        owners.map((owner) => (
          <section key={owner} className="card">
            <header>
              <h2>{owner === "" ? m.spending.tenant : `${m.spending.key} ${owner}`}</h2>
            </header>
            <div className="in stack">
              {items
                .filter((one) => (one.apiKeyId ?? "") === owner)
                .map((one) => (
                  <Gauge key={one.period} title={one.period === "month" ? m.spending.month : m.spending.day} spent={one.spentUsd} held={one.heldUsd} cap={one.maxCostUsd ?? undefined} />
                ))}
            </div>
          </section>
        ))
      )}
      <p className="note">{m.spending.runsNote}</p>
      <SameCommand line="lantern caps" />
      {setting && <SetCaps day={cap("day")} month={cap("month")} onClose={() => setSetting(false)} />}
    </div>
  );
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

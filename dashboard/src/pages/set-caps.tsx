// Says what the workspace, or one of its keys, may spend in a day and a month.
import { useMutation, useQuery, useQueryClient } from "@tanstack/react-query";
import { useState } from "react";
import { type ApiKey, type SpendingCap, get, post } from "../api/client";
import { type OnLimit, dayPasses } from "../lib/caps";
import { shell } from "../lib/format";
import { fieldOf, wrongWith } from "../lib/usd";
import { m } from "../messages/en";
import { Amount } from "../ui/amount";
import { Confirm, Field, useToast } from "../ui/pieces";

const MAY = { empty: true, zero: true };

/** All caps that there are. */
export function useCaps(): SpendingCap[] {
  return useQuery({ queryKey: ["caps"], queryFn: ({ signal }) => get("/v1/settings/caps", { signal }) }).data ?? [];
}

/** Of a key, or without one of the workspace; `caps` are theirs as they stand. */
export function SetCaps({ of, caps, onClose }: { of?: ApiKey; caps: readonly SpendingCap[]; onClose: () => void }) {
  const client = useQueryClient();
  const toast = useToast();
  const now = (period: string) => caps.find((one) => one.period === period)?.maxCostUsd;
  const stood: OnLimit = caps.some(({ onLimit }) => onLimit === "ask") ? "ask" : "stop";
  const [day, setDay] = useState(fieldOf(now("day")));
  const [month, setMonth] = useState(fieldOf(now("month")));
  const [onLimit, setOnLimit] = useState(stood);
  const words = m.spending.form;
  const wrong = [day, month].some((text) => wrongWith(text, MAY) !== undefined);
  const save = useMutation({
    mutationFn: () =>
      post("/v1/settings/caps", {
        body: { apiKeyId: of?.id, maxCostUsdPerDay: day.trim() || null, maxCostUsdPerMonth: month.trim() || null, onLimit: of || onLimit === stood ? undefined : onLimit },
      }),
    onSuccess: async () => {
      toast(m.spending.saved);
      await client.invalidateQueries({ queryKey: ["caps"] });
      onClose();
    },
  });
  return (
    <Confirm
      title={of ? m.budgets.key.title(of.name) : words.title}
      text={of ? m.budgets.key.text : words.hint}
      action={words.save}
      command={`lantern caps${of ? ` --key ${of.id}` : ""} --day ${shell(day.trim() || "none")} --month ${shell(month.trim() || "none")}`}
      busy={save.isPending || wrong}
      error={save.error}
      onConfirm={() => save.mutate()}
      onClose={onClose}
    >
      <Amount label={words.day} value={day} onChange={setDay} may={MAY} first />
      <Amount label={words.month} value={month} onChange={setMonth} may={MAY} />
      {dayPasses(day, month) && <p className="banner">{m.budgets.dayPasses}</p>}
      {!of && <WhenReached value={onLimit} onChange={setOnLimit} />}
      {!of && onLimit !== stood && <p className="note">{m.budgets.noFlag}</p>}
    </Confirm>
  );
}

/** What is done when a cap is reached. */
export function WhenReached({ value, onChange }: { value: OnLimit; onChange: (onLimit: OnLimit) => void }) {
  const words = m.budgets.onLimit;
  return (
    <Field label={words.label} hint={words.hint}>
      <select value={value} onChange={(event) => onChange(event.target.value as OnLimit)}>
        <option value="stop">{words.stop}</option>
        <option value="ask">{words.ask}</option>
      </select>
    </Field>
  );
}

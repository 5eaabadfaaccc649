// API keys: made, shown once, and revoked.
import { useMutation, useQueryClient } from "@tanstack/react-query";
import { useState } from "react";
import { type ApiKey, page, post, remove } from "../api/client";
import { useMe } from "../app/session";
import { money, shell } from "../lib/format";
import { isAdmin } from "../lib/people";
import { m } from "../messages/en";
import { More, usePages } from "../ui/more";
import { Once } from "../ui/once";
import { Confirm, Empty, Failure, Field, Head, Loading, SameCommand, Status, Time, useTitle, useToast } from "../ui/pieces";
import { SetCaps, useCaps } from "./set-caps";

const SCOPES = ["read", "write", "admin", "runtime:read", "runtime:write", "runtime:admin"];

export function Keys() {
  useTitle(m.keys.title);
  const may = isAdmin(useMe()?.role);
  const client = useQueryClient();
  const toast = useToast();
  const [making, setMaking] = useState(false);
  const [made, setMade] = useState<string>();
  const [leaving, setLeaving] = useState<ApiKey>();
  const [capping, setCapping] = useState<ApiKey>();
  const caps = useCaps();
  const of = (key: ApiKey) => caps.filter(({ apiKeyId }) => apiKeyId === key.id);
  const keys = usePages(["keys"], (cursor, signal) => page("/v1/api-keys", { query: { limit: 100, cursor }, signal }));
  const revoke = useMutation({
    mutationFn: (id: string) => remove("/v1/api-keys/{id}", { path: { id } }),
    onSuccess: async () => {
      toast(m.keys.revoked);
      setLeaving(undefined);
      await client.invalidateQueries({ queryKey: ["keys"] });
    },
  });
  const { items } = keys;
  const names = m.keys.columns;
  return (
    <div className="page">
      <Head title={m.keys.title} lead={m.keys.lead}>
        {may && (
          <button type="button" className="btn first" onClick={() => setMaking(true)}>
            {m.keys.create}
          </button>
        )}
      </Head>
      <Failure error={keys.error} retry={() => void keys.refetch()} />
      {keys.isPending ? (
        <Loading />
      ) : (
        <div className="card">
          {items.length === 0 && !keys.error ? (
            <Empty title={m.keys.empty} hint={m.keys.emptyHint} command="lantern keys create --name ci --scope write" />
          ) : (
            <table className="table" aria-label={m.keys.table}>
              <thead>
                <tr>
                  <th>{names.name}</th>
                  <th className="fit wide">{names.key}</th>
                  <th className="fit wide">{names.scopes}</th>
                  <th className="fit num wide">{names.used}</th>
                  <th className="fit num wide">{names.expires}</th>
                  <th className="fit">{names.status}</th>
                  {may && (
                    <th className="fit">
                      <span className="sr">{m.keys.revoke}</span>
                    </th>
                  )}
                </tr>
              </thead>
              <tbody>
                {items.map((key) => (
                  <tr key={key.id}>
                    <td className="cut">
                      <span className="isolate">{key.name}</span>
                      <Capped caps={of(key)} />
                    </td>
                    <td className="fit mono dim wide">{key.prefix}…</td>
                    <td className="fit wide">{key.scopes.join(", ")}</td>
                    <td className="fit num dim wide">{key.lastUsedAt ? <Time at={key.lastUsedAt} /> : m.keys.never}</td>
                    <td className="fit num dim wide">{key.expiresAt ? <Time at={key.expiresAt} /> : m.keys.never}</td>
                    <td className="fit">
                      <Status of={key.status} />
                    </td>
                    {may && (
                      <td className="fit">
                        {key.status === "active" && (
                          <span className="row end">
                            <button type="button" className="btn small" aria-label={m.budgets.key.capsOf(key.name)} onClick={() => setCapping(key)}>
                              {m.budgets.key.caps}
                            </button>
                            <button type="button" className="btn small danger" onClick={() => setLeaving(key)}>
                              {m.keys.revoke}
                            </button>
                          </span>
                        )}
                      </td>
                    )}
                  </tr>
                ))}
              </tbody>
            </table>
          )}
        </div>
      )}
      <More list={keys} />
      {items.length > 0 && <SameCommand line="lantern keys list" />}
      {making && (
        <Make
          onClose={() => setMaking(false)}
          onMade={async (raw) => {
            setMaking(false);
            setMade(raw);
            await client.invalidateQueries({ queryKey: ["keys"] });
          }}
        />
      )}
      {made !== undefined && <Once title={m.keys.madeTitle} text={m.keys.madeText} secret={made} onClose={() => setMade(undefined)} />}
      {capping && <SetCaps of={capping} caps={of(capping)} onClose={() => setCapping(undefined)} />}
      {leaving && (
        <Confirm
          title={m.keys.revokeTitle(leaving.name)}
          text={m.keys.revokeText}
          action={m.keys.revoke}
          command={`lantern keys revoke ${leaving.id}`}
          danger
          busy={revoke.isPending}
          error={revoke.error}
          onConfirm={() => revoke.mutate(leaving.id)}
          onClose={() => setLeaving(undefined)}
        />
      )}
    </div>
  );
}

/** What a key spent of its caps. */
function Capped({ caps }: { caps: { period: string; spentUsd: number; maxCostUsd?: number | null }[] }) {
  const said = caps.flatMap(({ period, spentUsd, maxCostUsd }) => (maxCostUsd == null ? [] : [m.budgets.key[period === "month" ? "month" : "today"](money(spentUsd), money(maxCostUsd))]));
  if (said.length === 0) return null;
  return (
    <>
      <br />
      <span className="dim">{said.join(", ")}</span>
    </>
  );
}

function Make({ onClose, onMade }: { onClose: () => void; onMade: (raw: string) => Promise<void> }) {
  const [name, setName] = useState("");
  const [scope, setScope] = useState("write");
  const [days, setDays] = useState("");
  const words = m.keys.form;
  const make = useMutation({
    mutationFn: () => post("/v1/api-keys", { body: { name, scopes: [scope], expiresInDays: days.trim() === "" ? undefined : Number(days) } }),
    onSuccess: (made) => onMade(made.rawKey),
  });
  const line = `lantern keys create --name ${shell(name || "NAME")} --scope ${scope}${days.trim() ? ` --expires-in ${shell(`${days.trim()}d`)}` : ""}`;
  return (
    <Confirm title={words.title} action={words.create} command={line} busy={make.isPending || name === ""} error={make.error} onConfirm={() => make.mutate()} onClose={onClose}>
      <Field label={words.name} hint={words.nameHint}>
        <input type="text" required autoFocus autoComplete="off" value={name} onChange={(event) => setName(event.target.value)} />
      </Field>
      <Field label={words.scope}>
        <select value={scope} onChange={(event) => setScope(event.target.value)}>
          {SCOPES.map((one) => (
            <option key={one} value={one}>
              {words.scopes[one]}
            </option>
          ))}
        </select>
      </Field>
      <Field label={words.days} hint={words.daysHint}>
        <input type="number" min="1" value={days} onChange={(event) => setDays(event.target.value)} />
      </Field>
    </Confirm>
  );
}

// Caps of the workspace, of its keys and of its agents: what may be spent in a day and a month, and what was.
import { useQuery } from "@tanstack/react-query";
import { Link } from "@tanstack/react-router";
import { useState } from "react";
import { get, page } from "../api/client";
import { useMe } from "../app/session";
import { byOwner } from "../lib/caps";
import { isAdmin } from "../lib/people";
import { m } from "../messages/en";
import { Gauge } from "../ui/gauge";
import { Empty, Failure, Head, Loading, SameCommand, useTitle } from "../ui/pieces";
import { SetCaps } from "./set-caps";

export function Spending() {
  useTitle(m.spending.title);
  const may = isAdmin(useMe()?.role);
  const [setting, setSetting] = useState(false);
  const caps = useQuery({ queryKey: ["caps"], queryFn: ({ signal }) => get("/v1/settings/caps", { signal }), refetchInterval: 3_000 });
  const items = caps.data ?? [];
  const ours = items.filter((cap) => cap.scope === "tenant");
  const names = useKeyNames(items.some((cap) => cap.apiKeyId));
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
              <h2 className="isolate">
                <Owner scope={scope} id={id}>
                  {m.spending.owner[scope]?.(names.get(id) ?? id) ?? id}
                </Owner>
              </h2>
              <span className="row">
                {theirs.some(({ onLimit }) => onLimit === "ask") && <span className="tag accent">{m.budgets.onLimit.asks}</span>}
                {theirs[0]?.timeZone && <span className="dim">{m.spending.zone(theirs[0].timeZone)}</span>}
              </span>
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
      <SameCommand line={ours.length === items.length ? "lantern caps" : ["lantern caps", "lantern budgets set NAME --day 1 --on-limit ask"]} />
      {setting && <SetCaps caps={ours} onClose={() => setSetting(false)} />}
    </div>
  );
}

/** Whose caps they are, with a way to where they are set. */
function Owner({ scope, id, children }: { scope: string; id: string; children: string }) {
  if (scope === "agent") {
    return (
      <Link to="/agents/$name" params={{ name: id }} search={{ tab: "budget" }}>
        {children}
      </Link>
    );
  }
  return scope === "apiKey" ? <Link to="/keys">{children}</Link> : children;
}

/** What the keys are called that have caps. */
function useKeyNames(asked: boolean): Map<string, string> {
  const keys = useQuery({ queryKey: ["keys", "names"], queryFn: ({ signal }) => page("/v1/api-keys", { query: { limit: 100 }, signal }), staleTime: 60_000, enabled: asked });
  return new Map((keys.data?.items ?? []).map(({ id, name }) => [id, name]));
}

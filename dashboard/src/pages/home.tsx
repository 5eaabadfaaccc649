// What ran, what it cost, what waits for a person, and what is not well: the last 24 hours at a glance.
import { useQuery } from "@tanstack/react-query";
import { Link } from "@tanstack/react-router";
import { useMemo } from "react";
import { type Run, get, page } from "../api/client";
import { pending } from "../app/shell";
import { count, firstLine, money } from "../lib/format";
import { m } from "../messages/en";
import { Empty, Failure, Head, Loading, Status, Time, useMinute, useTitle } from "../ui/pieces";
import { Gauge } from "../ui/gauge";

const DAY = 86_400_000;
const MOST = 200;

export function Home() {
  useTitle(m.home.title);
  // The window moves on by whole minutes, so that the same question is asked again.
  const minute = useMinute();
  const since = useMemo(() => new Date(minute - DAY).toISOString(), [minute]);
  const runs = useQuery({
    queryKey: ["runs", "day", since],
    queryFn: ({ signal }) => page("/v1/runs", { query: { "created[gte]": since, limit: MOST }, signal }),
    refetchInterval: 10_000,
    placeholderData: (before) => before,
  });
  const last = useQuery({
    queryKey: ["runs", "last"],
    queryFn: ({ signal }) => page("/v1/runs", { query: { limit: 8 }, signal }),
    refetchInterval: 3_000,
  });
  const approvals = useQuery(pending);
  if (last.isPending || runs.isPending) return <Loading />;
  const day: Run[] = runs.data?.items ?? [];
  const active = day.filter((run) => run.status === "running" || run.status === "queued").length;
  const failed = day.filter((run) => run.status === "failed").length;
  const cost = day.reduce((sum, run) => sum + run.costUsd, 0);
  const held = day.reduce((sum, run) => sum + run.heldUsd, 0);
  const waiting = approvals.data?.items ?? [];
  const note = runs.data?.next ? m.home.ofNewest(MOST) : undefined;
  const recent = last.data?.items ?? [];
  return (
    <div className="page">
      <Head title={m.home.title} lead={m.home.lead} />
      <Failure error={last.error ?? runs.error} retry={() => void last.refetch()} />
      <div className="grid four">
        <Link to="/runs" className="card figure">
          <span className="label">{m.home.runs}</span>
          <span className="value">
            {count(day.length)}
            {runs.data?.next ? "+" : ""}
          </span>
          <span className="note">{active > 0 ? `${count(active)} ${m.home.active}` : note}</span>
        </Link>
        <Link to="/spending" className="card figure">
          <span className="label">{m.home.cost}</span>
          <span className="value">{money(cost)}</span>
          <span className="note">{held > 0 ? m.home.held(money(held)) : note}</span>
        </Link>
        <Link to="/approvals" className={`card figure ${waiting.length > 0 ? "calls" : ""}`}>
          <span className="label">{m.home.waiting}</span>
          <span className="value">
            {count(waiting.length)}
            {approvals.data?.next ? "+" : ""}
          </span>
          <span className="note">{waiting.length === 0 ? m.home.waitingNone : undefined}</span>
        </Link>
        <Link to="/runs" search={{ status: "failed" }} className={`card figure ${failed > 0 ? "bad" : ""}`}>
          <span className="label">{m.home.failed}</span>
          <span className="value">{count(failed)}</span>
          <span className="note">{note}</span>
        </Link>
      </div>
      <div className="grid two">
        <section className="card">
          <header>
            <h2>{m.home.recent}</h2>
            <Link to="/runs">{m.home.allRuns}</Link>
          </header>
          {recent.length === 0 ? (
            <Empty title={m.home.empty} hint={m.home.emptyHint} command="lantern init my-agent" />
          ) : (
            <ul className="items runs">
              {recent.map((run) => (
                <li key={run.id}>
                  <Status of={run.status} />
                  <Link to="/runs/$id" params={{ id: run.id }} className="cover cut isolate">
                    {run.agentName}
                  </Link>
                  <span className="cut dim wide isolate">{firstLine(about(run))}</span>
                  <span className="when">
                    <Time at={run.createdAt} />
                  </span>
                </li>
              ))}
            </ul>
          )}
        </section>
        <div className="stack">
          {waiting.length > 0 && (
            <section className="card">
              <header>
                <h2>{m.home.inbox}</h2>
                <Link to="/approvals">{m.home.allApprovals}</Link>
              </header>
              <ul className="items">
                {waiting.slice(0, 5).map((ask) => (
                  <li key={ask.id}>
                    <Link to="/approvals" className="cover cut isolate">
                      {ask.agentName}
                    </Link>
                    <span className="cut dim grow isolate">{firstLine(ask.budget ? (m.budgets.asked.question[ask.budget.period] ?? "") : (ask.reason ?? (ask.tool ? m.approvals.tool(ask.tool) : ask.stepId)), 60)}</span>
                    <span className="when">
                      <Time at={ask.askedAt} />
                    </span>
                  </li>
                ))}
              </ul>
            </section>
          )}
          <Health failed={failed} parked={day.filter((run) => run.parkedReason).length} />
          <Caps />
        </div>
      </div>
    </div>
  );
}

/** What a run is about, in a line: why it failed, else what it was asked. */
function about(run: Run): string {
  if (run.error) return run.error.message;
  const input = run.input as { message?: unknown; text?: unknown } | string | undefined;
  const words = typeof input === "object" && input !== null ? (input.message ?? input.text) : input;
  return typeof words === "string" ? words : JSON.stringify(input ?? "");
}

function Health({ failed, parked }: { failed: number; parked: number }) {
  const ready = useQuery({
    queryKey: ["readyz"],
    queryFn: async ({ signal }) => {
      const response = await fetch("/readyz", { signal });
      return { ok: response.ok, words: await response.text() };
    },
    refetchInterval: 10_000,
  });
  const health = useQuery({ queryKey: ["healthz"], queryFn: ({ signal }) => get("/healthz", { signal }), staleTime: 60_000 });
  const providers = useQuery({ queryKey: ["providers"], queryFn: ({ signal }) => get("/v1/settings/llm-providers", { signal }), staleTime: 30_000 });
  const stops = useQuery({
    queryKey: ["stops", "holding"],
    queryFn: ({ signal }) => page("/v1/stops", { query: { limit: 50 }, signal }),
    refetchInterval: 10_000,
  });
  const holding = (stops.data?.items ?? []).filter((stop) => !stop.liftedAt).length;
  const offline = health.data?.llmMode === "offline" && (providers.data?.length ?? 0) === 0;
  const well = ready.data?.ok === true && failed === 0 && parked === 0 && holding === 0 && !offline;
  return (
    <section className="card">
      <header>
        <h2>{m.home.health}</h2>
      </header>
      <ul className="items">
        {ready.data && (
          <li>
            <span className={`status ${ready.data.ok ? "good" : "bad"}`}>{m.home.serverReady}</span>
            <span className="dim grow">{ready.data.ok ? m.home.ready : `${m.home.notReady}: ${ready.data.words}`}</span>
          </li>
        )}
        {holding > 0 && (
          <li>
            <span className="status bad grow">{m.home.stops(holding)}</span>
            <Link to="/settings">{m.nav.settings}</Link>
          </li>
        )}
        {failed > 0 && (
          <li>
            <span className="status bad grow">{m.home.failures(failed)}</span>
            <Link to="/runs" search={{ status: "failed" }}>
              {m.nav.runs}
            </Link>
          </li>
        )}
        {parked > 0 && (
          <li>
            <span className="status bad grow">{m.home.parked(parked)}</span>
          </li>
        )}
        {offline && (
          <li>
            <span className="grow dim">{m.home.offline}</span>
            <Link to="/providers" className="nowrap">
              {m.home.setProvider}
            </Link>
          </li>
        )}
        {well && <li className="dim">{m.home.healthFine}</li>}
      </ul>
    </section>
  );
}

function Caps() {
  const caps = useQuery({ queryKey: ["caps"], queryFn: ({ signal }) => get("/v1/settings/caps", { signal }), refetchInterval: 10_000 });
  const ours = (caps.data ?? []).filter((cap) => cap.scope === "tenant");
  if (ours.length === 0) return null;
  return (
    <section className="card">
      <header>
        <h2>{m.home.caps}</h2>
        <Link to="/spending">{m.home.seeSpending}</Link>
      </header>
      <div className="in stack">
        {ours.map((cap) => (
          <Gauge key={cap.period} title={cap.period === "month" ? m.spending.month : m.spending.day} spent={cap.spentUsd} held={cap.heldUsd} cap={cap.maxCostUsd ?? undefined} />
        ))}
      </div>
    </section>
  );
}

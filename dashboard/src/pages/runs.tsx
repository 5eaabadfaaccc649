// All runs, live: as many as there are, of which those on the screen are drawn. Filters stand in the address.
import { useInfiniteQuery, useQuery } from "@tanstack/react-query";
import { Link, useNavigate, useSearch } from "@tanstack/react-router";
import { useVirtualizer } from "@tanstack/react-virtual";
import { memo, useEffect, useMemo, useRef, useState } from "react";
import { type Run, page } from "../api/client";
import { mayWrite, useMe } from "../app/session";
import { type RunFilters, STATUSES, asCommand, asQuery, readFilters, toggle, writeFilters } from "../lib/filters";
import { count, duration, money, shell } from "../lib/format";
import { merge } from "../lib/pages";
import { m } from "../messages/en";
import { Command, Empty, Failure, Head, Loading, Status, Time, useNow, useTitle } from "../ui/pieces";
import { StartRun } from "./start-run";

const PAGE = 100;
const HEAD = 50;
const ROW = 40;

export function Runs() {
  useTitle(m.runs.title);
  const navigate = useNavigate({ from: "/runs" });
  const search = useSearch({ from: "/shell/runs" });
  const filters = useMemo(() => readFilters(search), [search]);
  const user = useMe();
  const filtered = Object.keys(filters).length > 0;
  const set = (next: RunFilters) => void navigate({ search: writeFilters(next), replace: true });
  const list = useInfiniteQuery({
    queryKey: ["runs", "list", filters],
    queryFn: ({ pageParam, signal }) => page("/v1/runs", { query: { ...asQuery(filters), limit: PAGE, cursor: pageParam }, signal }),
    initialPageParam: undefined as string | undefined,
    getNextPageParam: (last) => last.next,
    staleTime: Number.POSITIVE_INFINITY,
    refetchOnWindowFocus: false,
  });
  const head = useQuery({
    queryKey: ["runs", "head", filters],
    queryFn: ({ signal }) => page("/v1/runs", { query: { ...asQuery(filters), limit: HEAD }, signal }),
    refetchInterval: 2_000,
    enabled: list.isSuccess,
  });
  const rows = useMemo(() => merge<Run>(head.data?.items ?? [], list.data?.pages.map((one) => one.items) ?? []), [head.data, list.data]);
  return (
    <div className="page wide full">
      <Head title={m.runs.title} lead={m.runs.lead}>
        {mayWrite(user) && (
          <button type="button" className="btn first" onClick={() => void navigate({ search: { ...writeFilters(filters), start: "1" } })}>
            {m.runs.start}
          </button>
        )}
      </Head>
      <Filters filters={filters} set={set} />
      <Failure error={list.error ?? head.error} retry={() => void list.refetch()} />
      {list.isPending ? (
        <Loading />
      ) : rows.length === 0 && !list.error ? (
        <div className="card">
          {filtered ? (
            <Empty title={m.runs.emptyFiltered} hint={m.runs.emptyFilteredHint} command={asCommand(filters, shell)} />
          ) : (
            <Empty title={m.runs.empty} hint={m.runs.emptyHint} command="lantern runs create --agent NAME --input 'hello' --follow" />
          )}
        </div>
      ) : (
        <Table rows={rows} hasMore={list.hasNextPage} more={() => !list.isFetchingNextPage && void list.fetchNextPage()} />
      )}
      {rows.length > 0 && <Command line={asCommand(filters, shell)} />}
      {search.start && <StartRun agent={filters.agent} onClose={() => set(filters)} />}
    </div>
  );
}

function Filters({ filters, set }: { filters: RunFilters; set: (next: RunFilters) => void }) {
  const [q, setQ] = useState(filters.q ?? "");
  const latest = useRef({ filters, set });
  latest.current = { filters, set };
  useEffect(() => setQ(filters.q ?? ""), [filters.q]);
  useEffect(() => {
    const { filters, set } = latest.current;
    if (q === (filters.q ?? "")) return;
    const timer = setTimeout(() => set({ ...filters, q: q || undefined }), 250);
    return () => clearTimeout(timer);
  }, [q]);
  const others = [filters.agent, filters.parent, filters.session].filter((word) => word !== undefined);
  return (
    <div className="filters" role="search">
      <input type="search" aria-label={m.runs.searchLabel} placeholder={m.runs.search} value={q} onChange={(event) => setQ(event.target.value)} />
      <div className="chips" role="group" aria-label={m.runs.statusLabel}>
        {STATUSES.map((status) => (
          <button key={status} type="button" className="chip" aria-pressed={filters.status?.includes(status) ?? false} onClick={() => set(toggle(filters, status))}>
            {m.status[status]}
          </button>
        ))}
      </div>
      {others.map((word) => (
        <span key={word} className="tag accent isolate">
          {word}
        </span>
      ))}
      {Object.keys(filters).length > 0 && (
        <button type="button" className="btn plain small" onClick={() => (setQ(""), set({}))}>
          {m.runs.reset}
        </button>
      )}
    </div>
  );
}

function Table({ rows, hasMore, more }: { rows: Run[]; hasMore: boolean; more: () => void }) {
  const scroller = useRef<HTMLDivElement>(null);
  const navigate = useNavigate();
  const [picked, setPicked] = useState<string>();
  const virtual = useVirtualizer({
    count: rows.length,
    getScrollElement: () => scroller.current,
    estimateSize: () => ROW,
    overscan: 12,
    getItemKey: (index) => rows[index]?.id ?? index,
  });
  const items = virtual.getVirtualItems();
  const lastShown = items.at(-1)?.index ?? 0;
  useEffect(() => {
    if (hasMore && lastShown >= rows.length - 20) more();
  }, [hasMore, lastShown, rows.length, more]);
  useEffect(() => {
    const onKey = (event: KeyboardEvent) => {
      const target = event.target as HTMLElement;
      if (target.closest("input, textarea, select, dialog, [role=menu]") || event.ctrlKey || event.metaKey || event.altKey) return;
      const at = rows.findIndex((run) => run.id === picked);
      if (event.key === "j" || event.key === "k") {
        const next = Math.max(0, Math.min(rows.length - 1, at + (event.key === "j" ? 1 : -1)));
        setPicked(rows[next]?.id);
        virtual.scrollToIndex(next);
      } else if (event.key === "Enter" && picked && !target.closest("a, button")) {
        void navigate({ to: "/runs/$id", params: { id: picked } });
      }
    };
    addEventListener("keydown", onKey);
    return () => removeEventListener("keydown", onKey);
  }, [rows, picked, navigate, virtual]);
  const names = m.runs.columns;
  return (
    <div className="card vtable" role="table" aria-label={m.runs.table} aria-rowcount={hasMore ? -1 : rows.length + 1}>
      <div role="rowgroup">
        <div className="vrow header" role="row" aria-rowindex={1}>
          <span role="columnheader">{names.status}</span>
          <span role="columnheader">{names.agent}</span>
          <span role="columnheader" className="wide">
            {names.run}
          </span>
          <span role="columnheader" className="num wide">
            {names.took}
          </span>
          <span role="columnheader" className="num wide">
            {names.tokens}
          </span>
          <span role="columnheader" className="num wide">
            {names.cost}
          </span>
          <span role="columnheader" className="num">
            {names.created}
          </span>
        </div>
      </div>
      <div className="scroller" ref={scroller} tabIndex={0} role="rowgroup" aria-label={m.runs.table}>
        <div className="canvas" role="presentation" style={{ height: virtual.getTotalSize() }}>
          {items.map((item) => {
            const run = rows[item.index];
            return run && <Row key={item.key} run={run} index={item.index} start={item.start} picked={run.id === picked} />;
          })}
        </div>
        {!hasMore && (
          <p className="spinner" role="presentation">
            {m.runs.end(rows.length)}
          </p>
        )}
      </div>
    </div>
  );
}

/** Drawn anew when its run changed, and not because others were scrolled into sight. */
const Row = memo(function Row({ run, index, start, picked }: { run: Run; index: number; start: number; picked: boolean }) {
  return (
    <div className={`vrow body ${picked ? "is-picked" : ""}`} role="row" aria-rowindex={index + 2} style={{ transform: `translateY(${start}px)` }}>
      <span role="cell">
        <Status of={run.status} />
      </span>
      <span role="cell" className="cut isolate">
        <Link to="/runs/$id" params={{ id: run.id }}>
          {run.agentName}
        </Link>
      </span>
      <span role="cell" className="cut mono dim wide">
        {run.id}
      </span>
      <span role="cell" className="num wide">
        <Took run={run} />
      </span>
      <span role="cell" className="num wide">
        {count(run.tokensIn + run.tokensOut)}
      </span>
      <span role="cell" className="num wide">
        {money(run.costUsd)}
      </span>
      <span role="cell" className="num dim">
        <Time at={run.createdAt} />
      </span>
    </div>
  );
});

/** How long a run took, or has taken so far. */
export function Took({ run }: { run: Run }) {
  if (!run.startedAt) return <>{m.common.none}</>;
  const began = Date.parse(run.startedAt);
  return run.finishedAt ? <>{duration(Math.max(0, Date.parse(run.finishedAt) - began))}</> : <Passing since={began} />;
}

function Passing({ since }: { since: number }) {
  return <>{duration(Math.max(0, useNow() - since))}</>;
}

// Every receipt, the newest first, and how far the log has come that numbers them.
import { useInfiniteQuery, useQuery } from "@tanstack/react-query";
import { Link } from "@tanstack/react-router";
import { Fragment } from "react";
import { ApiError, get, page } from "../api/client";
import { count, money } from "../lib/format";
import { type Gap, gaps } from "../lib/gaps";
import { m } from "../messages/en";
import { Facts } from "../ui/facts";
import { Empty, Failure, Head, Loading, SameCommand, Status, Time, useTitle } from "../ui/pieces";

const words = m.receipt;

/** How far the log has come; nothing before its first receipt. */
async function newestHead(signal: AbortSignal) {
  try {
    return await get("/v1/receipts/log", { signal });
  } catch (error) {
    if (error instanceof ApiError && error.code === "log_entry_not_found") return null;
    throw error;
  }
}

/** Why the list leaves numbers out that the log has. */
function Missing({ gap }: { gap?: Gap }) {
  if (!gap) return null;
  return (
    <tr>
      <td className="fit num dim">{gap.from === gap.to ? count(gap.from) : words.range(gap.from, gap.to)}</td>
      <td className="dim" colSpan={6}>
        {words.gone(gap.to - gap.from + 1)}
      </td>
    </tr>
  );
}

export function Receipts() {
  useTitle(words.title);
  const log = useQuery({ queryKey: ["receipts", "log"], queryFn: ({ signal }) => newestHead(signal), refetchInterval: 4_000 });
  const list = useInfiniteQuery({
    // What is there stays as it is, so the list is asked for anew only when the log has grown.
    queryKey: ["receipts", "list", log.data?.size],
    queryFn: ({ pageParam, signal }) => page("/v1/receipts", { query: { limit: 50, cursor: pageParam }, signal }),
    initialPageParam: undefined as string | undefined,
    getNextPageParam: (last) => last.next,
    enabled: log.data !== undefined,
    placeholderData: (before) => before,
    staleTime: Number.POSITIVE_INFINITY,
  });
  const items = list.data?.pages.flatMap((one) => one.items) ?? [];
  const names = words.columns;
  const missing = gaps(items.map((receipt) => receipt.logIndex), list.isPlaceholderData ? undefined : log.data?.size, list.isSuccess && !list.hasNextPage && !list.isPlaceholderData);
  const error = log.error ?? list.error;
  return (
    <div className="page">
      <Head title={words.title} lead={words.lead}>
        <Link to="/proof" className="btn">
          {words.checkFile}
        </Link>
      </Head>
      <Failure error={error} retry={() => void log.refetch()} />
      {!error && list.isPending ? (
        <Loading />
      ) : (
        <div className="card">
          {items.length === 0 && !error && !missing[0] ? (
            <Empty title={words.empty} hint={words.emptyHint} command="lantern runs create --agent NAME --input 'hello' --follow" />
          ) : (
            <table className="table" aria-label={words.table}>
              <thead>
                <tr>
                  <th className="fit num">{names.number}</th>
                  <th>{names.agent}</th>
                  <th className="fit wide">{names.run}</th>
                  <th className="fit">{names.status}</th>
                  <th className="fit num wide">{names.cost}</th>
                  <th className="fit wide">{names.key}</th>
                  <th className="fit num">{names.issued}</th>
                </tr>
              </thead>
              <tbody>
                {items.map((receipt, at) => (
                  <Fragment key={receipt.logIndex}>
                    <Missing gap={missing[at]} />
                    <tr>
                      <td className="fit num">{count(receipt.logIndex)}</td>
                      <td className="cut isolate">
                        <Link to="/runs/$id" params={{ id: receipt.runId }} search={{ tab: "receipt" }}>
                          {receipt.agentName}
                        </Link>
                      </td>
                      <td className="fit mono dim wide">{receipt.runId}</td>
                      <td className="fit">
                        <Status of={receipt.status} />
                      </td>
                      <td className="fit num wide">{money(receipt.costUsd)}</td>
                      <td className="fit mono dim wide">{receipt.keyId.slice(0, 8)}…</td>
                      <td className="fit num dim">
                        <Time at={receipt.issuedAt} />
                      </td>
                    </tr>
                  </Fragment>
                ))}
                <Missing gap={missing.at(-1)} />
              </tbody>
            </table>
          )}
        </div>
      )}
      {list.hasNextPage && (
        <button type="button" className="btn" disabled={list.isFetchingNextPage} onClick={() => void list.fetchNextPage()}>
          {m.common.more}
        </button>
      )}
      {items.length > 0 && <SameCommand line="lantern receipts list" />}
      {list.data && log.data && (
        <section className="card" aria-label={words.log}>
          <header>
            <h2>{words.log}</h2>
          </header>
          <div className="in stack">
            <p className="note">{words.logText}</p>
            <Facts
              of={[
                [words.logName, <span className="mono">{log.data.origin}</span>],
                [words.logSize, count(log.data.size)],
              ]}
            />
            <div className="stack tight">
              <h3>{words.logHead}</h3>
              <pre className="block" tabIndex={0}>
                {log.data.checkpoint}
              </pre>
            </div>
            <SameCommand line="lantern receipts log" />
          </div>
        </section>
      )}
    </div>
  );
}

// What came through the front doors for models, and what it cost.
import { useQuery } from "@tanstack/react-query";
import { page } from "../api/client";
import { count, duration, money } from "../lib/format";
import { m } from "../messages/en";
import { Empty, Failure, Head, Loading, SameCommand, Time, useTitle } from "../ui/pieces";

export function Calls() {
  useTitle(m.calls.title);
  const calls = useQuery({ queryKey: ["calls"], queryFn: ({ signal }) => page("/v1/calls", { query: { limit: 100 }, signal }), refetchInterval: 4_000 });
  const items = calls.data?.items ?? [];
  const names = m.calls.columns;
  return (
    <div className="page">
      <Head title={m.calls.title} lead={m.calls.lead} />
      <Failure error={calls.error} retry={() => void calls.refetch()} />
      {calls.isPending ? (
        <Loading />
      ) : (
        <div className="card">
          {items.length === 0 && !calls.error ? (
            <Empty title={m.calls.empty} hint={m.calls.emptyHint} command="lantern calls" />
          ) : (
            <table className="table" aria-label={m.calls.table}>
              <thead>
                <tr>
                  <th className="fit">{names.at}</th>
                  <th>{names.model}</th>
                  <th className="wide">{names.door}</th>
                  <th className="fit num wide">{names.tokens}</th>
                  <th className="fit num wide">{names.took}</th>
                  <th className="fit num">{names.cost}</th>
                  <th className="fit">{names.end}</th>
                </tr>
              </thead>
              <tbody>
                {items.map((call, index) => (
                  <tr key={call.id ?? `${call.at}-${index}`}>
                    <td className="fit dim">
                      <Time at={call.at} />
                    </td>
                    <td className="cut isolate">{[call.provider, call.model].filter(Boolean).join("/") || m.common.none}</td>
                    <td className="cut dim wide mono">{call.door ?? m.common.none}</td>
                    <td className="fit num wide">{count(call.tokensIn + call.tokensOut)}</td>
                    <td className="fit num wide">{typeof call.tookMs === "number" ? duration(call.tookMs) : m.common.none}</td>
                    <td className="fit num">{money(call.costUsd)}</td>
                    <td className="fit dim">{call.kind === "call" ? (call.end ?? m.common.none) : m.calls.crash}</td>
                  </tr>
                ))}
              </tbody>
            </table>
          )}
        </div>
      )}
      {items.length > 0 && <SameCommand line="lantern calls" />}
    </div>
  );
}

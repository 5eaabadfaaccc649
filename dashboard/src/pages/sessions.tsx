// Conversations with agents, the one that was updated last first.
import { useInfiniteQuery, useMutation, useQuery } from "@tanstack/react-query";
import { Link, useNavigate, useSearch } from "@tanstack/react-router";
import { useState } from "react";
import { page, post } from "../api/client";
import { mayWrite, useMe } from "../app/session";
import { count, firstLine, shell } from "../lib/format";
import { m } from "../messages/en";
import { Confirm, Empty, Failure, Field, Head, Loading, Status, Time, useTitle } from "../ui/pieces";

export function Sessions() {
  useTitle(m.sessions.title);
  const may = mayWrite(useMe());
  const navigate = useNavigate({ from: "/sessions" });
  const { begin, agent } = useSearch({ from: "/shell/sessions" });
  const sessions = useInfiniteQuery({
    queryKey: ["sessions", "list"],
    queryFn: ({ pageParam, signal }) => page("/v1/sessions", { query: { limit: 50, cursor: pageParam }, signal }),
    initialPageParam: undefined as string | undefined,
    getNextPageParam: (last) => last.next,
    refetchInterval: 5_000,
  });
  const items = sessions.data?.pages.flatMap((one) => one.items) ?? [];
  const names = m.sessions.columns;
  return (
    <div className="page">
      <Head title={m.sessions.title} lead={m.sessions.lead}>
        {may && (
          <button type="button" className="btn first" onClick={() => void navigate({ search: { begin: "1" } })}>
            {m.sessions.begin}
          </button>
        )}
      </Head>
      <Failure error={sessions.error} retry={() => void sessions.refetch()} />
      {sessions.isPending ? (
        <Loading />
      ) : (
        <div className="card">
          {items.length === 0 && !sessions.error ? (
            <Empty title={m.sessions.empty} hint={m.sessions.emptyHint} command="lantern chat AGENT" />
          ) : (
            <table className="table" aria-label={m.sessions.table}>
              <thead>
                <tr>
                  <th>{names.agent}</th>
                  <th className="wide">{names.last}</th>
                  <th className="fit num wide">{names.exchanges}</th>
                  <th className="fit">{names.status}</th>
                  <th className="fit num">{names.updated}</th>
                </tr>
              </thead>
              <tbody>
                {items.map((session) => (
                  <tr key={session.id}>
                    <td className="cut isolate">
                      <Link to="/sessions/$id" params={{ id: session.id }}>
                        {session.agentName}
                      </Link>
                    </td>
                    <td className="cut dim wide isolate">{firstLine(session.messages.at(-1)?.content ?? "")}</td>
                    <td className="fit num wide">{count(session.exchanges)}</td>
                    <td className="fit">
                      <Status of={session.status} />
                    </td>
                    <td className="fit num dim">
                      <Time at={session.updatedAt} />
                    </td>
                  </tr>
                ))}
              </tbody>
            </table>
          )}
        </div>
      )}
      {sessions.hasNextPage && (
        <button type="button" className="btn" disabled={sessions.isFetchingNextPage} onClick={() => void sessions.fetchNextPage()}>
          {m.common.more}
        </button>
      )}
      {begin && may && <Begin agent={agent} onClose={() => void navigate({ search: {} })} />}
    </div>
  );
}

function Begin({ agent: given, onClose }: { agent?: string; onClose: () => void }) {
  const navigate = useNavigate();
  const agents = useQuery({ queryKey: ["agents", "active"], queryFn: () => page("/v1/agents", { query: { limit: 200 } }) });
  const names = (agents.data?.items ?? []).map((agent) => agent.name);
  const [chosen, setAgent] = useState(given);
  const agent = chosen ?? names[0] ?? "";
  const begin = useMutation({
    mutationFn: () => post("/v1/sessions", { body: { agentName: agent } }),
    onSuccess: (made) => navigate({ to: "/sessions/$id", params: { id: made.id } }),
  });
  return (
    <Confirm
      title={m.sessions.begin}
      action={m.sessions.begin}
      command={agent ? `lantern chat ${shell(agent)}` : undefined}
      busy={begin.isPending || agent === ""}
      error={begin.error ?? agents.error}
      onConfirm={() => begin.mutate()}
      onClose={onClose}
    >
      {agents.data && names.length === 0 ? (
        <p className="note">{m.sessions.noAgents}</p>
      ) : (
        <Field label={m.sessions.with}>
          <select value={agent} autoFocus onChange={(event) => setAgent(event.target.value)}>
            {names.map((name) => (
              <option key={name}>{name}</option>
            ))}
          </select>
        </Field>
      )}
    </Confirm>
  );
}

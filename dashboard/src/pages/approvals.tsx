// The inbox: what waits for a person, and what was decided.
import { useQuery } from "@tanstack/react-query";
import { useNavigate, useSearch } from "@tanstack/react-router";
import { page } from "../api/client";
import { mayWrite, useMe } from "../app/session";
import { m } from "../messages/en";
import { Empty, Failure, Head, Loading, useTitle } from "../ui/pieces";
import { AskCard } from "./ask";

const WHICH = ["pending", "granted", "denied", "expired", "withdrawn"] as const;

export function Approvals() {
  useTitle(m.approvals.title);
  const user = useMe();
  const navigate = useNavigate({ from: "/approvals" });
  const asked = useSearch({ from: "/shell/approvals" }).status;
  const status = WHICH.find((one) => one === asked) ?? "pending";
  const asks = useQuery({
    queryKey: ["approvals", status],
    queryFn: ({ signal }) => page("/v1/approvals", { query: { status, limit: 100 }, signal }),
    refetchInterval: status === "pending" ? 4_000 : false,
  });
  const items = asks.data?.items ?? [];
  return (
    <div className="page">
      <Head title={m.approvals.title} lead={m.approvals.lead} />
      <div className="chips" role="group" aria-label={m.approvals.which}>
        {WHICH.map((one) => (
          <button key={one} type="button" className="chip" aria-pressed={one === status} onClick={() => void navigate({ search: one === "pending" ? {} : { status: one }, replace: true })}>
            {m.status[one]}
          </button>
        ))}
      </div>
      <Failure error={asks.error} retry={() => void asks.refetch()} />
      {asks.isPending ? (
        <Loading />
      ) : (
        <div className="card">
          {items.length === 0 && !asks.error ? (
            status === "pending" ? (
              <Empty title={m.approvals.empty} hint={m.approvals.emptyHint} command="lantern approvals list" />
            ) : (
              <Empty title={m.approvals.emptyOther} command={`lantern approvals list --status ${status}`} />
            )
          ) : (
            items.map((ask) => <AskCard key={ask.id} ask={ask} may={mayWrite(user)} />)
          )}
        </div>
      )}
    </div>
  );
}

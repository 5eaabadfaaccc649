// The keys that secrets are sealed under, and how to put all secrets under another one.
import { useMutation, useQuery, useQueryClient } from "@tanstack/react-query";
import { useState } from "react";
import { ApiError, get, post } from "../api/client";
import { count } from "../lib/format";
import { rekey } from "../lib/secrets";
import { m } from "../messages/en";
import { Confirm, Failure, SameCommand, Time, useToast } from "../ui/pieces";

const words = m.secrets.keys;

export function SecretKeys({ may }: { may: boolean }) {
  const [changing, setChanging] = useState(false);
  const keys = useQuery({ queryKey: ["secrets", "keys"], queryFn: ({ signal }) => get("/v1/secret-keys", { signal }) });
  const items = keys.data ?? [];
  const open = items.length > 1;
  const names = words.columns;
  return (
    <section className="card" aria-label={words.title}>
      <header>
        <h2>{words.title}</h2>
        {may && items.length > 0 && (
          <button type="button" className="btn small" onClick={() => setChanging(true)}>
            {open ? words.goOn : words.change}
          </button>
        )}
      </header>
      <Failure error={keys.error} retry={() => void keys.refetch()} />
      <div className="in stack">
        <p className="note">{words.text}</p>
        {open && <p className="banner">{words.open}</p>}
        {keys.data && items.length === 0 && <p className="note">{words.none}</p>}
      </div>
      {items.length > 0 && (
        <table className="table" aria-label={words.title}>
          <thead>
            <tr>
              <th>{names.version}</th>
              <th className="fit num">{names.sealed}</th>
              <th className="fit num">{names.at}</th>
            </tr>
          </thead>
          <tbody>
            {items.map((key) => (
              <tr key={key.version}>
                <td>{key.version}</td>
                <td className="fit num">{count(key.sealed)}</td>
                <td className="fit num dim">
                  <Time at={key.createdAt} />
                </td>
              </tr>
            ))}
          </tbody>
        </table>
      )}
      <div className="in">
        <SameCommand line={may && items.length > 0 ? ["lantern secrets keys", "lantern secrets rekey"] : "lantern secrets keys"} />
      </div>
      {changing && <Change onClose={() => setChanging(false)} />}
    </section>
  );
}

function Change({ onClose }: { onClose: () => void }) {
  const client = useQueryClient();
  const toast = useToast();
  const [left, setLeft] = useState<number>();
  const change = useMutation({
    mutationFn: async () => {
      const done = await rekey((body) => post("/v1/secret-keys/rotate", { body }), setLeft);
      if (!done) throw new ApiError(503, "busy", words.endless);
      return done;
    },
    onSuccess: ({ key, resealed }) => {
      toast(words.done(key, resealed));
      onClose();
    },
    onSettled: () => client.invalidateQueries({ queryKey: ["secrets", "keys"] }),
  });
  return (
    <Confirm title={words.confirm} text={words.confirmText} action={words.change} command="lantern secrets rekey" busy={change.isPending} error={change.error} onConfirm={() => change.mutate()} onClose={onClose}>
      {change.isPending && left !== undefined && left > 0 && <p role="status">{words.left(left)}</p>}
    </Confirm>
  );
}

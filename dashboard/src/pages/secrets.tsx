// Secrets: their names and versions. A value goes in here and never comes out.
import { useNavigate, useSearch } from "@tanstack/react-router";
import { useState } from "react";
import { type Secret, page } from "../api/client";
import { useMe } from "../app/session";
import { isAdmin } from "../lib/people";
import { m } from "../messages/en";
import { More, usePages } from "../ui/more";
import { Empty, Failure, Head, Loading, Time, useTitle } from "../ui/pieces";
import { OneSecret } from "./secret";
import { HandIn } from "./secret-form";
import { SecretKeys } from "./secret-keys";

const words = m.secrets;

export function Secrets() {
  useTitle(words.title);
  const may = isAdmin(useMe()?.role);
  const { name } = useSearch({ from: "/shell/secrets" });
  const navigate = useNavigate({ from: "/secrets" });
  const [making, setMaking] = useState(false);
  const list = usePages(["secrets", "list"], (cursor, signal) => page("/v1/secrets", { query: { limit: 100, cursor }, signal }));
  const { items } = list;
  const picked = name ?? items[0]?.name;
  const pick = (one: string) => void navigate({ search: { name: one }, replace: true });
  return (
    <div className="page">
      <Head title={words.title} lead={words.lead}>
        {may && (
          <button type="button" className="btn first" onClick={() => setMaking(true)}>
            {words.create}
          </button>
        )}
      </Head>
      <Failure error={list.error} retry={() => void list.refetch()} />
      {list.isPending ? (
        <Loading />
      ) : items.length === 0 && !list.error ? (
        <div className="card">
          <Empty title={words.empty} hint={words.emptyHint} command="lantern secrets set openai" />
        </div>
      ) : (
        <div className="versions">
          <div className="stack">
            <Names items={items} picked={picked} pick={pick} />
            <More list={list} />
          </div>
          {picked !== undefined && <OneSecret key={picked} name={picked} may={may} onDeleted={() => void navigate({ search: {}, replace: true })} />}
        </div>
      )}
      {!list.error && <SecretKeys may={may} />}
      {making && <HandIn onSaved={(saved) => pick(saved.name)} onClose={() => setMaking(false)} />}
    </div>
  );
}

function Names({ items, picked, pick }: { items: Secret[]; picked?: string; pick: (name: string) => void }) {
  if (items.length === 0) return null;
  return (
    <section className="card" aria-label={words.list}>
      {items.map((one) => (
        <button key={one.name} type="button" className="pick" aria-pressed={one.name === picked} onClick={() => pick(one.name)}>
          <span className="cut isolate">{one.name}</span>
          <span className={`tag ${one.version ? "" : "accent"}`}>{one.version ? words.current(one.version) : words.unusable}</span>
          <span className="grow" />
          <span className="dim">
            <Time at={one.updatedAt} />
          </span>
        </button>
      ))}
    </section>
  );
}

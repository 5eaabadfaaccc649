// The audit log as a whole: whether its chain holds, and the file of it.
import { useMutation } from "@tanstack/react-query";
import { file, get } from "../api/client";
import { count } from "../lib/format";
import { save } from "../lib/save";
import { m } from "../messages/en";
import { Facts } from "../ui/facts";
import { Failure, SameCommand } from "../ui/pieces";

const words = m.audit.chain;
const FORMS = ["jsonl", "csv"] as const;

export function Chain() {
  // The whole log is read for it, so it is checked when somebody asks.
  const check = useMutation({ mutationFn: () => get("/v1/audit/verify") });
  const take = useMutation({ mutationFn: async (format: (typeof FORMS)[number]) => save(`audit.${format}`, await file("/v1/audit/export", { query: { format } })) });
  const found = check.data;
  return (
    <section className="card" aria-label={words.title}>
      <header>
        <h2>{words.title}</h2>
        <button type="button" className="btn small" disabled={check.isPending} onClick={() => check.mutate()}>
          {check.isPending ? words.checking : words.check}
        </button>
      </header>
      <div className="in stack">
        <p className="note">{words.text}</p>
        <Failure error={check.error ?? take.error} />
        {found && (
          <div className="stack tight" role="status" data-chain={found.valid ? "holds" : "broken"}>
            <span className={`status ${found.valid ? "good" : "bad"}`}>{found.valid ? words.holds(found.entries) : words.broken}</span>
            <Facts
              of={[
                !!found.firstBroken && [words.first, `${count(found.firstBroken.id)}: ${found.firstBroken.reason}`],
                [words.entries, count(found.entries)],
                [words.head, <span className="mono">{found.head}</span>],
              ]}
            />
          </div>
        )}
        <div className="row wrap">
          {FORMS.map((format) => (
            <button key={format} type="button" className="btn" disabled={take.isPending} onClick={() => take.mutate(format)}>
              {words.take[format]}
            </button>
          ))}
          <span className="dim">{words.takeText}</span>
        </div>
        <SameCommand line={["lantern audit verify", "lantern audit export --file audit.jsonl", "lantern audit export --format csv --file audit.csv"]} />
      </div>
    </section>
  );
}

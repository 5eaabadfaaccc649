// The receipt of a run: what number it has, the file, and whether it holds, checked in this browser.
import { useMutation, useQuery } from "@tanstack/react-query";
import { type Run, file, get } from "../api/client";
import { keysOf, prove } from "../lib/prove";
import { save } from "../lib/save";
import { m } from "../messages/en";
import { Facts } from "../ui/facts";
import { Failure, Loading, SameCommand, Time } from "../ui/pieces";
import { VerdictCard } from "../ui/verdict";

const words = m.receipt;

/** The file, byte for byte: what was parsed and written again would be another one. */
const receiptFile = async (id: string) => new Uint8Array(await (await file("/v1/runs/{id}/receipt/file", { path: { id } })).arrayBuffer());

export function RunReceipt({ run, over }: { run: Run; over: boolean }) {
  const receipt = useQuery({ queryKey: ["receipt", run.id], queryFn: ({ signal }) => get("/v1/runs/{id}/receipt", { path: { id: run.id }, signal }), enabled: over, staleTime: Number.POSITIVE_INFINITY });
  const download = useMutation({ mutationFn: async () => save(words.fileName(run.id), await file("/v1/runs/{id}/receipt/file", { path: { id: run.id } })) });
  const check = useMutation({
    mutationFn: async () => {
      const [bytes, published] = await Promise.all([receiptFile(run.id), get("/.well-known/lantern-receipts")]);
      return prove(bytes, await keysOf(JSON.stringify(published)));
    },
  });
  if (!over) return <p className="card in note">{words.notYet}</p>;
  if (receipt.isPending) return <Loading />;
  const payload = receipt.data?.payload as { logIndex?: number; log?: string; issuedAt?: string; events?: number } | undefined;
  return (
    <div className="stack">
      <Failure error={receipt.error ?? download.error ?? check.error} retry={() => void receipt.refetch()} />
      {receipt.data && payload && (
        <section className="card" aria-label={words.ofRun}>
          <header>
            <h2>{words.ofRun}</h2>
            <span className="row">
              <button type="button" className="btn" disabled={download.isPending} onClick={() => download.mutate()}>
                {words.download}
              </button>
              <button type="button" className="btn first" disabled={check.isPending} onClick={() => check.mutate()}>
                {check.isPending ? words.checking : words.check}
              </button>
            </span>
          </header>
          <div className="in stack">
            <Facts
              of={[
                [words.facts.number, payload.logIndex],
                [words.facts.log, <span className="mono">{payload.log}</span>],
                [words.facts.events, payload.events],
                [words.facts.key, <span className="mono">{receipt.data.keyId}</span>],
                [words.facts.issued, payload.issuedAt && <Time at={payload.issuedAt} />],
              ]}
            />
            <p className="note">{words.checkText}</p>
            <SameCommand line={[`lantern receipts export ${run.id} --file receipt.json`, "lantern receipts keys --file keys.json", "lantern verify receipt.json --key keys.json"]} />
          </div>
        </section>
      )}
      {check.data && <VerdictCard {...check.data} published />}
    </div>
  );
}

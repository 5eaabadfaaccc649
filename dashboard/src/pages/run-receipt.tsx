// The receipt of a run: what number it has, the file, and whether it holds, checked in this browser.
import { useMutation, useQuery } from "@tanstack/react-query";
import { type Run, PAGE, get, refusal } from "../api/client";
import { keysOf, prove } from "../lib/prove";
import { m } from "../messages/en";
import { Failure, Loading, SameCommand, Time } from "../ui/pieces";
import { VerdictCard } from "../ui/verdict";

const words = m.receipt;

/** The file, byte for byte: what was parsed and written again would be another one. */
async function receiptFile(id: string): Promise<Uint8Array> {
  const answer = await fetch(`/v1/runs/${encodeURIComponent(id)}/receipt/file`, { headers: PAGE, credentials: "same-origin" });
  if (!answer.ok) throw await refusal(answer);
  return new Uint8Array(await answer.arrayBuffer());
}

function save(name: string, bytes: Uint8Array): void {
  const url = URL.createObjectURL(new Blob([bytes.slice()], { type: "application/json" }));
  const link = document.createElement("a");
  link.href = url;
  link.download = name;
  link.click();
  URL.revokeObjectURL(url);
}

export function RunReceipt({ run, over }: { run: Run; over: boolean }) {
  const receipt = useQuery({ queryKey: ["receipt", run.id], queryFn: ({ signal }) => get("/v1/runs/{id}/receipt", { path: { id: run.id }, signal }), enabled: over, staleTime: Number.POSITIVE_INFINITY });
  const download = useMutation({ mutationFn: async () => save(words.fileName(run.id), await receiptFile(run.id)) });
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
            <dl className="facts">
              <dt>{words.facts.number}</dt>
              <dd>{payload.logIndex}</dd>
              <dt>{words.facts.log}</dt>
              <dd className="mono">{payload.log}</dd>
              <dt>{words.facts.events}</dt>
              <dd>{payload.events}</dd>
              <dt>{words.facts.key}</dt>
              <dd className="mono">{receipt.data.keyId}</dd>
              <dt>{words.facts.issued}</dt>
              <dd>{payload.issuedAt && <Time at={payload.issuedAt} />}</dd>
            </dl>
            <p className="note">{words.checkText}</p>
            <SameCommand line={[`lantern receipts export ${run.id} --file receipt.json`, "lantern receipts keys --file keys.json", "lantern verify receipt.json --key keys.json"]} />
          </div>
        </section>
      )}
      {check.data && <VerdictCard {...check.data} published />}
    </div>
  );
}

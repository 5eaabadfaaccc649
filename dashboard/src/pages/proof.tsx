// Anybody's page: a receipt file is chosen or dropped, and checked in this browser. Nothing of it is sent.
import { useMutation, useQuery } from "@tanstack/react-query";
import { Link } from "@tanstack/react-router";
import { type DragEvent, useEffect, useState } from "react";
import { get } from "../api/client";
import { keysOf, prepare, prove } from "../lib/prove";
import { m } from "../messages/en";
import { Command, Failure, Field, useTitle } from "../ui/pieces";
import { VerdictCard } from "../ui/verdict";

const words = m.proof;
/** Larger than any file of keys. */
const KEYS_BYTES = 256 * 1024;

interface Chosen {
  name: string;
  bytes: Uint8Array;
}
interface Keys {
  from: string;
  keys: Uint8Array[];
}

export function Proof() {
  useTitle(words.title);
  useEffect(prepare, []);
  const [file, setFile] = useState<Chosen>();
  const [keys, setKeys] = useState<Keys>();
  const [over, setOver] = useState(false);
  const checked = useQuery({
    queryKey: ["proof", file?.name, file?.bytes, keys?.keys],
    queryFn: () => prove(file?.bytes ?? new Uint8Array(), keys?.keys ?? []),
    enabled: file !== undefined,
    queryKeyHashFn: () => `proof ${serial(file)} ${serial(keys)}`,
    // Also on a machine that is offline: nothing is asked.
    networkMode: "always",
    retry: false,
    staleTime: Number.POSITIVE_INFINITY,
    gcTime: 0,
  });
  const take = useMutation({
    networkMode: "always",
    mutationFn: async (files: File[]) => {
      for (const one of files) {
        const bytes = new Uint8Array(await one.arrayBuffer());
        const published = one.size <= KEYS_BYTES ? await keysOf(new TextDecoder().decode(bytes)).catch(() => undefined) : undefined;
        if (published) setKeys({ from: one.name, keys: published });
        else setFile({ name: one.name, bytes });
      }
    },
  });
  const drop = (event: DragEvent) => {
    event.preventDefault();
    setOver(false);
    take.mutate([...event.dataTransfer.files]);
  };
  return (
    <main className="proof" onDragOver={(event) => (event.preventDefault(), setOver(true))} onDragLeave={(event) => event.relatedTarget === null && setOver(false)} onDrop={drop}>
      <header className="top">
        <Link to="/" className="brand">
          <img src="/favicon.svg" alt="" /> {m.brand}
        </Link>
      </header>
      <div className="stack tight">
        <h1>{words.title}</h1>
        <p className="note">{words.lead}</p>
      </div>
      <section className={`card drop ${over ? "is-over" : ""}`} aria-label={words.file}>
        {file ? <p className="mono isolate chosen">{file.name}</p> : <h2>{words.drop}</h2>}
        <Choose label={words.choose} first={!file} onFiles={take.mutate} />
        {!file && (
          <div className="stack tight">
            <span className="hint">{words.dropHint}</span>
            <Command line="lantern receipts export RUN --file receipt.json" />
          </div>
        )}
      </section>
      <Failure error={take.error ?? checked.error} />
      {checked.data && <VerdictCard {...checked.data} />}
      <TrustedKeys keys={keys} set={setKeys} />
      <div className="stack tight">
        <p className="note">{words.more}</p>
        <Command line={`lantern verify ${file ? "receipt.json" : "FILE"} --key keys.json`} />
      </div>
    </main>
  );
}

const serials = new WeakMap<object, number>();
let next = 0;
/** A number for each thing that was chosen: what is large is not compared byte for byte. */
function serial(of: object | undefined): number {
  if (!of) return 0;
  if (!serials.has(of)) serials.set(of, ++next);
  return serials.get(of) ?? 0;
}

/** A button that opens the browser's own choice of files. */
function Choose({ label, first, onFiles }: { label: string; first?: boolean; onFiles: (files: File[]) => void }) {
  return (
    <label className={`btn choose ${first ? "first" : ""}`}>
      {label}
      <input
        type="file"
        className="sr"
        accept=".json,application/json"
        onChange={(event) => {
          onFiles([...(event.target.files ?? [])]);
          // The same file may be chosen again, after it was changed.
          event.target.value = "";
        }}
      />
    </label>
  );
}

function TrustedKeys({ keys, set }: { keys?: Keys; set: (keys: Keys | undefined) => void }) {
  const [pasted, setPasted] = useState("");
  const read = useMutation({
    networkMode: "always",
    mutationFn: async ({ text, from }: { text: string; from: string }) => ({ from, keys: await keysOf(text) }),
    onSuccess: (found) => (set(found), setPasted("")),
  });
  const ask = useMutation({
    mutationFn: async () => ({ from: words.keysServer, keys: await keysOf(JSON.stringify(await get("/.well-known/lantern-receipts"))) }),
    onSuccess: set,
  });
  return (
    <section className="card" aria-label={words.keys}>
      <header>
        <h2>{words.keys}</h2>
        <span className="dim isolate">{keys ? words.keysHave(keys.keys.length, keys.from) : words.keysNone}</span>
      </header>
      <div className="in stack">
        <p className="note">{words.keysText}</p>
        <div className="row wrap">
          <Choose label={words.keysChoose} onFiles={async ([file]) => file && read.mutate({ text: await file.text(), from: file.name })} />
          <button type="button" className="btn" disabled={ask.isPending} onClick={() => ask.mutate()}>
            {words.keysFetch}
          </button>
          {keys && (
            <button type="button" className="btn plain" onClick={() => set(undefined)}>
              {words.keysForget}
            </button>
          )}
        </div>
        <form
          className="paste"
          onSubmit={(event) => {
            event.preventDefault();
            read.mutate({ text: pasted, from: words.keysPasted });
          }}
        >
          <Field label={words.keysPaste}>
            <input type="text" className="mono" spellCheck={false} autoComplete="off" value={pasted} onChange={(event) => setPasted(event.target.value)} />
          </Field>
          <button type="submit" className="btn" disabled={pasted.trim() === ""}>
            {words.keysUse}
          </button>
        </form>
        <Failure error={read.error ?? ask.error} />
        <Command line="lantern receipts keys --file keys.json" />
      </div>
    </section>
  );
}

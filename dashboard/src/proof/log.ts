// That the payload is a leaf of the log whose head was signed: C2SP tlog-checkpoint, and RFC 9162.
import { base64, need, same, sha, text, utf8 } from "./need";
import type { Json } from "./json";
import { checkSignature } from "./signature";

export interface Head {
  size: bigint;
  root: Uint8Array;
}

/** The head that a note says, which the log's key signed in the log's name. */
export async function checkpoint(note: Json | undefined, log: string, key: Uint8Array): Promise<Head> {
  const [said, signed, ...more] = text(note, "the checkpoint").split("\n\n");
  need(said !== undefined && signed !== undefined && more.length === 0, "the checkpoint is no signed note");
  const [origin, size, root, ...rest] = said.split("\n");
  need(origin === log && rest.length === 0, "the checkpoint is another log's");
  need(/^[^\s+\p{C}\p{Z}]+$/u.test(log), "that is no name of a log");
  need(size !== undefined && /^(0|[1-9][0-9]{0,18})$/.test(size), "the checkpoint's size is no number");
  const prefix = `\u2014 ${log} `;
  need(signed.startsWith(prefix) && signed.endsWith("\n") && signed.indexOf("\n") === signed.length - 1, "the checkpoint has not exactly one signature, the log's");
  const raw = base64(signed.slice(prefix.length, -1), 68, "the checkpoint's signature");
  const id = await sha(utf8(log), utf8("\n\u0001"), key);
  need(same(raw.slice(0, 4), id.slice(0, 4)), "the checkpoint names another key");
  await checkSignature(key, utf8(`${said}\n`), raw.slice(4));
  return { size: BigInt(size), root: base64(root, 32, "the checkpoint's root") };
}

/** Demands that the proof leads from the leaf to the head: RFC 9162, 2.1.3.2. */
export async function included(leaf: Uint8Array, index: bigint, head: Head, proof: Uint8Array[]): Promise<void> {
  need(index < head.size, "the log that was signed has no such number");
  let [place, last, node] = [index, head.size - 1n, leaf];
  for (const sibling of proof) {
    need(last > 0n, "the proof is too long");
    if (place & 1n || place === last) {
      node = await sha(Uint8Array.of(1), sibling, node);
      while (!(place & 1n) && place) [place, last] = [place >> 1n, last >> 1n];
    } else {
      node = await sha(Uint8Array.of(1), node, sibling);
    }
    [place, last] = [place >> 1n, last >> 1n];
  }
  need(last === 0n && same(node, head.root), "the payload is not in the log");
}

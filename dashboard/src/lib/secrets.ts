// Secrets as they are looked after: which version counts, what a file hands in, and how all are put under another key. Pure.

export interface Version {
  version: number;
  enabled: boolean;
}

/** The longest value, in bytes. */
export const VALUE_BYTES = 64 * 1024;

export type Standing = "counts" | "enabled" | "disabled";

/** How a version stands, of a secret of which this one counts. */
export function standing(one: Version, counts: number | null | undefined): Standing {
  if (!one.enabled) return "disabled";
  return one.version === counts ? "counts" : "enabled";
}

/** Whether nothing would count any more without this version. */
export function isLast(one: Version, versions: readonly Version[]): boolean {
  return one.enabled && versions.every(({ version, enabled }) => version === one.version || !enabled);
}

/** The providers whose key is what this reference leads to. */
export function usesOf(reference: string, providers: readonly { provider: string; keyMasked?: string | null }[]): string[] {
  return providers.filter(({ keyMasked }) => keyMasked === reference).map(({ provider }) => provider);
}

/** Whether pasting this into one line would change it; the end of its last line is none of it. */
export function hasLines(text: string): boolean {
  return /[\r\n]/.test(text.replace(/\r?\n$/, ""));
}

/** The text that a file is, byte for byte; why it cannot be one otherwise. */
export function textOf(bytes: ArrayBuffer): { text: string } | { not: "text" | "short" } {
  if (bytes.byteLength > VALUE_BYTES) return { not: "short" };
  try {
    return { text: new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(bytes) };
  } catch {
    return { not: "text" };
  }
}

interface Turned {
  keyVersion: number;
  resealed: number;
  remaining: number;
}

/** More than a tenant's secrets could take. */
const ROUNDS = 2_000;

/** Asks for batches until nothing remains under older keys; tells after each how many do. `undefined` when they never end. */
export async function rekey(
  ask: (body: { toVersion?: number }) => Promise<Turned>,
  told: (remaining: number) => void,
): Promise<{ key: number; resealed: number } | undefined> {
  let resealed = 0;
  let body: { toVersion?: number } = {};
  for (let round = 0; round < ROUNDS; round += 1) {
    const done = await ask(body);
    resealed += done.resealed;
    told(done.remaining);
    if (done.remaining === 0) return { key: done.keyVersion, resealed };
    body = { toVersion: done.keyVersion };
  }
  return undefined;
}

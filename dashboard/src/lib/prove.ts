// The verifier, loaded when something is to be checked. It asks nobody.
import { ApiError } from "../api/client";
import { m } from "../messages/en";

const verifier = () => import("../proof/receipt");

/** Loads it before it is needed, so that a check sends nothing at all. */
export function prepare(): void {
  void verifier();
}

export async function prove(bytes: Uint8Array, keys: Uint8Array[]) {
  const { CHECKS, verify } = await verifier();
  const lame = new ApiError(0, "no_crypto", m.proof.noCrypto);
  if (!globalThis.crypto?.subtle) throw lame;
  try {
    return { verdict: await verify(bytes, keys), checks: CHECKS };
  } catch (error) {
    throw error instanceof DOMException && error.name === "NotSupportedError" ? lame : error;
  }
}

/** Keys as they are published, or one in base64; refuses what is none. */
export async function keysOf(text: string): Promise<Uint8Array[]> {
  const { readKeys } = await verifier();
  try {
    return readKeys(text);
  } catch (error) {
    throw new ApiError(0, "invalid_keys", `${m.proof.keysBad}: ${error instanceof Error ? error.message : ""}`);
  }
}

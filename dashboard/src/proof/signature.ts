// Ed25519, by the browser; what it might let pass is refused before: keys and first halves of small order, and second halves
// that are not below the group's order.
import { hex, need } from "./need";

const P = 2n ** 255n - 19n;
const L = 2n ** 252n + 27742317777372353535851937790883648493n;
/** The points of small order by their y, in both encodings that fit; the sign is left out. */
const SMALL = new Set([
  0n, 1n, P - 1n, P, P + 1n,
  littleEndian("c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a"),
  littleEndian("26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05"),
]);

function littleEndian(said: string): bigint {
  return BigInt(`0x${(said.match(/../g) ?? []).reverse().join("")}`);
}
const y = (bytes: Uint8Array): bigint => littleEndian(hex(bytes)) & (2n ** 255n - 1n);

/** A key that may be trusted at all. */
export function checkKey(key: Uint8Array): void {
  need(y(key) < P, "the key is in another encoding");
  need(!SMALL.has(y(key)), "the key is of small order: anything has a signature under it");
}

/** Demands that the key signed these bytes. */
export async function checkSignature(key: Uint8Array, message: Uint8Array, signature: Uint8Array): Promise<void> {
  checkKey(key);
  need(littleEndian(hex(signature.slice(32))) < L && !SMALL.has(y(signature.slice(0, 32))), "the signature is in another form");
  let holds = false;
  try {
    const imported = await crypto.subtle.importKey("raw", key.slice(), "Ed25519", false, ["verify"]);
    holds = await crypto.subtle.verify("Ed25519", imported, signature.slice(), message.slice());
  } catch (error) {
    // A browser that cannot check says nothing of the receipt; a key that it does not take has signed nothing.
    if (error instanceof DOMException && error.name === "NotSupportedError") throw error;
  }
  need(holds, "the signature is not the key's");
}

// What every check says when something does not hold, and what it takes for granted of values.
import type { Json, Members } from "./json";

/** The file is not true: how, and at which event when it is one. */
export class Fault extends Error {
  constructor(
    words: string,
    readonly event?: number,
  ) {
    super(words);
  }
}

export function need(holds: unknown, words: string): asserts holds {
  if (!holds) throw new Fault(words);
}

/** Takes things in turn, numbered from 1; what is wrong with one names its number. */
export function inTurn<T>(all: readonly T[], take: (one: T, n: number) => void): void {
  all.forEach((one, n) => {
    try {
      take(one, n + 1);
    } catch (error) {
      throw error instanceof Fault ? new Fault(error.message, n + 1) : error;
    }
  });
}

export const isText = (value: Json | undefined): value is string => typeof value === "string";
export const isWhole = (value: Json | undefined): value is bigint => typeof value === "bigint" && value >= 0n && value < 2n ** 63n;
export const isHex = (value: Json | undefined): value is string => isText(value) && /^[0-9a-f]{64}$/.test(value);
export const isMembers = (value: Json | undefined): value is Members => value instanceof Map;

export function whole(value: Json | undefined, name: string): bigint {
  need(isWhole(value), `${name} is no amount`);
  return value;
}
export function text(value: Json | undefined, name: string): string {
  need(isText(value), `${name} is no text`);
  return value;
}
export function members(value: Json | undefined, name: string): Members {
  need(isMembers(value), `${name} is missing`);
  return value;
}
export function list(value: Json | undefined, name: string): Json[] {
  need(Array.isArray(value), `${name} is no list`);
  return value;
}

const encoder = new TextEncoder();
export const utf8 = (said: string): Uint8Array => encoder.encode(said);

/** The SHA-256 of these, one after another. */
export async function sha(...parts: Uint8Array[]): Promise<Uint8Array> {
  const all = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0));
  let at = 0;
  for (const part of parts) {
    all.set(part, at);
    at += part.length;
  }
  return new Uint8Array(await crypto.subtle.digest("SHA-256", all));
}

export const hex = (bytes: Uint8Array): string => [...bytes].map((byte) => byte.toString(16).padStart(2, "0")).join("");
export const unhex = (said: string): Uint8Array => Uint8Array.from(said.match(/../g) ?? [], (two) => Number.parseInt(two, 16));
export const same = (a: Uint8Array, b: Uint8Array): boolean => a.length === b.length && a.every((byte, n) => byte === b[n]);

/** Bytes from base64, which must be the only way to write them. */
export function base64(said: Json | undefined, size: number, name: string): Uint8Array {
  need(isText(said) && /^[A-Za-z0-9+/]*={0,2}$/.test(said) && said.length === 4 * Math.ceil(size / 3), `${name} is no base64 of ${size} bytes`);
  let raw = "";
  try {
    raw = atob(said);
  } catch {
    throw new Fault(`${name} is no base64`);
  }
  need(raw.length === size && btoa(raw) === said, `${name} is base64 in another form`);
  return Uint8Array.from(raw, (character) => character.charCodeAt(0));
}

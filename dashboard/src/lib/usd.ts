// Dollars to the millionth, as the server counts them: whole numbers, and no float. Pure.

const MILLION = 1_000_000n;
/** The most that the server takes for an amount, in dollars. */
const MOST = 1_000_000_000n * MILLION;

/** The millionths of a dollar that a text says, as in `5` or `0.50`; nothing when it says no such amount. */
export function microsOf(text: string): bigint | undefined {
  const found = /^(\d{1,10})(?:\.(\d{1,6}))?$/.exec(text.trim());
  if (!found) return undefined;
  const micros = BigInt(found[1] ?? "0") * MILLION + BigInt((found[2] ?? "").padEnd(6, "0"));
  return micros <= MOST ? micros : undefined;
}

/** An amount of an answer, which is written as a number: exact, because the server has no more digits. */
export function ofWire(usd: number): bigint {
  return BigInt(Math.round(usd * 1e6));
}

/** Dollars in the fewest digits that say all of it, as in `0.5`. */
export function plainUsd(micros: bigint): string {
  const fraction = String(micros % MILLION).padStart(6, "0").replace(/0+$/, "");
  return `${micros / MILLION}${fraction && `.${fraction}`}`;
}

/** The same for reading: with a sign, and cents at the least. */
export function shownUsd(micros: bigint): string {
  const [whole, fraction = ""] = plainUsd(micros).split(".");
  return `$${BigInt(whole ?? "0").toLocaleString("en-US")}.${fraction.padEnd(2, "0")}`;
}

/** Why a field is no amount, when it is none; an empty one may be left so. */
export type Wrong = "amount" | "nothing";
export function wrongWith(text: string, { empty = false, zero = false }: { empty?: boolean; zero?: boolean }): Wrong | undefined {
  if (text.trim() === "") return empty ? undefined : "nothing";
  const micros = microsOf(text);
  if (micros === undefined) return "amount";
  return micros === 0n && !zero ? "nothing" : undefined;
}

/** An amount of an answer as a field has it; empty when there is none. */
export const fieldOf = (usd: number | null | undefined): string => (usd == null ? "" : plainUsd(ofWire(usd)));

/** What a question about a budget says, in dollars as they came. */
export interface Asked {
  maxCostUsd: number;
  spentUsd: number;
  holdUsd: number;
}

/** What the step that waits lacks at the least: others may hold some of what is left. */
export function lacks({ maxCostUsd, spentUsd, holdUsd }: Asked): bigint {
  const lack = ofWire(spentUsd) + ofWire(holdUsd) - ofWire(maxCostUsd);
  return lack > 0n ? lack : 0n;
}

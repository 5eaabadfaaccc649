// Amounts, durations and times as people read them. Pure: the time is an argument.

// Formatters are costly to make and cheap to use, and a page has many times and amounts: each is made once, when it is first needed.
const made = new Map<string, { format(value: number | Date): string }>();
function kept<T extends { format(value: number | Date): string }>(key: string, make: () => T): T {
  if (!made.has(key)) made.set(key, make());
  return made.get(key) as T;
}
const HOURS = { hour: "2-digit", minute: "2-digit", second: "2-digit", fractionalSecondDigits: 3 } as const;

/** Dollars, exact to what matters: a cost that is not nothing never reads as nothing. */
export function money(usd: number): string {
  if (usd === 0) return "$0.00";
  const size = Math.abs(usd);
  const digits = size >= 0.1 ? 2 : size >= 0.001 ? 4 : 6;
  return `${usd < 0 ? "−" : ""}$${kept(`dollars ${digits}`, () => new Intl.NumberFormat("en-US", { minimumFractionDigits: digits, maximumFractionDigits: digits })).format(size)}`;
}

export function count(n: number): string {
  return kept("count", () => new Intl.NumberFormat("en-US")).format(n);
}

export function duration(ms: number): string {
  if (ms < 1) return "<1 ms";
  if (ms < 1_000) return `${Math.round(ms)} ms`;
  if (ms < 60_000) return `${(ms / 1_000).toFixed(ms < 10_000 ? 1 : 0)} s`;
  const minutes = Math.floor(ms / 60_000);
  if (minutes < 60) return `${minutes} min ${Math.floor((ms % 60_000) / 1_000)} s`;
  const hours = Math.floor(minutes / 60);
  if (hours < 48) return `${hours} h ${minutes % 60} min`;
  return `${Math.floor(hours / 24)} d ${hours % 24} h`;
}

/** How far `at` is from `now`, in the coarsest unit that says it. */
export function relative(at: number, now: number): string {
  const ahead = at > now;
  const seconds = Math.round(Math.abs(at - now) / 1_000);
  if (seconds < 5) return ahead ? "in a moment" : "just now";
  const whole = ahead ? Math.round : Math.floor;
  const [n, unit] =
    seconds < 60
      ? [seconds, "s"]
      : seconds < 3_600
        ? [whole(seconds / 60), "min"]
        : seconds < 86_400
          ? [whole(seconds / 3_600), "h"]
          : [whole(seconds / 86_400), "d"];
  return ahead ? `in ${n} ${unit}` : `${n} ${unit} ago`;
}

/** The exact value: in the viewer's zone, to the millisecond, and in UTC. */
export function exact(iso: string): string {
  const at = new Date(iso);
  if (Number.isNaN(at.getTime())) return iso;
  const local = kept("exact", () => new Intl.DateTimeFormat(undefined, { year: "numeric", month: "short", day: "numeric", ...HOURS, timeZoneName: "short" })).format(at);
  return `${local} · ${iso}`;
}

/** A clock's time in the viewer's zone. */
export function clock(iso: string): string {
  return kept("clock", () => new Intl.DateTimeFormat(undefined, HOURS)).format(new Date(iso));
}

/** JSON for reading; text as it is. */
export function pretty(value: unknown): string {
  if (typeof value === "string") return value;
  return value === undefined ? "" : JSON.stringify(value, null, 2);
}

/** A word for a shell, quoted where it must be. */
export function shell(word: string): string {
  return /^[\w@%+=:,./-]+$/.test(word) ? word : `'${word.replaceAll("'", `'\\''`)}'`;
}

/** The first line of a text, cut to so many characters. */
export function firstLine(text: string, most = 120): string {
  const line = text.trimStart().split("\n", 1)[0] ?? "";
  const letters = [...line];
  return letters.length > most ? `${letters.slice(0, most - 1).join("")}…` : line;
}

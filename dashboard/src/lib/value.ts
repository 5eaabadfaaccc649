// What people type where JSON may stand.

/** The value that a text is: JSON when it is some, else the text itself; nothing when it is empty. */
export function typed(text: string): unknown {
  const trimmed = text.trim();
  if (trimmed === "") return undefined;
  try {
    return JSON.parse(trimmed);
  } catch {
    return text;
  }
}

/** What an API error means for a person: which hint of the catalogue is theirs. */
export function hintFor(code: string, status: number, known: Record<string, string>): string {
  if (known[code]) return code;
  if (status === 404) return "not_found";
  if (status === 400 || status === 413 || status === 422) return "invalid";
  if (status === 429 || status === 503) return "busy";
  return status >= 500 ? "internal" : "other";
}

/** How the lines of a unified diff are shown. */
export function diffLines(text: string): { kind: "add" | "del" | "at" | "same"; text: string }[] {
  const lines = text.split("\n");
  if (lines.at(-1) === "") lines.pop();
  return lines.map((line) => ({
    kind: line.startsWith("+") ? "add" : line.startsWith("-") ? "del" : line.startsWith("@@") ? "at" : "same",
    text: line,
  }));
}

// A text or a value with its name, to be read.
import { pretty } from "../lib/format";

export function Block({ title, value, live, small }: { title: string; value: unknown; live?: boolean; small?: "code" | "words" }) {
  return (
    <div className="stack tight">
      {small ? <span className={`${small === "code" ? "mono" : "dim"} isolate`}>{title}</span> : <h3>{title}</h3>}
      <pre className="block" tabIndex={0} aria-live={live ? "off" : undefined}>
        {pretty(value)}
      </pre>
    </div>
  );
}

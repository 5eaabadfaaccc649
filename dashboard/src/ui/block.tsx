// A text or a value with its name, to be read.
import { useState } from "react";
import { pretty } from "../lib/format";
import { m } from "../messages/en";

/** So many characters are laid out at once; a browser takes half a minute for a million in one line. */
const SHOWN = 100_000;

export function Block({ title, value, live, small }: { title: string; value: unknown; live?: boolean; small?: "code" | "words" }) {
  return (
    <div className="stack tight">
      {small ? <span className={`${small === "code" ? "mono" : "dim"} isolate`}>{title}</span> : <h3>{title}</h3>}
      <Body value={value} live={live} />
    </div>
  );
}

/** A text or a value alone; of a very long one the beginning, and the rest when it is asked for. */
export function Body({ value, live }: { value: unknown; live?: boolean }) {
  const [all, setAll] = useState(false);
  const text = pretty(value);
  const cut = !all && text.length > SHOWN;
  return (
    <>
      <pre className="block" tabIndex={0} aria-live={live ? "off" : undefined}>
        {cut ? text.slice(0, SHOWN) : text}
      </pre>
      {cut && (
        <div>
          <button type="button" className="btn small" onClick={() => setAll(true)}>
            {m.common.whole(text.length)}
          </button>
        </div>
      )}
    </>
  );
}

// A field for an amount of dollars, which says what is wrong with what stands in it.
import { wrongWith } from "../lib/usd";
import { m } from "../messages/en";
import { Field } from "./pieces";

/** `may`: whether it may be empty, or zero. */
export function Amount({ label, hint, value, onChange, may, first }: { label: string; hint?: string; value: string; onChange: (text: string) => void; may: { empty?: boolean; zero?: boolean }; first?: boolean }) {
  const wrong = wrongWith(value, may);
  return (
    <Field label={label} hint={wrong ? undefined : hint}>
      <input type="text" inputMode="decimal" autoComplete="off" autoFocus={first} aria-invalid={wrong !== undefined} value={value} onChange={(event) => onChange(event.target.value)} />
      {wrong && <small className="bad">{m.budgets.wrong[wrong]}</small>}
    </Field>
  );
}

// A password that somebody chooses: typed twice, so that a slip of the finger locks nobody out.
import { useEffect, useRef, useState } from "react";
import { m } from "../messages/en";
import { Field } from "./pieces";

/** What the server asks for at least, in characters. */
const LEAST = 12;

export function NewPassword({ value, onChange }: { value: string; onChange: (password: string) => void }) {
  const [again, setAgain] = useState("");
  const second = useRef<HTMLInputElement>(null);
  useEffect(() => second.current?.setCustomValidity(again === value ? "" : m.password.differs), [again, value]);
  return (
    <>
      <Field label={m.password.next} hint={m.password.hint(LEAST)}>
        <input type="password" autoComplete="new-password" required minLength={LEAST} value={value} onChange={(event) => onChange(event.target.value)} />
      </Field>
      <Field label={m.password.again}>
        <input type="password" autoComplete="new-password" required ref={second} value={again} onChange={(event) => setAgain(event.target.value)} />
      </Field>
    </>
  );
}

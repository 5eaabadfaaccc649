// The door. What is typed here goes to the server and stays nowhere.
import { useMutation } from "@tanstack/react-query";
import { useRouter, useSearch } from "@tanstack/react-router";
import { useState } from "react";
import { ApiError } from "../api/client";
import { signIn } from "../app/session";
import { m } from "../messages/en";
import { Command, Door, Failure, Field, useTitle } from "../ui/pieces";

/** Where to go on: a page of this server, and no other address. */
export function safeNext(next: string | undefined): string {
  return next && /^\/(?![/\\])/.test(next) && !next.startsWith("/sign-in") ? next : "/";
}

export function SignIn() {
  useTitle(m.signIn.title);
  const router = useRouter();
  const { next, over } = useSearch({ from: "/sign-in" });
  const [email, setEmail] = useState("");
  const [password, setPassword] = useState("");
  const [code, setCode] = useState("");
  const [coded, setCoded] = useState(false);
  const enter = useMutation({
    mutationFn: () => signIn(email, password, coded ? code : undefined),
    onSuccess: () => router.history.push(safeNext(next)),
    onError: (error) => {
      // The password was right: only the code is asked for again.
      const asked = error instanceof ApiError && (error.code === "second_factor_required" || error.code === "wrong_code");
      setCoded(asked);
      setCode("");
      if (!asked) setPassword("");
    },
  });
  return (
    <Door title={m.brand} text={over ? m.signIn.over : m.signIn.lead}>
      <form
        onSubmit={(event) => {
          event.preventDefault();
          enter.mutate();
        }}
      >
        <Field label={m.signIn.email}>
          <input type="email" name="email" autoComplete="username" required autoFocus value={email} onChange={(event) => setEmail(event.target.value)} />
        </Field>
        <Field label={m.signIn.password}>
          <input type="password" name="password" autoComplete="current-password" required value={password} onChange={(event) => setPassword(event.target.value)} />
        </Field>
        {coded && (
          <Field label={m.signIn.code}>
            <input type="text" name="code" autoComplete="one-time-code" required autoFocus value={code} onChange={(event) => setCode(event.target.value)} />
          </Field>
        )}
        <Failure error={enter.error} />
        <button type="submit" className="btn first" disabled={enter.isPending}>
          {enter.isPending ? m.signIn.working : m.signIn.submit}
        </button>
      </form>
      <div className="stack tight">
        <p className="hint">{m.signIn.hint}</p>
        <Command line="lantern signup" />
      </div>
    </Door>
  );
}

// The door. What is typed here goes to the server and stays nowhere.
import { useMutation } from "@tanstack/react-query";
import { useRouter, useSearch } from "@tanstack/react-router";
import { useEffect, useRef, useState } from "react";
import { ApiError } from "../api/client";
import { finishSignIn, signIn } from "../app/session";
import { m } from "../messages/en";
import { Command, Door, Failure, Field, useTitle } from "../ui/pieces";
import { Issuers, refusal } from "./issuers";

/** Where to go on: a page of this server, and no other address. */
export function safeNext(next: string | undefined): string {
  return next && /^\/(?![/\\])/.test(next) && !next.startsWith("/sign-in") ? next : "/";
}

/** Whether all that is missing is the code of a second factor. */
function codeIsAsked(error: unknown): boolean {
  return error instanceof ApiError && (error.code === "second_factor_required" || error.code === "wrong_code");
}

export function SignIn() {
  const { sso, error } = useSearch({ from: "/sign-in" });
  // Whoever comes back from an issuer in vain signs in as everybody else does.
  const [back, setBack] = useState(!!sso && !error);
  return back && sso ? <Returned from={sso} onOver={() => setBack(false)} /> : <SignInForm />;
}

/** Somebody who came back from an issuer: signed in at once, or asked for the code of their second factor. */
function Returned({ from, onOver }: { from: string; onOver: () => void }) {
  useTitle(m.signIn.title);
  const router = useRouter();
  const { next } = useSearch({ from: "/sign-in" });
  const [code, setCode] = useState("");
  const begun = useRef(false);
  const finish = useMutation({
    mutationFn: (shown?: string) => finishSignIn(shown),
    onSuccess: () => router.history.push(safeNext(next)),
    onError: () => setCode(""),
  });
  const { mutate } = finish;
  useEffect(() => {
    if (begun.current) return;
    begun.current = true;
    mutate(undefined);
  }, [mutate]);
  const coded = codeIsAsked(finish.error);
  return (
    <Door title={m.brand} text={m.sso.working(from)}>
      {coded && (
        <form
          onSubmit={(event) => {
            event.preventDefault();
            finish.mutate(code);
          }}
        >
          <Field label={m.signIn.code}>
            <input type="text" name="code" autoComplete="one-time-code" required autoFocus value={code} onChange={(event) => setCode(event.target.value)} />
          </Field>
          <button type="submit" className="btn first" disabled={finish.isPending}>
            {m.signIn.submit}
          </button>
        </form>
      )}
      <Failure error={finish.error} />
      {finish.error && !coded && (
        <button type="button" className="btn" onClick={onOver}>
          {m.signIn.title}
        </button>
      )}
    </Door>
  );
}

function SignInForm() {
  useTitle(m.signIn.title);
  const router = useRouter();
  const { next, over, error } = useSearch({ from: "/sign-in" });
  const [email, setEmail] = useState("");
  const [password, setPassword] = useState("");
  const [code, setCode] = useState("");
  const [coded, setCoded] = useState(false);
  const enter = useMutation({
    mutationFn: () => signIn(email, password, coded ? code : undefined),
    onSuccess: () => router.history.push(safeNext(next)),
    onError: (error) => {
      // The password was right: only the code is asked for again.
      const asked = codeIsAsked(error);
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
        <Failure error={enter.error ?? (error ? refusal(error) : undefined)} />
        <button type="submit" className="btn first" disabled={enter.isPending}>
          {enter.isPending ? m.signIn.working : m.signIn.submit}
        </button>
      </form>
      <Issuers verb={m.sso.continue} next={next} />
      <div className="stack tight">
        <p className="hint">{m.signIn.hint}</p>
        <Command line="lantern signup" />
      </div>
    </Door>
  );
}

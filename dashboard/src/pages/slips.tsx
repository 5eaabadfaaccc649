// What somebody opens who was handed a link: an invitation, or a reset of their password.
//
// What makes the link good stands behind its `#`. It is taken out of the address at once, and stays in this page's memory.
import { useMutation } from "@tanstack/react-query";
import { Link, useNavigate } from "@tanstack/react-router";
import { type ReactNode, useEffect, useState } from "react";
import { post } from "../api/client";
import { comeIn } from "../app/session";
import { slipOf } from "../lib/people";
import { m } from "../messages/en";
import { NewPassword } from "../ui/new-password";
import { Command, Door, Failure, Field, useTitle } from "../ui/pieces";
import { Issuers } from "./issuers";

/** The slip of the address, or what is pasted in its place. */
function useSlip(): { slip: string; field: ReactNode } {
  const [handed] = useState(() => slipOf(location.hash));
  const [pasted, setPasted] = useState("");
  useEffect(() => history.replaceState(history.state, "", location.pathname), []);
  const field = !handed && (
    <Field label={m.slips.link} hint={m.slips.linkHint}>
      <input type="text" required autoComplete="off" autoFocus value={pasted} onChange={(event) => setPasted(event.target.value)} />
    </Field>
  );
  return { slip: handed || slipOf(pasted), field };
}

export function AcceptInvitation() {
  const words = m.slips.invitation;
  useTitle(words.title);
  const navigate = useNavigate();
  const { slip, field } = useSlip();
  const [name, setName] = useState("");
  const [password, setPassword] = useState("");
  const enter = useMutation({ mutationFn: () => comeIn(slip, password, name.trim() || undefined), onSuccess: () => navigate({ to: "/" }) });
  return (
    <Door title={words.title} text={words.text}>
      <form
        onSubmit={(event) => {
          event.preventDefault();
          enter.mutate();
        }}
      >
        {field}
        <Field label={words.name} hint={words.nameHint}>
          <input type="text" autoComplete="name" maxLength={200} value={name} onChange={(event) => setName(event.target.value)} />
        </Field>
        <NewPassword value={password} onChange={setPassword} />
        <Failure error={enter.error} />
        <button type="submit" className="btn first" disabled={enter.isPending}>
          {words.submit}
        </button>
      </form>
      {slip && <Issuers verb={m.sso.accept} invitation={slip} />}
      <div className="stack tight">
        <p className="hint">{m.common.sameOnCli}</p>
        <Command line="lantern members accept" />
      </div>
    </Door>
  );
}

export function ResetPassword() {
  const words = m.slips.reset;
  useTitle(words.title);
  const { slip, field } = useSlip();
  const [password, setPassword] = useState("");
  const reset = useMutation({ mutationFn: () => post("/auth/password-reset", { body: { token: slip, newPassword: password } }) });
  if (reset.isSuccess) {
    return (
      <Door title={words.doneTitle} text={words.done}>
        <Link to="/sign-in" className="btn first">
          {m.signIn.submit}
        </Link>
      </Door>
    );
  }
  return (
    <Door title={words.title} text={words.text}>
      <form
        onSubmit={(event) => {
          event.preventDefault();
          reset.mutate();
        }}
      >
        {field}
        <NewPassword value={password} onChange={setPassword} />
        <Failure error={reset.error} />
        <button type="submit" className="btn first" disabled={reset.isPending}>
          {words.submit}
        </button>
      </form>
      <div className="stack tight">
        <p className="hint">{m.common.sameOnCli}</p>
        <Command line="lantern password reset" />
      </div>
    </Door>
  );
}

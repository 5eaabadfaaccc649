// One's own account: who one is, how one signs in, and where one is signed in.
import { useMutation, useQueryClient } from "@tanstack/react-query";
import { useNavigate } from "@tanstack/react-router";
import { useState } from "react";
import { type SignIn, page, post, remove } from "../api/client";
import { signOut, useMe } from "../app/session";
import { clientName } from "../lib/client-name";
import { m } from "../messages/en";
import { Facts } from "../ui/facts";
import { More, usePages } from "../ui/more";
import { NewPassword } from "../ui/new-password";
import { Confirm, Failure, Field, Head, Loading, SameCommand, Time, useTitle, useToast } from "../ui/pieces";
import { Identities } from "./issuers";
import { SecondFactor } from "./second-factor";

const words = m.account;

export function Account() {
  useTitle(words.title);
  const me = useMe();
  return (
    <div className="page">
      <Head title={words.title} lead={words.lead} />
      <section className="card" aria-label={words.you}>
        <header>
          <h2>{words.you}</h2>
        </header>
        <div className="in stack">
          <Facts
            of={[
              [words.name, <span className="isolate">{me?.name}</span>],
              [m.signIn.email, <span className="isolate">{me?.email}</span>],
              [words.role, m.members.roles[me?.role ?? ""] ?? me?.role],
              [words.tenant, <span className="mono">{me?.tenantId}</span>],
              !!me?.signInExpiresAt && [words.until, <Time at={me.signInExpiresAt} />],
            ]}
          />
          <SameCommand line="lantern whoami" />
        </div>
      </section>
      <Password />
      <SecondFactor />
      <Identities />
      <SignIns />
    </div>
  );
}

function Password() {
  const [changing, setChanging] = useState(false);
  return (
    <section className="card" aria-label={words.password}>
      <header>
        <h2>{words.password}</h2>
        <button type="button" className="btn small" onClick={() => setChanging(true)}>
          {words.change}
        </button>
      </header>
      <div className="in">
        <p className="note">{words.passwordText}</p>
      </div>
      {changing && <ChangePassword onClose={() => setChanging(false)} />}
    </section>
  );
}

function ChangePassword({ onClose }: { onClose: () => void }) {
  const client = useQueryClient();
  const toast = useToast();
  const [current, setCurrent] = useState("");
  const [next, setNext] = useState("");
  const change = useMutation({
    mutationFn: () => post("/auth/password", { body: { currentPassword: current, newPassword: next } }),
    onSuccess: async () => {
      toast(words.changed);
      onClose();
      await client.invalidateQueries({ queryKey: ["sign-ins"] });
    },
  });
  return (
    <Confirm title={words.changeTitle} text={words.changeText} action={words.change} command="lantern password change" busy={change.isPending} error={change.error} onConfirm={() => change.mutate()} onClose={onClose}>
      <Field label={m.password.current}>
        <input type="password" autoComplete="current-password" required autoFocus value={current} onChange={(event) => setCurrent(event.target.value)} />
      </Field>
      <NewPassword value={next} onChange={setNext} />
    </Confirm>
  );
}

function SignIns() {
  const client = useQueryClient();
  const navigate = useNavigate();
  const toast = useToast();
  const [ending, setEnding] = useState<SignIn | "all">();
  const list = usePages(["sign-ins"], (cursor, signal) => page("/auth/sign-ins", { query: { limit: 50, cursor }, signal }));
  const names = words.columns;
  const end = useMutation({
    mutationFn: async (which: SignIn | "all") => {
      if (which === "all") return signOut(true).then(() => navigate({ to: "/sign-in" }));
      await remove("/auth/sign-ins/{id}", { path: { id: which.id } });
      toast(words.ended);
      setEnding(undefined);
      await client.invalidateQueries({ queryKey: ["sign-ins"] });
    },
  });
  return (
    <section className="card" aria-label={words.signIns}>
      <header>
        <h2>{words.signIns}</h2>
        <button type="button" className="btn small danger" onClick={() => setEnding("all")}>
          {m.nav.signOutEverywhere}
        </button>
      </header>
      <Failure error={list.error} retry={() => void list.refetch()} />
      {list.isPending ? (
        <Loading />
      ) : (
        <table className="table" aria-label={words.signIns}>
          <thead>
            <tr>
              <th>{names.client}</th>
              <th className="fit wide">{names.source}</th>
              <th className="fit num wide">{names.since}</th>
              <th className="fit num">{names.used}</th>
              <th className="fit num wide">{names.until}</th>
              <th className="fit">
                <span className="sr">{words.end}</span>
              </th>
            </tr>
          </thead>
          <tbody>
            {list.items.map((one) => (
              <tr key={one.id}>
                <td className="cut isolate" title={one.client ?? undefined}>
                  {one.client ? clientName(one.client) : m.common.unknown}
                </td>
                <td className="fit mono dim wide">{one.source ?? m.common.none}</td>
                <td className="fit num dim wide">
                  <Time at={one.createdAt} />
                </td>
                <td className="fit num dim">
                  <Time at={one.lastUsedAt} />
                </td>
                <td className="fit num dim wide">
                  <Time at={one.expiresAt} />
                </td>
                <td className="fit num">
                  {one.current ? (
                    <span className="tag accent">{words.current}</span>
                  ) : (
                    <button type="button" className="btn small" onClick={() => setEnding(one)}>
                      {words.end}
                    </button>
                  )}
                </td>
              </tr>
            ))}
          </tbody>
        </table>
      )}
      <div className="in stack">
        <More list={list} />
        <SameCommand line="lantern logins list" />
      </div>
      {ending && (
        <Confirm
          title={ending === "all" ? words.endAllTitle : words.endTitle}
          text={ending === "all" ? words.endAllText : words.endText}
          action={ending === "all" ? m.nav.signOutEverywhere : words.end}
          command={ending === "all" ? "lantern logout --everywhere" : `lantern logins end ${ending.id}`}
          danger
          busy={end.isPending}
          error={end.error}
          onConfirm={() => end.mutate(ending)}
          onClose={() => (setEnding(undefined), end.reset())}
        />
      )}
    </section>
  );
}

// Signing in by an issuer: the way there from this browser, and by which issuers one signs in.
//
// The way back is the sign-in page, or the account page for what is to be linked. What was proven there is in a cookie that no script
// reads; nothing of it is in an address.
import { useMutation, useQuery, useQueryClient } from "@tanstack/react-query";
import { useNavigate, useSearch } from "@tanstack/react-router";
import { useState } from "react";
import { ApiError, type Identity, get, page, post, remove } from "../api/client";
import { m } from "../messages/en";
import { More, usePages } from "../ui/more";
import { Confirm, Failure, Field, Loading, Time, useToast } from "../ui/pieces";

const words = m.sso;

function useIssuers() {
  return useQuery({ queryKey: ["issuers"], queryFn: () => get("/auth/oauth"), staleTime: 60_000, retry: false }).data ?? [];
}

/** What a landing says of why it failed. */
export function refusal(code: string): ApiError {
  const known = words.refusals[code];
  return known ? new ApiError(403, code, known) : new ApiError(403, "sso_failed", words.failed);
}

/** Buttons that send this browser to an issuer; nothing where there is none. */
export function Issuers({ verb, next, invitation, link }: { verb: (label: string) => string; next?: string; invitation?: string; link?: boolean }) {
  const issuers = useIssuers();
  const go = useMutation({
    mutationFn: async (name: string) => {
      const at = issuers.find((issuer) => issuer.name === name)?.url ?? "";
      // The issuer sends browsers back to one address of this server, where the cookie must be.
      if (new URL(at).origin !== location.origin) return `${at}${location.pathname}${invitation ? `#${invitation}` : ""}`;
      return (await post("/auth/oauth/{provider}/start", { path: { provider: name }, body: { next, invitation, link } })).redirect_url;
    },
    onSuccess: (address) => {
      if (/^https?:\/\//.test(address)) location.assign(address);
    },
  });
  if (issuers.length === 0) return null;
  return (
    <div className="stack tight">
      {issuers.map((issuer) => (
        <button key={issuer.name} type="button" className="btn" disabled={go.isPending} onClick={() => go.mutate(issuer.name)}>
          {verb(issuer.label)}
        </button>
      ))}
      <Failure error={go.error} />
    </div>
  );
}

/** By which issuers somebody signs in to their account. */
export function Identities() {
  const issuers = useIssuers();
  const client = useQueryClient();
  const navigate = useNavigate();
  const toast = useToast();
  const { sso, error } = useSearch({ from: "/shell/account" });
  const [password, setPassword] = useState("");
  const [ending, setEnding] = useState<Identity>();
  const list = usePages(["identities"], (cursor, signal) => page("/auth/identities", { query: { limit: 50, cursor }, signal }));
  const done = () => navigate({ to: "/account", search: {}, replace: true });
  const changed = async (said: string) => {
    toast(said);
    setPassword("");
    setEnding(undefined);
    await client.invalidateQueries({ queryKey: ["identities"] });
  };
  const link = useMutation({
    mutationFn: () => post("/auth/identities", { body: { password } }),
    onSuccess: async () => {
      await done();
      await changed(words.linked);
    },
  });
  const unlink = useMutation({
    mutationFn: (identity: Identity) => remove("/auth/identities/{id}", { path: { id: identity.id } }),
    onSuccess: () => changed(words.unlinked),
  });
  const label = (name: string | null | undefined) => issuers.find((issuer) => issuer.name === name)?.label ?? name;
  const identities = list.items;
  if (issuers.length === 0 && identities.length === 0) return null;
  return (
    <section className="card" aria-label={words.title}>
      <header>
        <h2>{words.title}</h2>
      </header>
      <div className="in stack">
        <p className="note">{words.text}</p>
        <Failure error={list.error ?? (error ? refusal(error) : undefined)} retry={list.error ? () => void list.refetch() : undefined} />
        {list.isPending && <Loading />}
        {identities.length > 0 && (
          <table className="table" aria-label={words.title}>
            <tbody>
              {identities.map((identity) => (
                <tr key={identity.id}>
                  <td>{label(identity.provider) ?? identity.issuer}</td>
                  <td>
                    <span className="isolate">{identity.email}</span>
                  </td>
                  <td className="fit wide">
                    <Time at={identity.lastUsedAt} />
                  </td>
                  <td className="fit">
                    <button type="button" className="btn small danger" onClick={() => setEnding(identity)}>
                      {words.unlink}
                    </button>
                  </td>
                </tr>
              ))}
            </tbody>
          </table>
        )}
        <More list={list} />
        <Issuers verb={words.link} link />
      </div>
      {sso && !error && (
        <Confirm title={words.confirm(label(sso) ?? sso)} text={words.confirmText} action={words.linkIt} busy={link.isPending} error={link.error} onConfirm={() => link.mutate()} onClose={() => void done()}>
          <Field label={m.signIn.password}>
            <input type="password" autoComplete="current-password" required autoFocus value={password} onChange={(event) => setPassword(event.target.value)} />
          </Field>
        </Confirm>
      )}
      {ending && (
        <Confirm title={words.unlinkTitle} text={words.unlinkText} action={words.unlink} command={`lantern identities unlink ${ending.id}`} busy={unlink.isPending} error={unlink.error} onConfirm={() => unlink.mutate(ending)} onClose={() => setEnding(undefined)} />
      )}
    </section>
  );
}

// A code of an authenticator app beside the password: set up, and turned off again.
//
// The secret and the recovery codes are in one answer each; they are shown from it and kept nowhere.
import { useMutation, useQuery, useQueryClient } from "@tanstack/react-query";
import { useState } from "react";
import { get, post } from "../api/client";
import { m } from "../messages/en";
import { Facts } from "../ui/facts";
import { Once } from "../ui/once";
import { Confirm, Failure, Field, Loading, SameCommand, Time, useToast } from "../ui/pieces";
import { Picture } from "../ui/qr";

const words = m.factor;
const asked = { queryKey: ["factor"], queryFn: ({ signal }: { signal: AbortSignal }) => get("/auth/totp", { signal }) };

export function SecondFactor() {
  const factor = useQuery(asked);
  const [doing, setDoing] = useState<"enable" | "disable">();
  const [codes, setCodes] = useState<string[]>();
  const on = factor.data?.enabled;
  return (
    <section className="card" aria-label={words.title}>
      <header>
        <h2>{words.title}</h2>
        {factor.data && (
          <button type="button" className={`btn small ${on ? "danger" : ""}`} onClick={() => setDoing(on ? "disable" : "enable")}>
            {on ? words.disable : words.enable}
          </button>
        )}
      </header>
      <div className="in stack">
        <Failure error={factor.error} retry={() => void factor.refetch()} />
        {factor.isPending && <Loading />}
        {factor.data && <p className="note">{on ? words.on : words.off}</p>}
        {on && factor.data && (
          <Facts
            of={[
              [words.since, factor.data.confirmedAt && <Time at={factor.data.confirmedAt} />],
              [words.left, String(factor.data.recoveryCodesLeft)],
            ]}
          />
        )}
        <SameCommand line="lantern totp show" />
      </div>
      {doing === "enable" && <Enable onClose={() => setDoing(undefined)} onDone={(made) => (setDoing(undefined), setCodes(made))} />}
      {doing === "disable" && <Disable onClose={() => setDoing(undefined)} />}
      {codes && <Once title={words.codesTitle} text={words.codesText} secret={codes.join("\n")} onClose={() => setCodes(undefined)} />}
    </section>
  );
}

function OwnPassword({ value, onChange }: { value: string; onChange: (password: string) => void }) {
  return (
    <Field label={m.password.current}>
      <input type="password" autoComplete="current-password" required autoFocus value={value} onChange={(event) => onChange(event.target.value)} />
    </Field>
  );
}

function Enable({ onClose, onDone }: { onClose: () => void; onDone: (codes: string[]) => void }) {
  const client = useQueryClient();
  const [password, setPassword] = useState("");
  const [code, setCode] = useState("");
  const begin = useMutation({ mutationFn: () => post("/auth/totp", { body: { password } }) });
  const confirm = useMutation({
    mutationFn: () => post("/auth/totp/confirm", { body: { code } }),
    onSuccess: async ({ recoveryCodes }) => {
      onDone(recoveryCodes);
      await client.invalidateQueries({ queryKey: asked.queryKey });
    },
  });
  if (!begin.data) {
    return (
      <Confirm key="begin" title={words.enableTitle} text={words.enableText} action={words.begin} command="lantern totp enable" busy={begin.isPending} error={begin.error} onConfirm={() => begin.mutate()} onClose={onClose}>
        <OwnPassword value={password} onChange={setPassword} />
      </Confirm>
    );
  }
  return (
    <Confirm
      key="confirm"
      title={words.scanTitle}
      text={words.scanText}
      action={words.confirm}
      command={`lantern totp confirm ${code.trim() || "CODE"}`}
      busy={confirm.isPending || code.trim() === ""}
      error={confirm.error}
      onConfirm={() => confirm.mutate()}
      onClose={onClose}
    >
      <Picture text={begin.data.uri} label={words.picture} />
      <div className="field">
        <span>{words.secret}</span>
        <code className="secret" data-secret>
          {begin.data.secret.match(/.{1,4}/g)?.join(" ")}
        </code>
      </div>
      <Field label={words.code}>
        <input type="text" autoComplete="one-time-code" inputMode="numeric" required autoFocus value={code} onChange={(event) => setCode(event.target.value)} />
      </Field>
    </Confirm>
  );
}

function Disable({ onClose }: { onClose: () => void }) {
  const client = useQueryClient();
  const toast = useToast();
  const [password, setPassword] = useState("");
  const disable = useMutation({
    mutationFn: () => post("/auth/totp/disable", { body: { password } }),
    onSuccess: async () => {
      toast(words.disabled);
      onClose();
      await client.invalidateQueries({ queryKey: asked.queryKey });
    },
  });
  return (
    <Confirm title={words.disableTitle} text={words.disableText} action={words.disable} command="lantern totp disable" danger busy={disable.isPending} error={disable.error} onConfirm={() => disable.mutate()} onClose={onClose}>
      <OwnPassword value={password} onChange={setPassword} />
    </Confirm>
  );
}

// Invitations: made, handed on as a link that is shown once, and taken back.
import { useMutation, useQueryClient } from "@tanstack/react-query";
import { useState } from "react";
import { type Invitation, page, post, remove } from "../api/client";
import { shell } from "../lib/format";
import { type Role, slipLink } from "../lib/people";
import { m } from "../messages/en";
import { More, usePages } from "../ui/more";
import { Once } from "../ui/once";
import { Confirm, Empty, Failure, Field, Loading, SameCommand, Time, useToast } from "../ui/pieces";
import { RoleField } from "./members";

const words = m.invitations;

/** Those that nobody has used yet. */
export function Invitations() {
  const [leaving, setLeaving] = useState<Invitation>();
  const list = usePages(["invitations"], (cursor, signal) => page("/v1/invitations", { query: { limit: 100, cursor }, signal }));
  const names = words.columns;
  return (
    <section className="card" aria-label={words.title}>
      <header>
        <h2>{words.title}</h2>
      </header>
      <Failure error={list.error} retry={() => void list.refetch()} />
      {list.isPending ? (
        <Loading />
      ) : list.items.length === 0 ? (
        !list.error && <Empty title={words.empty} hint={words.emptyHint} command="lantern members invitations" />
      ) : (
        <table className="table" aria-label={words.title}>
          <thead>
            <tr>
              <th>{names.email}</th>
              <th className="fit">{names.role}</th>
              <th className="fit num wide">{names.expires}</th>
              <th className="fit num wide">{names.created}</th>
              <th className="fit">
                <span className="sr">{words.withdraw}</span>
              </th>
            </tr>
          </thead>
          <tbody>
            {list.items.map((invitation) => (
              <tr key={invitation.id}>
                <td className="cut isolate">{invitation.email}</td>
                <td className="fit">{m.members.roles[invitation.role] ?? invitation.role}</td>
                <td className="fit num dim wide">
                  <Time at={invitation.expiresAt} />
                </td>
                <td className="fit num dim wide">
                  <Time at={invitation.createdAt} />
                </td>
                <td className="fit">
                  <button type="button" className="btn small danger" onClick={() => setLeaving(invitation)}>
                    {words.withdraw}
                  </button>
                </td>
              </tr>
            ))}
          </tbody>
        </table>
      )}
      <More list={list} />
      {list.items.length > 0 && (
        <div className="in">
          <SameCommand line="lantern members invitations" />
        </div>
      )}
      {leaving && <Withdraw invitation={leaving} onClose={() => setLeaving(undefined)} />}
    </section>
  );
}

function Withdraw({ invitation, onClose }: { invitation: Invitation; onClose: () => void }) {
  const client = useQueryClient();
  const toast = useToast();
  const withdraw = useMutation({
    mutationFn: () => remove("/v1/invitations/{id}", { path: { id: invitation.id } }),
    onSuccess: async () => {
      toast(words.withdrawn);
      onClose();
      await client.invalidateQueries({ queryKey: ["invitations"] });
    },
  });
  return (
    <Confirm
      title={words.withdrawTitle(invitation.email)}
      text={words.withdrawText}
      action={words.withdraw}
      command={`lantern members withdraw ${invitation.id}`}
      danger
      busy={withdraw.isPending}
      error={withdraw.error}
      onConfirm={() => withdraw.mutate()}
      onClose={onClose}
    />
  );
}

export function Invite({ onClose }: { onClose: () => void }) {
  const client = useQueryClient();
  const [email, setEmail] = useState("");
  const [role, setRole] = useState("member");
  const [days, setDays] = useState("7");
  const form = words.form;
  const invite = useMutation({
    mutationFn: () => post("/v1/invitations", { body: { email, role: role as Role, expiresInDays: days.trim() === "" ? undefined : Number(days) } }),
    onSuccess: () => client.invalidateQueries({ queryKey: ["invitations"] }),
  });
  if (invite.data) {
    return (
      <Once title={words.madeTitle(invite.data.invitation.email)} text={words.madeText} secret={slipLink(location.origin, "invitation", invite.data.token)} onClose={onClose}>
        <p className="note">{words.madeOnCli}</p>
      </Once>
    );
  }
  const line = `lantern members invite ${shell(email || "EMAIL")} --role ${role}${days.trim() && days !== "7" ? ` --expires-in-days ${shell(days.trim())}` : ""}`;
  return (
    <Confirm title={form.title} text={form.text} action={form.invite} command={line} busy={invite.isPending || email.trim() === ""} error={invite.error} onConfirm={() => invite.mutate()} onClose={onClose}>
      <Field label={form.email}>
        <input type="email" required autoFocus autoComplete="off" value={email} onChange={(event) => setEmail(event.target.value)} />
      </Field>
      <RoleField value={role} onChange={setRole} />
      <Field label={form.days} hint={form.daysHint}>
        <input type="number" min="1" max="30" value={days} onChange={(event) => setDays(event.target.value)} />
      </Field>
    </Confirm>
  );
}

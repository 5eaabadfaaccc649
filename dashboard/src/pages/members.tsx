// The people of the workspace: who they are, what they may do, and what is done about them.
import * as Menu from "@radix-ui/react-dropdown-menu";
import { useMutation, useQueryClient } from "@tanstack/react-query";
import { useState } from "react";
import { type Member, page, patch, post, remove } from "../api/client";
import { useMe } from "../app/session";
import { type Change, type Role, givable, isAdmin, offers, slipLink } from "../lib/people";
import { m } from "../messages/en";
import { Icon } from "../ui/icons";
import { More, usePages } from "../ui/more";
import { Once } from "../ui/once";
import { Confirm, Empty, Failure, Field, Head, Loading, SameCommand, Time, useTitle, useToast } from "../ui/pieces";
import { Invitations, Invite } from "./invitations";

const words = m.members;
const CHANGES: readonly Change[] = ["role", "reset", "signOut", "removeCode", "remove"];

interface Doing {
  member: Member;
  change: Change;
}

export function Members() {
  useTitle(words.title);
  const me = useMe();
  const may = isAdmin(me?.role);
  const [inviting, setInviting] = useState(false);
  const [doing, setDoing] = useState<Doing>();
  const [reset, setReset] = useState<string>();
  const list = usePages(["members"], (cursor, signal) => page("/v1/members", { query: { limit: 100, cursor }, signal }));
  return (
    <div className="page">
      <Head title={words.title} lead={words.lead}>
        {may && (
          <button type="button" className="btn first" onClick={() => setInviting(true)}>
            {words.invite}
          </button>
        )}
      </Head>
      <Failure error={list.error} retry={() => void list.refetch()} />
      {list.isPending ? <Loading /> : <People items={list.items} may={may} onAct={(member, change) => setDoing({ member, change })} />}
      <More list={list} />
      {list.items.length > 1 && <SameCommand line="lantern members list" />}
      {may && <Invitations />}
      {inviting && <Invite onClose={() => setInviting(false)} />}
      {doing && <Act {...doing} onReset={setReset} onClose={() => setDoing(undefined)} />}
      {reset !== undefined && <Once title={words.resetMade} text={words.resetText} secret={slipLink(location.origin, "reset", reset)} onClose={() => setReset(undefined)} />}
    </div>
  );
}

function People({ items, may, onAct }: { items: Member[]; may: boolean; onAct: (member: Member, change: Change) => void }) {
  const me = useMe();
  const names = words.columns;
  return (
    <div className="card">
      <table className="table" aria-label={words.table}>
        <thead>
          <tr>
            <th>{names.who}</th>
            <th className="fit">{names.role}</th>
            <th className="fit num wide">{names.seen}</th>
            <th className="fit num wide">{names.since}</th>
            {may && (
              <th className="fit">
                <span className="sr">{words.actions}</span>
              </th>
            )}
          </tr>
        </thead>
        <tbody>
          {items.map((member) => (
            <tr key={member.id}>
              <td className="cut">
                <span className="isolate">{member.name}</span> {member.id === me?.id && <span className="tag">{words.you}</span>}
                <br />
                <span className="dim isolate">{member.email}</span>
              </td>
              <td className="fit">{words.roles[member.role] ?? member.role}</td>
              <td className="fit num dim wide">{member.lastSeenAt ? <Time at={member.lastSeenAt} /> : words.never}</td>
              <td className="fit num dim wide">
                <Time at={member.createdAt} />
              </td>
              {may && (
                <td className="fit">
                  <Actions member={member} onAct={onAct} />
                </td>
              )}
            </tr>
          ))}
        </tbody>
      </table>
      {items.length === 1 && <Empty title={words.alone} hint={may ? words.aloneHint : undefined} command={may ? "lantern members invite ada@example.com --role member" : "lantern members list"} />}
    </div>
  );
}

function Actions({ member, onAct }: { member: Member; onAct: (member: Member, change: Change) => void }) {
  const me = useMe();
  const offered = CHANGES.filter((change) => offers(me, member, change));
  if (offered.length === 0) return null;
  return (
    <Menu.Root modal={false}>
      <Menu.Trigger className="btn plain small" aria-label={words.actionsOf(member.email)}>
        <Icon name="more" />
      </Menu.Trigger>
      <Menu.Portal>
        <Menu.Content className="menu" align="end" sideOffset={4} collisionPadding={8}>
          {offered.map((change) => (
            <Menu.Item key={change} onSelect={() => onAct(member, change)}>
              {words.change[change].action}
            </Menu.Item>
          ))}
        </Menu.Content>
      </Menu.Portal>
    </Menu.Root>
  );
}

function Act({ member, change, onReset, onClose }: Doing & { onReset: (token: string) => void; onClose: () => void }) {
  const client = useQueryClient();
  const toast = useToast();
  const me = useMe();
  const [role, setRole] = useState(member.role);
  const path = { id: member.id };
  const act = useMutation({
    mutationFn: async (): Promise<string | undefined> => {
      switch (change) {
        case "role":
          await patch("/v1/members/{id}", { path, body: { role: role as Role } });
          return;
        case "reset":
          return (await post("/v1/members/{id}/password-reset", { path })).token;
        case "signOut":
          return remove("/v1/members/{id}/sign-ins", { path }).then(() => undefined);
        case "removeCode":
          return remove("/v1/members/{id}/totp", { path }).then(() => undefined);
        case "remove":
          return remove("/v1/members/{id}", { path }).then(() => undefined);
      }
    },
    onSuccess: async (token) => {
      onClose();
      if (token) onReset(token);
      else toast(words.change[change].done);
      // One's own role may be the one that changed, and what one may with it.
      await client.invalidateQueries({ predicate: ({ queryKey }) => ["members", "invitations", "keys", ...(member.id === me?.id ? ["me"] : [])].includes(String(queryKey[0])) });
    },
  });
  const line = { role: `role ${member.id} ${role}`, reset: `reset-password ${member.id}`, signOut: `logout ${member.id}`, removeCode: `remove-totp ${member.id}`, remove: `remove ${member.id}` }[change];
  const said = words.change[change];
  return (
    <Confirm
      title={said.title(member.email)}
      text={said.text}
      action={said.action}
      command={`lantern members ${line}`}
      danger={change === "remove"}
      busy={act.isPending || (change === "role" && role === member.role)}
      error={act.error}
      onConfirm={() => act.mutate()}
      onClose={onClose}
    >
      {change === "role" && <RoleField value={role} onChange={setRole} />}
      {change === "remove" && <p className="note">{words.force}</p>}
    </Confirm>
  );
}

/** A choice of the roles that one may give. */
export function RoleField({ value, onChange }: { value: string; onChange: (role: string) => void }) {
  const me = useMe();
  return (
    <Field label={words.columns.role} hint={words.may[value]}>
      <select value={value} onChange={(event) => onChange(event.target.value)}>
        {givable(me?.role).map((role) => (
          <option key={role} value={role}>
            {words.roles[role]}
          </option>
        ))}
      </select>
    </Field>
  );
}

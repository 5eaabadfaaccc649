// One secret: how it is named, who names it, and its versions.
import { useMutation, useQuery, useQueryClient } from "@tanstack/react-query";
import { useState } from "react";
import { type Secret, get, patch, remove } from "../api/client";
import { shell } from "../lib/format";
import { type Version, isLast, standing, usesOf } from "../lib/secrets";
import { m } from "../messages/en";
import { Facts } from "../ui/facts";
import { Confirm, Failure, Loading, SameCommand, Time, useToast } from "../ui/pieces";
import { HandIn } from "./secret-form";

const words = m.secrets;
type Asked = { what: "delete" } | { what: "disable" | "forget"; version: Version };
type Doing = { what: "renew" } | Asked;

export function OneSecret({ name, may, onDeleted }: { name: string; may: boolean; onDeleted: () => void }) {
  const [doing, setDoing] = useState<Doing>();
  const secret = useQuery({ queryKey: ["secrets", "one", name], queryFn: ({ signal }) => get("/v1/secrets/{name}", { path: { name }, signal }) });
  const providers = useQuery({ queryKey: ["providers"], queryFn: ({ signal }) => get("/v1/settings/llm-providers", { signal }) });
  if (secret.isPending) return <Loading />;
  if (!secret.data) return <Failure error={secret.error} retry={() => void secret.refetch()} />;
  const { reference, versions, version, createdAt, updatedAt } = secret.data;
  const uses = usesOf(reference, providers.data ?? []);
  const off = versions.find(({ enabled }) => !enabled);
  const close = () => setDoing(undefined);
  return (
    <section className="card" aria-label={name}>
      <header>
        <h2 className="cut isolate">{name}</h2>
        {may && (
          <span className="row">
            <button type="button" className="btn small danger" onClick={() => setDoing({ what: "delete" })}>
              {words.forget}
            </button>
            <button type="button" className="btn small" onClick={() => setDoing({ what: "renew" })}>
              {words.renew}
            </button>
          </span>
        )}
      </header>
      <div className="in stack">
        <Facts
          of={[
            [words.facts.reference, <span className="mono isolate">{reference}</span>],
            [words.facts.uses, uses.length > 0 ? <span className="isolate">{uses.join(", ")}</span> : <span className="dim">{words.usesNone}</span>],
            [words.facts.created, <Time at={createdAt} />],
            [words.facts.updated, <Time at={updatedAt} />],
          ]}
        />
        <p className="note">{words.usesHint}</p>
      </div>
      <Versions name={name} versions={versions} counts={version} may={may} act={setDoing} />
      <div className="in stack">
        <p className="note">{words.versionsText}</p>
        <SameCommand line={[`lantern secrets versions ${shell(name)}`, ...(may && off ? [`lantern secrets enable ${shell(name)} ${off.version}`] : [])]} />
      </div>
      {doing?.what === "renew" && <HandIn of={secret.data} onClose={close} />}
      {doing && doing.what !== "renew" && <Act secret={secret.data} uses={uses} doing={doing} onClose={close} onDeleted={onDeleted} />}
    </section>
  );
}

function Versions({ name, versions, counts, may, act }: { name: string; versions: (Version & { createdAt: string })[]; counts?: number | null; may: boolean; act: (doing: Doing) => void }) {
  const client = useQueryClient();
  const toast = useToast();
  const enable = useMutation({
    mutationFn: (version: number) => patch("/v1/secrets/{name}/versions/{version}", { path: { name, version: String(version) }, body: { enabled: true } }),
    onSuccess: async (_, version) => {
      toast(words.enabled(version));
      await client.invalidateQueries({ queryKey: ["secrets"] });
    },
  });
  const names = words.columns;
  return (
    <>
      <Failure error={enable.error} />
      <table className="table" aria-label={words.versions}>
        <thead>
          <tr>
            <th>{names.version}</th>
            <th className="fit">{names.standing}</th>
            <th className="fit num wide">{names.at}</th>
            {may && (
              <th className="fit">
                <span className="sr">{names.actions}</span>
              </th>
            )}
          </tr>
        </thead>
        <tbody>
          {versions.map((one) => {
            const stands = standing(one, counts);
            return (
              <tr key={one.version}>
                <td>{one.version}</td>
                <td className="fit">
                  <span className={`status ${{ counts: "good", enabled: "off", disabled: "off" }[stands]}`}>{words.standing[stands]}</span>
                </td>
                <td className="fit num dim wide">
                  <Time at={one.createdAt} />
                </td>
                {may && (
                  <td className="fit">
                    <span className="row end">
                      <button
                        type="button"
                        className="btn small"
                        disabled={enable.isPending}
                        aria-label={words.ofVersion(one.enabled ? words.disable : words.enable, one.version)}
                        onClick={() => (one.enabled ? act({ what: "disable", version: one }) : enable.mutate(one.version))}
                      >
                        {one.enabled ? words.disable : words.enable}
                      </button>
                      <button type="button" className="btn small danger" aria-label={words.ofVersion(words.forget, one.version)} onClick={() => act({ what: "forget", version: one })}>
                        {words.forget}
                      </button>
                    </span>
                  </td>
                )}
              </tr>
            );
          })}
        </tbody>
      </table>
    </>
  );
}

/** Asks before something goes that others may name. */
function Act({ secret, uses, doing, onClose, onDeleted }: { secret: Secret; uses: string[]; doing: Asked; onClose: () => void; onDeleted: () => void }) {
  const client = useQueryClient();
  const toast = useToast();
  const { name } = secret;
  const number = doing.what === "delete" ? 0 : doing.version.version;
  const path = { name, version: String(number) };
  const act = useMutation({
    mutationFn: async (): Promise<void> => {
      if (doing.what === "delete") await remove("/v1/secrets/{name}", { path: { name } });
      else if (doing.what === "forget") await remove("/v1/secrets/{name}/versions/{version}", { path });
      else await patch("/v1/secrets/{name}/versions/{version}", { path, body: { enabled: false } });
    },
    onSuccess: async () => {
      toast({ delete: words.deleted, forget: words.forgotten(number), disable: words.disabled(number) }[doing.what]);
      onClose();
      if (doing.what === "delete") {
        client.removeQueries({ queryKey: ["secrets", "one", name] });
        onDeleted();
      }
      await client.invalidateQueries({ queryKey: ["secrets"] });
    },
  });
  const says = {
    delete: { title: words.deleteTitle(name), text: words.deleteText, action: words.forget, command: `lantern secrets delete ${shell(name)}` },
    forget: { title: words.forgetTitle(name, number), text: words.forgetText, action: words.forget, command: `lantern secrets delete ${shell(name)} --only-version ${number}` },
    disable: { title: words.disableTitle(name, number), text: words.versionsText, action: words.disable, command: `lantern secrets disable ${shell(name)} ${number}` },
  }[doing.what];
  const last = doing.what !== "delete" && isLast(doing.version, secret.versions);
  return (
    <Confirm {...says} danger busy={act.isPending} error={act.error} onConfirm={() => act.mutate()} onClose={onClose}>
      {last && <p className="banner">{words.lastText}</p>}
      {doing.what === "delete" && uses.length > 0 && <p className="banner isolate">{words.deleteUsed(uses.join(", "))}</p>}
    </Confirm>
  );
}

// What can be done about a run, each beside the command that does the same.
import { useMutation, useQueryClient } from "@tanstack/react-query";
import { useNavigate } from "@tanstack/react-router";
import { useState } from "react";
import { type Run, post, remove } from "../api/client";
import { shell } from "../lib/format";
import type { Step } from "../lib/recorder";
import { typed } from "../lib/value";
import { m } from "../messages/en";
import { Confirm, Field, useToast } from "../ui/pieces";

export type Doing = { what: "cancel" | "pause" | "resume" | "signal" | "replay" | "fork" | "delete"; step?: string } | { what: "resolve"; step: string; happened: boolean };

export function RunAction({ run, steps, doing, onClose }: { run: Run; steps: Step[]; doing: Doing; onClose: () => void }) {
  const navigate = useNavigate();
  const client = useQueryClient();
  const toast = useToast();
  const [reason, setReason] = useState("");
  const [name, setName] = useState(() => steps.find((step) => step.type === "signal" && step.endedAt === undefined)?.name ?? "");
  const [value, setValue] = useState("");
  const top = steps.filter((step) => step.parent === undefined);
  // What the field shows first is what is sent. Only a run that failed knows by itself where.
  const [from, setFrom] = useState(doing.step ?? (run.status === "failed" ? "" : (top[0]?.id ?? "")));
  const path = { id: run.id };
  const act = useMutation({
    mutationFn: async (): Promise<string | undefined> => {
      switch (doing.what) {
        case "cancel":
          await post("/v1/runs/{id}/cancel", { path, body: { reason: reason || undefined } });
          return;
        case "pause":
          await post("/v1/runs/{id}/pause", { path });
          return;
        case "resume":
          await post("/v1/runs/{id}/resume", { path });
          return;
        case "signal":
          await post("/v1/runs/{id}/signals/{name}", { path: { ...path, name }, body: { value: typed(value) } });
          return;
        case "resolve":
          await post("/v1/runs/{id}/steps/{stepId}/resolve", { path: { ...path, stepId: doing.step }, body: { happened: doing.happened, output: typed(value) } });
          return;
        case "delete":
          await remove("/v1/runs/{id}", { path });
          return "";
        case "replay":
          return ((await post("/v1/runs/{id}/replay", { path, body: {} })) as Run).id;
        case "fork":
          return ((await post("/v1/runs/{id}/fork", { path, body: { fromStep: from || undefined } })) as Run).id;
      }
    },
    onSuccess: async (other) => {
      toast(m.run.done[doing.what]);
      onClose();
      if (other === "") await navigate({ to: "/runs" });
      else if (other) await navigate({ to: "/runs/$id", params: { id: other } });
      else await client.invalidateQueries({ queryKey: ["run", run.id] });
    },
  });
  const said = value.trim() ? ` --value ${shell(value.trim())}` : "";
  const shapes: Record<Doing["what"], { title: string; text?: string; action: string; command: string; danger?: boolean }> = {
    cancel: { title: m.run.cancelTitle, text: m.run.cancelText, action: m.run.actions.cancel, danger: true, command: `lantern runs cancel ${run.id}${reason ? ` --reason ${shell(reason)}` : ""}` },
    pause: { title: m.run.actions.pause, action: m.run.actions.pause, command: `lantern runs pause ${run.id}` },
    resume: { title: m.run.actions.resume, action: m.run.actions.resume, command: `lantern runs resume ${run.id}` },
    signal: { title: m.run.signalTitle, action: m.run.signalSend, command: `lantern runs signal ${run.id} ${shell(name || "NAME")}${said}` },
    replay: { title: m.run.replayTitle, text: m.run.replayText, action: m.run.actions.replay, command: `lantern runs replay ${run.id}` },
    fork: { title: m.run.forkTitle, text: m.run.forkText, action: m.run.actions.fork, command: `lantern runs fork ${run.id}${from ? ` --from ${shell(from)}` : ""}` },
    delete: { title: m.run.deleteTitle, text: m.run.deleteText, action: m.run.actions.delete, danger: true, command: `lantern runs delete ${run.id}` },
    resolve: {
      title: doing.what === "resolve" && doing.happened ? m.run.happened : m.run.notHappened,
      text: m.run.doubt,
      action: m.common.yes,
      command: `lantern runs resolve ${run.id} ${shell(doing.step ?? "")} --happened ${doing.what === "resolve" && doing.happened ? "yes" : "no"}`,
    },
  };
  const shape = shapes[doing.what];
  return (
    <Confirm {...shape} busy={act.isPending || (doing.what === "signal" && name === "")} error={act.error} onConfirm={() => act.mutate()} onClose={onClose}>
      {doing.what === "cancel" && (
        <Field label={m.run.cancelReason}>
          <input type="text" value={reason} onChange={(event) => setReason(event.target.value)} />
        </Field>
      )}
      {doing.what === "signal" && (
        <>
          <Field label={m.run.signalName}>
            <input type="text" required value={name} onChange={(event) => setName(event.target.value)} />
          </Field>
          <Field label={m.run.signalValue}>
            <textarea className="mono" value={value} onChange={(event) => setValue(event.target.value)} />
          </Field>
        </>
      )}
      {doing.what === "fork" && (
        <Field label={m.run.forkFrom}>
          <select value={from} onChange={(event) => setFrom(event.target.value)}>
            {run.status === "failed" && <option value="">{m.run.forkAtFailure}</option>}
            {top.map((step) => (
              <option key={step.id} value={step.id}>
                {step.id}
              </option>
            ))}
          </select>
        </Field>
      )}
    </Confirm>
  );
}

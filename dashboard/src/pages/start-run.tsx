// Starts a run: of which agent, on what, and what it may cost.
import { useMutation, useQuery } from "@tanstack/react-query";
import { useNavigate } from "@tanstack/react-router";
import { useState } from "react";
import { page, post } from "../api/client";
import { shell } from "../lib/format";
import { typed } from "../lib/value";
import { m } from "../messages/en";
import { ForecastPanel } from "../ui/forecast";
import { Confirm, Empty, Field } from "../ui/pieces";

export function StartRun({ agent: given, onClose }: { agent?: string; onClose: () => void }) {
  const navigate = useNavigate();
  const agents = useQuery({ queryKey: ["agents", "active"], queryFn: () => page("/v1/agents", { query: { limit: 200 } }) });
  const names = (agents.data?.items ?? []).map((agent) => agent.name);
  const [chosen, setAgent] = useState(given);
  const [input, setInput] = useState("");
  const [cost, setCost] = useState("");
  const agent = chosen ?? names[0] ?? "";
  const start = useMutation({
    mutationFn: () => post("/v1/runs", { body: { agentName: agent, input: typed(input), maxCostUsd: cost.trim() || undefined } }),
    onSuccess: (run) => navigate({ to: "/runs/$id", params: { id: (run as { id: string }).id } }),
  });
  const flags = [`--agent ${shell(agent)}`, ...(input.trim() ? [`--input ${shell(input.trim())}`] : []), ...(cost.trim() ? [`--max-cost-usd ${shell(cost.trim())}`] : [])];
  return (
    <Confirm
      title={m.runs.start}
      action={m.runs.create}
      command={agent ? `lantern runs create ${flags.join(" ")} --follow` : undefined}
      busy={start.isPending || agent === ""}
      error={start.error ?? agents.error}
      onConfirm={() => start.mutate()}
      onClose={onClose}
    >
      {agents.data && names.length === 0 && !given ? (
        <Empty title={m.agents.empty} hint={m.agents.emptyHint} command="lantern agents create --name helper --system 'You help.'" />
      ) : (
        <Field label={m.runs.agentLabel}>
          <select value={agent} onChange={(event) => setAgent(event.target.value)} disabled={given !== undefined}>
            {(given ? [given] : names).map((name) => (
              <option key={name}>{name}</option>
            ))}
          </select>
        </Field>
      )}
      <Field label={m.runs.input} hint={m.runs.inputHint}>
        <textarea className="mono" name="input" value={input} autoFocus onChange={(event) => setInput(event.target.value)} />
      </Field>
      <Field label={m.runs.maxCost}>
        <input type="text" name="maxCost" inputMode="decimal" value={cost} onChange={(event) => setCost(event.target.value)} />
      </Field>
      <ForecastPanel agent={agent} input={typed(input)} command={`lantern forecast ${shell(agent)}${input.trim() ? ` --input ${shell(input.trim())}` : ""}`} />
    </Confirm>
  );
}

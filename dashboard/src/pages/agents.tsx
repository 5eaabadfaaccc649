// What can be run, and the making of another.
import { useMutation, useQuery, useQueryClient } from "@tanstack/react-query";
import { Link, useNavigate, useSearch } from "@tanstack/react-router";
import { useState } from "react";
import { get, page, post } from "../api/client";
import { mayWrite, useMe } from "../app/session";
import { shell } from "../lib/format";
import { m } from "../messages/en";
import { Confirm, Empty, Failure, Field, Head, Loading, Status, Time, useTitle, useToast } from "../ui/pieces";

export function Agents() {
  useTitle(m.agents.title);
  const user = useMe();
  const navigate = useNavigate({ from: "/agents" });
  const { create, archived } = useSearch({ from: "/shell/agents" });
  const agents = useQuery({
    queryKey: ["agents", "list", archived],
    queryFn: ({ signal }) => page("/v1/agents", { query: { limit: 200, status: archived ? "all" : undefined }, signal }),
    refetchInterval: 10_000,
  });
  const items = agents.data?.items ?? [];
  const names = m.agents.columns;
  return (
    <div className="page">
      <Head title={m.agents.title} lead={m.agents.lead}>
        <label className="check">
          <input type="checkbox" checked={archived === "1"} onChange={(event) => void navigate({ search: event.target.checked ? { archived: "1" } : {}, replace: true })} />
          {m.agents.archivedToo}
        </label>
        {mayWrite(user) && (
          <button type="button" className="btn first" onClick={() => void navigate({ search: { create: "1" } })}>
            {m.agents.create}
          </button>
        )}
      </Head>
      <Failure error={agents.error} retry={() => void agents.refetch()} />
      {agents.isPending ? (
        <Loading />
      ) : (
        <div className="card">
          {items.length === 0 && !agents.error ? (
            <Empty title={m.agents.empty} hint={m.agents.emptyHint} command="lantern agents create --name helper --system 'You help.' --tool calc" />
          ) : (
            <table className="table" aria-label={m.agents.table}>
              <thead>
                <tr>
                  <th>{names.name}</th>
                  <th className="wide">{names.description}</th>
                  <th className="fit">{names.status}</th>
                  <th className="fit num">{names.updated}</th>
                </tr>
              </thead>
              <tbody>
                {items.map((agent) => (
                  <tr key={agent.id}>
                    <td className="cut isolate">
                      <Link to="/agents/$name" params={{ name: agent.name }}>
                        {agent.name}
                      </Link>
                    </td>
                    <td className="cut dim wide isolate">{agent.description}</td>
                    <td className="fit">
                      <Status of={agent.status} />
                    </td>
                    <td className="fit num dim">
                      <Time at={agent.updatedAt} />
                    </td>
                  </tr>
                ))}
              </tbody>
            </table>
          )}
        </div>
      )}
      {create && mayWrite(user) && <CreateAgent onClose={() => void navigate({ search: {} })} />}
    </div>
  );
}

export interface AgentForm {
  description: string;
  systemPrompt: string;
  model: string;
  tools: string[];
  maxCostUsd: string;
}

/** The fields that a new agent and a new version have in common. */
export function AgentFields({ form, set }: { form: AgentForm; set: (form: AgentForm) => void }) {
  const tools = useQuery({ queryKey: ["tools"], queryFn: ({ signal }) => get("/v1/tools", { signal }), staleTime: 300_000 });
  const words = m.agents.form;
  return (
    <>
      <Field label={words.description}>
        <input type="text" name="description" value={form.description} onChange={(event) => set({ ...form, description: event.target.value })} />
      </Field>
      <Field label={words.instructions}>
        <textarea name="instructions" rows={5} value={form.systemPrompt} onChange={(event) => set({ ...form, systemPrompt: event.target.value })} />
      </Field>
      <Field label={words.model} hint={words.modelHint}>
        <input type="text" name="model" value={form.model} onChange={(event) => set({ ...form, model: event.target.value })} />
      </Field>
      <fieldset className="field" style={{ border: 0, padding: 0, margin: 0 }}>
        <legend className="legend">{words.tools}</legend>
        <div className="checks">
          {(tools.data ?? []).map((tool) => (
            <label key={tool.name} className="check" title={tool.description}>
              <input
                type="checkbox"
                checked={form.tools.includes(tool.name)}
                onChange={(event) => set({ ...form, tools: event.target.checked ? [...form.tools, tool.name] : form.tools.filter((name) => name !== tool.name) })}
              />
              <span className="mono">{tool.name}</span>
            </label>
          ))}
        </div>
      </fieldset>
      <Field label={words.maxCost}>
        <input type="text" name="maxCost" inputMode="decimal" value={form.maxCostUsd} onChange={(event) => set({ ...form, maxCostUsd: event.target.value })} />
      </Field>
    </>
  );
}

export function agentBody(form: AgentForm) {
  return {
    description: form.description || undefined,
    systemPrompt: form.systemPrompt || undefined,
    model: form.model.trim() || undefined,
    tools: form.tools,
    maxCostUsd: form.maxCostUsd.trim() || undefined,
  };
}

function CreateAgent({ onClose }: { onClose: () => void }) {
  const navigate = useNavigate();
  const client = useQueryClient();
  const toast = useToast();
  const [name, setName] = useState("");
  const [form, setForm] = useState<AgentForm>({ description: "", systemPrompt: "", model: "auto", tools: [], maxCostUsd: "" });
  const create = useMutation({
    mutationFn: () => post("/v1/agents", { body: { name, ...agentBody(form) } }),
    onSuccess: async () => {
      toast(m.agents.form.created);
      await client.invalidateQueries({ queryKey: ["agents"] });
      await navigate({ to: "/agents/$name", params: { name } });
    },
  });
  const flags = [
    `--name ${shell(name || "NAME")}`,
    ...(form.description ? [`--description ${shell(form.description)}`] : []),
    ...(form.systemPrompt ? [`--system ${shell(form.systemPrompt)}`] : []),
    ...(form.model.trim() && form.model !== "auto" ? [`--model ${shell(form.model.trim())}`] : []),
    ...form.tools.map((tool) => `--tool ${tool}`),
  ];
  return (
    <Confirm
      title={m.agents.form.title}
      action={m.agents.form.create}
      command={`lantern agents create ${flags.join(" ")}`}
      busy={create.isPending || name === ""}
      error={create.error}
      onConfirm={() => create.mutate()}
      onClose={onClose}
    >
      <Field label={m.agents.form.name} hint={m.agents.form.nameHint}>
        <input type="text" name="name" required autoFocus autoComplete="off" value={name} onChange={(event) => setName(event.target.value)} />
      </Field>
      <AgentFields form={form} set={setForm} />
    </Confirm>
  );
}

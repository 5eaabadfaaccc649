// One agent: its versions and what differs between them, its manifest, its runs, and the next version.
import * as Tabs from "@radix-ui/react-tabs";
import { useMutation, useQuery, useQueryClient } from "@tanstack/react-query";
import { Link, useNavigate, useParams, useSearch } from "@tanstack/react-router";
import { useState } from "react";
import { type Agent, type AgentVersionSummary, get, page, patch, post, remove } from "../api/client";
import { mayWrite, useMe } from "../app/session";
import { pretty, shell } from "../lib/format";
import { diffLines } from "../lib/value";
import { m } from "../messages/en";
import { Command, Confirm, Empty, Failure, Head, Loading, SameCommand, Status, Time, useTitle, useToast } from "../ui/pieces";
import { AgentBudget } from "./agent-budget";
import { AgentFields, type AgentForm, agentBody } from "./agents";
import { StartRun } from "./start-run";

type Manifest = Agent & { systemPrompt?: string; model?: string; tools?: unknown[]; maxCostUsd?: number; program?: string };

export function AgentPage() {
  const { name } = useParams({ from: "/shell/agents/$name" });
  const { tab } = useSearch({ from: "/shell/agents/$name" });
  useTitle(name);
  const navigate = useNavigate({ from: "/agents/$name" });
  const client = useQueryClient();
  const toast = useToast();
  const may = mayWrite(useMe());
  const [asked, setAsked] = useState<"start" | "archive">();
  const agent = useQuery({ queryKey: ["agents", "one", name], queryFn: ({ signal }) => get("/v1/agents/{name}", { path: { name }, signal }) });
  const after = async (words: string) => {
    toast(words);
    setAsked(undefined);
    await client.invalidateQueries({ queryKey: ["agents"] });
  };
  const archive = useMutation({ mutationFn: () => remove("/v1/agents/{name}", { path: { name } }), onSuccess: () => after(m.agents.archived) });
  const restore = useMutation({ mutationFn: () => post("/v1/agents/{name}/restore", { path: { name } }), onSuccess: () => after(m.agents.restored) });
  if (agent.isPending) return <Loading />;
  if (!agent.data) {
    return (
      <div className="page">
        <Head title={name} />
        <Failure error={agent.error} retry={() => void agent.refetch()} />
      </div>
    );
  }
  const manifest = agent.data as Manifest;
  const active = manifest.status === "active";
  return (
    <div className="page">
      <Head
        crumb={<Link to="/agents">{m.agents.title}</Link>}
        title={
          <span className="row">
            <span className="isolate">{name}</span> <span className="tag">{m.agents.version(manifest.version)}</span> {!active && <Status of={manifest.status} />}
          </span>
        }
        lead={manifest.description && <span className="isolate">{manifest.description}</span>}
      >
        {may && active && (
          <>
            <button type="button" className="btn danger" onClick={() => setAsked("archive")}>
              {m.agents.archive}
            </button>
            <Link to="/sessions" search={{ begin: "1", agent: name }} className="btn">
              {m.agents.chat}
            </Link>
            <button type="button" className="btn first" onClick={() => setAsked("start")}>
              {m.agents.start}
            </button>
          </>
        )}
        {may && !active && (
          <button type="button" className="btn first" disabled={restore.isPending} onClick={() => restore.mutate()}>
            {m.agents.restore}
          </button>
        )}
      </Head>
      <Failure error={restore.error} />
      {may && !active && <SameCommand line={`lantern agents restore ${shell(name)}`} />}
      <Tabs.Root value={tab ?? "manifest"} onValueChange={(next) => void navigate({ search: next === "manifest" ? {} : { tab: next }, replace: true })} className="stack">
        <Tabs.List className="tabs" aria-label={name}>
          {(["manifest", "versions", "runs", "budget", ...(may && active ? ["edit" as const] : [])] as const).map((one) => (
            <Tabs.Trigger key={one} value={one} className="tab">
              {m.agents.tabs[one]}
            </Tabs.Trigger>
          ))}
        </Tabs.List>
        <Tabs.Content value="manifest" tabIndex={-1}>
          <Shown name={name} manifest={manifest} />
        </Tabs.Content>
        <Tabs.Content value="versions" tabIndex={-1}>
          <Versions name={name} may={may && active} />
        </Tabs.Content>
        <Tabs.Content value="runs" tabIndex={-1}>
          <LastRuns name={name} />
        </Tabs.Content>
        <Tabs.Content value="budget" tabIndex={-1}>
          <AgentBudget name={name} />
        </Tabs.Content>
        <Tabs.Content value="edit" tabIndex={-1}>
          <Edit key={manifest.version} name={name} manifest={manifest} />
        </Tabs.Content>
      </Tabs.Root>
      {asked === "start" && <StartRun agent={name} onClose={() => setAsked(undefined)} />}
      {asked === "archive" && (
        <Confirm
          title={m.agents.archiveTitle}
          text={m.agents.archiveText}
          action={m.agents.archive}
          command={`lantern agents archive ${shell(name)}`}
          danger
          busy={archive.isPending}
          error={archive.error}
          onConfirm={() => archive.mutate()}
          onClose={() => setAsked(undefined)}
        />
      )}
    </div>
  );
}

/** What a version says, without what is the agent's. */
function Shown({ name, manifest }: { name: string; manifest: Manifest }) {
  const own = new Set(["id", "tenantId", "name", "createdAt", "updatedAt", "createdBy", "status", "currentVersionId", "version", "digest", "labels", "warnings", "archivedAt"]);
  const said = Object.fromEntries(Object.entries(manifest).filter(([key, value]) => !own.has(key) && value !== null));
  return (
    <div className="stack">
      <section className="card">
        <header>
          <h2>{m.agents.version(manifest.version)}</h2>
          <span className="mono dim cut">{manifest.digest}</span>
        </header>
        <div className="in">
          <pre className="block" tabIndex={0}>{pretty(said)}</pre>
        </div>
      </section>
      <SameCommand line={`lantern agents get ${shell(name)}`} />
    </div>
  );
}

function Versions({ name, may }: { name: string; may: boolean }) {
  const { version } = useSearch({ from: "/shell/agents/$name" });
  const navigate = useNavigate({ from: "/agents/$name" });
  const versions = useQuery({ queryKey: ["agents", "versions", name], queryFn: ({ signal }) => page("/v1/agents/{name}/versions", { path: { name }, query: { limit: 200 }, signal }) });
  const items = versions.data?.items ?? [];
  const picked = items.find((one) => String(one.number) === version) ?? items[0];
  const before = items.find((one) => picked && one.number < picked.number);
  if (versions.isPending) return <Loading />;
  return (
    <div className="versions">
      <Failure error={versions.error} />
      <div className="card">
        {items.map((one) => (
          <button
            key={one.id}
            type="button"
            className="pick"
            aria-pressed={one === picked}
            onClick={() => void navigate({ search: { tab: "versions", version: String(one.number) }, replace: true })}
          >
            <span>{m.agents.version(one.number)}</span>
            {one.current && <span className="tag accent">{m.agents.current}</span>}
            <span className="grow" />
            <span className="dim">
              <Time at={one.createdAt} />
            </span>
          </button>
        ))}
      </div>
      {picked && <Difference name={name} from={before} to={picked} may={may} />}
    </div>
  );
}

function Difference({ name, from, to, may }: { name: string; from?: AgentVersionSummary; to: AgentVersionSummary; may: boolean }) {
  const client = useQueryClient();
  const toast = useToast();
  const diff = useQuery({
    queryKey: ["agents", "diff", name, from?.id, to.id],
    queryFn: ({ signal }) => get("/v1/agents/{name}/versions/{version}/diff/{other}", { path: { name, version: String(from?.number), other: String(to.number) }, signal }),
    enabled: from !== undefined,
    staleTime: Number.POSITIVE_INFINITY,
  });
  const promote = useMutation({
    mutationFn: () => post("/v1/agents/{name}/versions/{version}/promote", { path: { name, version: String(to.number) } }),
    onSuccess: async () => {
      toast(m.agents.promoted);
      await client.invalidateQueries({ queryKey: ["agents"] });
    },
  });
  const lines = diffLines(diff.data?.text ?? "");
  return (
    <section className="card">
      <header>
        <h2>{from ? m.agents.diff(from.number, to.number) : m.agents.version(to.number)}</h2>
        {may && !to.current && (
          <button type="button" className="btn small" disabled={promote.isPending} onClick={() => promote.mutate()}>
            {m.agents.promote}
          </button>
        )}
      </header>
      <div className="in stack">
        <Failure error={diff.error ?? promote.error} />
        {!from && <p className="note">{m.agents.diffFirst}</p>}
        {diff.data && lines.length === 0 && <p className="note">{m.agents.noChange}</p>}
        {lines.length > 0 && (
          <div className="diff" tabIndex={0} role="group" aria-label={from && m.agents.diff(from.number, to.number)}>
            {lines.map((line, index) => (
              <div key={index} className={line.kind}>
                {line.text}
              </div>
            ))}
          </div>
        )}
        {from && <SameCommand line={`lantern agents diff ${shell(name)} ${from.number} ${to.number}`} />}
        {may && !to.current && <SameCommand line={`lantern agents promote ${shell(name)} ${to.number}`} />}
      </div>
    </section>
  );
}

function LastRuns({ name }: { name: string }) {
  const runs = useQuery({ queryKey: ["runs", "agent", name], queryFn: ({ signal }) => page("/v1/agents/{name}/runs", { path: { name }, query: { limit: 20 }, signal }), refetchInterval: 4_000 });
  const items = runs.data?.items ?? [];
  return (
    <section className="card">
      <header>
        <h2>{m.home.recent}</h2>
        <Link to="/runs" search={{ agent: name }}>
          {m.home.allRuns}
        </Link>
      </header>
      <Failure error={runs.error} />
      {runs.data && items.length === 0 && <Empty title={m.runs.empty} hint={m.runs.emptyHint} command={`lantern runs create --agent ${shell(name)} --follow`} />}
      <ul className="items">
        {items.map((run) => (
          <li key={run.id}>
            <Status of={run.status} />
            <Link to="/runs/$id" params={{ id: run.id }} className="mono cut grow">
              {run.id}
            </Link>
            <span className="when">
              <Time at={run.createdAt} />
            </span>
          </li>
        ))}
      </ul>
    </section>
  );
}

function Edit({ name, manifest }: { name: string; manifest: Manifest }) {
  const client = useQueryClient();
  const toast = useToast();
  const tool = (one: unknown) => (typeof one === "string" ? one : String((one as { name?: unknown }).name ?? ""));
  const [form, setForm] = useState<AgentForm>({
    description: manifest.description ?? "",
    systemPrompt: manifest.systemPrompt ?? "",
    model: manifest.model ?? "auto",
    tools: (manifest.tools ?? []).map(tool),
    maxCostUsd: manifest.maxCostUsd === undefined ? "" : String(manifest.maxCostUsd),
  });
  const save = useMutation({
    mutationFn: () => patch("/v1/agents/{name}", { path: { name }, body: agentBody(form) }),
    onSuccess: async (changed) => {
      toast(m.agents.form.saved(changed.version));
      await client.invalidateQueries({ queryKey: ["agents"] });
    },
  });
  // What a form would lose is left to the file that said it.
  const richer = manifest.program === "steps" || (manifest.tools ?? []).some((one) => typeof one !== "string");
  if (richer) {
    return (
      <div className="card in stack">
        <p className="note">{m.agents.stepsHint}</p>
        <Command line={`lantern agents edit ${shell(name)}`} />
      </div>
    );
  }
  return (
    <form
      className="card in stack"
      onSubmit={(event) => {
        event.preventDefault();
        save.mutate();
      }}
    >
      <AgentFields form={form} set={setForm} />
      <Failure error={save.error} />
      <SameCommand line={`lantern agents edit ${shell(name)}`} />
      <div className="formfoot">
        <button type="submit" className="btn first" disabled={save.isPending}>
          {m.agents.form.save}
        </button>
      </div>
    </form>
  );
}

// A run as a flight recorder: what it did, when, for how much, and what is to be decided about it now.
import * as Menu from "@radix-ui/react-dropdown-menu";
import * as Tabs from "@radix-ui/react-tabs";
import { useQuery, useQueryClient } from "@tanstack/react-query";
import { Link, useNavigate, useParams, useSearch } from "@tanstack/react-router";
import { useEffect, useState } from "react";
import { type Run, get } from "../api/client";
import { type Link as Lifeline, follow } from "../api/follow";
import { mayWrite, useMe } from "../app/session";
import { count, money } from "../lib/format";
import { type Recorded, type RunEvent, budgetAsks, nothing, record } from "../lib/recorder";
import { m } from "../messages/en";
import { Body } from "../ui/block";
import { Failure, Head, Loading, Status, Time, useTitle } from "../ui/pieces";
import { AskCard, useApprovals } from "./ask";
import { Events } from "./run-events";
import { type Doing, RunAction } from "./run-actions";
import { RunCompare } from "./run-compare";
import { RunReceipt } from "./run-receipt";
import { StepDetail } from "./run-step";
import { Timeline } from "./run-timeline";
import { Took } from "./runs";

const OVER = new Set(["succeeded", "failed", "cancelled"]);

/** Follows a run's events for as long as its page is open. */
function useRecorder(id: string): { recorded: Recorded; link: Lifeline; trouble: unknown } {
  const [state, setState] = useState({ id, recorded: nothing() });
  const [link, setLink] = useState<{ link: Lifeline; trouble?: unknown }>({ link: "connecting" });
  useEffect(() => {
    setState({ id, recorded: nothing() });
    // What comes between two frames of the screen is taken in at once, however much it is.
    let waiting: RunEvent[] = [];
    let frame = 0;
    const take = () => {
      frame = 0;
      const events = waiting;
      waiting = [];
      setState((before) => ({ id, recorded: record(before.id === id ? before.recorded : nothing(), events) }));
    };
    const stop = follow(`/v1/runs/${encodeURIComponent(id)}/events`, {
      onFrames: (frames) => {
        for (const one of frames) {
          try {
            const event = JSON.parse(one.data) as RunEvent;
            waiting.push({ ...event, kind: event.kind ?? one.event ?? "", data: event.data ?? {} });
          } catch {
            // A frame that is no JSON is none of ours.
          }
        }
        frame ||= requestAnimationFrame(take);
      },
      onLink: (next, trouble) => setLink({ link: next, trouble }),
      isLast: (one) => one.event === "end",
    });
    return () => {
      stop();
      cancelAnimationFrame(frame);
    };
  }, [id]);
  return { recorded: state.recorded, link: link.link, trouble: link.trouble };
}

export function RunPage() {
  const { id } = useParams({ from: "/shell/runs/$id" });
  const { tab, step, with: other } = useSearch({ from: "/shell/runs/$id" });
  const navigate = useNavigate({ from: "/runs/$id" });
  const client = useQueryClient();
  const user = useMe();
  const { recorded, link, trouble } = useRecorder(id);
  const [doing, setDoing] = useState<Doing>();
  const run = useQuery({
    queryKey: ["run", id],
    queryFn: ({ signal }) => get("/v1/runs/{id}", { path: { id }, signal }),
    refetchInterval: (query) => (query.state.data && OVER.has(query.state.data.status) ? false : 5_000),
  });
  const asks = useApprovals(id, run.data?.status === "paused", budgetAsks(recorded));
  // The row follows the journal: what an event changed is asked for again.
  const last = recorded.events.at(-1)?.seq;
  useEffect(() => {
    if (last === undefined && link !== "over") return;
    const timer = setTimeout(() => void client.invalidateQueries({ queryKey: ["run", id] }), 120);
    return () => clearTimeout(timer);
  }, [client, id, last, link]);
  useTitle(run.data ? m.run.title(run.data.agentName) : m.runs.title);
  if (run.isPending) return <Loading />;
  if (!run.data) {
    return (
      <div className="page">
        <Head title={m.runs.title} />
        <Failure error={run.error} retry={() => void run.refetch()} />
      </div>
    );
  }
  // Of a run that failed, the step at which it did is what one comes for.
  const chosen = step ?? run.data.error?.stepId ?? undefined;
  const picked = chosen === undefined ? undefined : recorded.steps.get(chosen);
  const pick = (name: string | undefined) => void navigate({ search: (before) => ({ ...before, step: name }), replace: true });
  const may = mayWrite(user);
  return (
    <div className="page wide">
      <Head
        crumb={<Link to="/runs">{m.runs.title}</Link>}
        title={<span className="isolate">{run.data.agentName}</span>}
        lead={<span className="mono">{run.data.id}</span>}
      >
        <LinkState link={link} />
        {may && <Actions run={run.data} paused={recorded.paused} act={setDoing} />}
      </Head>
      <Failure error={trouble} />
      <Facts run={run.data} recorded={recorded} />
      {run.data.parkedReason && <p className="banner">{m.run.parked(run.data.parkedReason)}</p>}
      {run.data.error && (
        <div className="error">
          <strong>{m.run.error}</strong>
          <p className="text">{run.data.error.message}</p>
          <div className="meta">
            <code>{run.data.error.code}</code>
            {run.data.error.stepId && <span className="mono">{run.data.error.stepId}</span>}
          </div>
        </div>
      )}
      {asks.length > 0 && (
        <section className="card" aria-label={m.run.waits}>
          {asks.map((ask) => (
            <AskCard key={ask.id} ask={ask} may={may} inRun={id} />
          ))}
        </section>
      )}
      <Tabs.Root value={tab ?? "timeline"} onValueChange={(next) => void navigate({ search: (before) => ({ ...before, tab: next === "timeline" ? undefined : next }), replace: true })} className="stack">
        <Tabs.List className="tabs" aria-label={m.run.title(run.data.agentName)}>
          {(["timeline", "input", "receipt", "compare", "events"] as const).map((name) => (
            <Tabs.Trigger key={name} value={name} className="tab">
              {m.run.tabs[name]} {name === "events" && <span className="dim">{count(recorded.events.length)}</span>}
            </Tabs.Trigger>
          ))}
        </Tabs.List>
        <Tabs.Content value="timeline" className="recorder" tabIndex={-1}>
          <Timeline recorded={recorded} picked={chosen} pick={pick} />
          <section className="card detail" aria-label={m.run.detail}>
            {picked ? (
              <StepDetail run={run.data} recorded={recorded} step={picked} may={may} act={setDoing} />
            ) : (
              <p className="in note">{m.run.pick}</p>
            )}
          </section>
        </Tabs.Content>
        <Tabs.Content value="input" tabIndex={-1}>
          <Contents run={run.data} />
        </Tabs.Content>
        <Tabs.Content value="receipt" tabIndex={-1}>
          <RunReceipt run={run.data} over={OVER.has(run.data.status)} />
        </Tabs.Content>
        <Tabs.Content value="compare" tabIndex={-1}>
          <RunCompare run={run.data} other={other} choose={(id) => void navigate({ search: (before) => ({ ...before, with: id }) })} />
        </Tabs.Content>
        <Tabs.Content value="events" tabIndex={-1}>
          <Events recorded={recorded} />
        </Tabs.Content>
      </Tabs.Root>
      {doing && <RunAction run={run.data} steps={[...recorded.steps.values()]} doing={doing} onClose={() => setDoing(undefined)} />}
    </div>
  );
}

function LinkState({ link }: { link: Lifeline }) {
  const tone = { connecting: "off", live: "live", recovering: "asks", over: "good" }[link];
  return (
    <span className={`status ${tone}`} role="status" data-link={link}>
      {m.run.link[link]}
    </span>
  );
}

function Facts({ run, recorded }: { run: Run; recorded: Recorded }) {
  const labels = Object.entries((run.labels ?? {}) as Record<string, string>);
  const fork = run.forkedFrom;
  return (
    <dl className="card strip">
      <div>
        <dt>{m.run.facts.status}</dt>
        <dd>
          <Status of={run.status} />
        </dd>
      </div>
      <div>
        <dt>{m.run.facts.took}</dt>
        <dd>
          <Took run={run} />
        </dd>
      </div>
      <div>
        <dt>{m.run.facts.cost}</dt>
        <dd>
          {money(run.costUsd)} {recorded.capUsd !== undefined && <span className="dim">{m.run.facts.cap(money(recorded.capUsd))}</span>}
          {run.heldUsd > 0 && <span className="dim">{`, ${money(run.heldUsd)} ${m.run.facts.held}`}</span>}
        </dd>
      </div>
      <div>
        <dt>{m.run.facts.tokens}</dt>
        <dd>
          {count(run.tokensIn)} → {count(run.tokensOut)}
        </dd>
      </div>
      <div>
        <dt>{m.run.facts.started}</dt>
        <dd>
          <Time at={run.createdAt} />
        </dd>
      </div>
      <div>
        <dt>{m.run.facts.trigger}</dt>
        <dd>{m.run.trigger[run.triggerKind] ?? run.triggerKind}</dd>
      </div>
      {run.sessionId && (
        <div>
          <dt>{m.run.facts.session}</dt>
          <dd>
            <Link to="/sessions/$id" params={{ id: run.sessionId }} className="mono">
              {run.sessionId.slice(0, 13)}…
            </Link>
          </dd>
        </div>
      )}
      {(
        [
          [m.run.facts.parent, run.parentRunId],
          [fork?.replay ? m.run.facts.replayOf : m.run.facts.forkedFrom, fork?.runId],
          [m.run.facts.continuedAs, run.continuedAs],
        ] as const
      ).map(
        ([name, other]) =>
          other && (
            <div key={name}>
              <dt>{name}</dt>
              <dd>
                <Link to="/runs/$id" params={{ id: other }} className="mono">
                  {other.slice(0, 13)}…
                </Link>
              </dd>
            </div>
          ),
      )}
      {labels.length > 0 && (
        <div>
          <dt>{m.run.facts.labels}</dt>
          <dd className="row wrap">
            {labels.map(([key, value]) => (
              <span key={key} className="tag isolate">{`${key}: ${value}`}</span>
            ))}
          </dd>
        </div>
      )}
    </dl>
  );
}

function Contents({ run }: { run: Run }) {
  if (run.contentRemovedAt) {
    return (
      <p className="card in note">
        {m.run.removed} <Time at={run.contentRemovedAt} />
      </p>
    );
  }
  const output = run.output as { result?: unknown } | undefined | null;
  return (
    <div className="grid two">
      <section className="card">
        <header>
          <h2>{m.run.output}</h2>
        </header>
        <div className="in stack tight">
          {output === undefined || output === null ? <p className="note">{m.run.noOutput}</p> : <Body value={output.result ?? output} />}
        </div>
      </section>
      <section className="card">
        <header>
          <h2>{m.run.input}</h2>
        </header>
        <div className="in stack tight">
          <Body value={run.input ?? null} />
        </div>
      </section>
    </div>
  );
}

function Actions({ run, paused, act }: { run: Run; paused: boolean; act: (doing: Doing) => void }) {
  const over = OVER.has(run.status);
  return (
    <>
      {!over && (
        <>
          <button type="button" className="btn" onClick={() => act({ what: paused ? "resume" : "pause" })}>
            {paused ? m.run.actions.resume : m.run.actions.pause}
          </button>
          <button type="button" className="btn danger" onClick={() => act({ what: "cancel" })}>
            {m.run.actions.cancel}
          </button>
        </>
      )}
      {over && (
        <button type="button" className="btn" onClick={() => act({ what: "replay" })}>
          {m.run.actions.replay}
        </button>
      )}
      <Menu.Root modal={false}>
        <Menu.Trigger className="btn">{m.run.actions.more}</Menu.Trigger>
        <Menu.Portal>
          <Menu.Content className="menu" align="end" sideOffset={6} collisionPadding={8}>
            {!over && <Menu.Item onSelect={() => act({ what: "signal" })}>{m.run.actions.signal}</Menu.Item>}
            {over && <Menu.Item onSelect={() => act({ what: "fork" })}>{m.run.actions.fork}</Menu.Item>}
            {over && <Menu.Item onSelect={() => act({ what: "delete" })}>{m.run.actions.delete}</Menu.Item>}
          </Menu.Content>
        </Menu.Portal>
      </Menu.Root>
    </>
  );
}

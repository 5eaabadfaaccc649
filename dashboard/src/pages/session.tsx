// A conversation: what was said, the answer as it comes, and the tools that it calls on the way.
import { useMutation, useQuery } from "@tanstack/react-query";
import { Link, useParams } from "@tanstack/react-router";
import { useEffect, useRef, useState } from "react";
import { get, post } from "../api/client";
import { type Link as Lifeline, follow } from "../api/follow";
import { mayWrite, useMe } from "../app/session";
import { type ChatFrame, type Conversation, type Said, type ToolUse, hear, silence } from "../lib/chat";
import { shell } from "../lib/format";
import { m } from "../messages/en";
import { Confirm, Failure, Head, Loading, SameCommand, Time, useTitle } from "../ui/pieces";
import { AskCard, useApprovals } from "./ask";

function useConversation(id: string): { talk: Conversation; link: Lifeline; trouble: unknown } {
  const [talk, setTalk] = useState(silence);
  const [link, setLink] = useState<{ link: Lifeline; trouble?: unknown }>({ link: "connecting" });
  useEffect(() => {
    setTalk(silence());
    return follow(`/v1/sessions/${encodeURIComponent(id)}/events`, {
      onFrames: (frames) => {
        const said: ChatFrame[] = [];
        for (const one of frames) {
          try {
            said.push({ ...(JSON.parse(one.data) as ChatFrame), id: one.id });
          } catch {
            // A frame that is no JSON is none of ours.
          }
        }
        setTalk((before) => hear(before, said));
      },
      onLink: (next, trouble) => setLink({ link: next, trouble }),
      isLast: (one) => one.data.includes('"type":"session.stopped"'),
    });
  }, [id]);
  return { talk, link: link.link, trouble: link.trouble };
}

export function SessionPage() {
  const { id } = useParams({ from: "/shell/sessions/$id" });
  const may = mayWrite(useMe());
  const session = useQuery({ queryKey: ["session", id], queryFn: ({ signal }) => get("/v1/sessions/{id}", { path: { id }, query: { limit: 1 }, signal }) });
  const { talk, link, trouble } = useConversation(id);
  const [ending, setEnding] = useState(false);
  const asks = useApprovals(talk.working ?? "", talk.working !== undefined && talk.doing === "waiting", []);
  useTitle(session.data?.agentName ?? m.sessions.title);
  const end = useMutation({
    mutationFn: () => post("/v1/sessions/{id}/stop", { path: { id } }),
    onSuccess: async () => {
      setEnding(false);
      await session.refetch();
    },
  });
  if (session.isPending) return <Loading />;
  if (!session.data) {
    return (
      <div className="page">
        <Head title={m.sessions.title} />
        <Failure error={session.error} retry={() => void session.refetch()} />
      </div>
    );
  }
  const stopped = talk.stopped || session.data.status === "stopped";
  return (
    <div className="page full">
      <Head crumb={<Link to="/sessions">{m.sessions.title}</Link>} title={<span className="isolate">{session.data.agentName}</span>} lead={<span className="mono">{id}</span>}>
        {link === "recovering" && (
          <span className="status asks" role="status">
            {m.run.link.recovering}
          </span>
        )}
        {may && !stopped && (
          <button type="button" className="btn danger" onClick={() => setEnding(true)}>
            {m.sessions.stop}
          </button>
        )}
      </Head>
      <Failure error={trouble} />
      <section className="card chat" aria-label={m.sessions.chat}>
        <Messages talk={talk} />
        {asks.map((ask) => (
          <AskCard key={ask.id} ask={ask} may={may} inRun={ask.runId} />
        ))}
        {stopped ? <p className="in note composer">{m.sessions.stoppedNote}</p> : may && <Composer id={id} working={talk.working} />}
      </section>
      {ending && (
        <Confirm
          title={m.sessions.stopTitle}
          text={m.sessions.stopText}
          action={m.sessions.stop}
          command={`lantern sessions stop ${id}`}
          danger
          busy={end.isPending}
          error={end.error}
          onConfirm={() => end.mutate()}
          onClose={() => setEnding(false)}
        />
      )}
    </div>
  );
}

function Messages({ talk }: { talk: Conversation }) {
  const list = useRef<HTMLOListElement>(null);
  const follows = useRef(true);
  useEffect(() => {
    // New words are followed by whoever reads at the end, and disturb nobody who reads above.
    if (follows.current) list.current?.scrollTo(0, list.current.scrollHeight);
  }, [talk]);
  const last = talk.said.at(-1);
  const silent = talk.working !== undefined && !(last?.role === "assistant" && last.text !== "");
  return (
    <ol
      className="said"
      ref={list}
      tabIndex={0}
      aria-label={m.sessions.chat}
      onScroll={({ currentTarget: box }) => {
        follows.current = box.scrollHeight - box.scrollTop - box.clientHeight < 60;
      }}
    >
      {talk.said.length === 0 && <li className="note">{m.sessions.empties}</li>}
      {talk.said.map((said) => (
        <Message key={said.key} said={said} />
      ))}
      {silent && (
        <li className="note" role="status">
          <span className={`status ${talk.doing === "waiting" ? "asks" : "live"}`}>{talk.doing === "waiting" ? m.sessions.waiting : m.sessions.thinking}</span>
        </li>
      )}
    </ol>
  );
}

function Message({ said }: { said: Said }) {
  return (
    <li className={said.role}>
      {said.tools.length > 0 && (
        <div className="calls-made">
          {said.tools.map((tool) => (
            <Tool key={tool.step} tool={tool} />
          ))}
        </div>
      )}
      {said.text !== "" && <div className="text">{said.text}</div>}
      {said.failed !== undefined && <p className="error text">{m.sessions.failed(said.failed)}</p>}
      {said.cancelled && <p className="note">{m.sessions.cancelled}</p>}
      <div className="who-said">
        {said.role === "user" && <span>{m.sessions.you}</span>}
        {said.at && <Time at={said.at} />}
        {said.role === "assistant" && said.runId && (
          <Link to="/runs/$id" params={{ id: said.runId }}>
            {m.sessions.openRun}
          </Link>
        )}
      </div>
    </li>
  );
}

function Tool({ tool }: { tool: ToolUse }) {
  return (
    <details>
      <summary>
        <span className="dim">{m.sessions.tool[tool.status]}</span> <span className="mono isolate">{tool.name}</span>
      </summary>
      <pre className="block" tabIndex={0}>{[tool.args, tool.result ?? tool.error].filter(Boolean).join("\n\n")}</pre>
    </details>
  );
}

function Composer({ id, working }: { id: string; working?: string }) {
  const [text, setText] = useState("");
  const send = useMutation({
    mutationFn: (content: string) => post("/v1/sessions/{id}/messages", { path: { id }, body: { content } }),
    onMutate: () => setText(""),
    onError: (_, content) => setText(content),
  });
  const halt = useMutation({ mutationFn: (run: string) => post("/v1/runs/{id}/cancel", { path: { id: run }, body: {} }) });
  const ready = text.trim() !== "" && !send.isPending;
  const go = () => ready && send.mutate(text);
  return (
    <form
      className="composer"
      onSubmit={(event) => {
        event.preventDefault();
        go();
      }}
    >
      <Failure error={send.error ?? halt.error} />
      <label className="sr" htmlFor="message">
        {m.sessions.message}
      </label>
      <textarea
        id="message"
        rows={2}
        placeholder={m.sessions.placeholder}
        value={text}
        onChange={(event) => setText(event.target.value)}
        onKeyDown={(event) => {
          if (event.key !== "Enter" || event.shiftKey || event.nativeEvent.isComposing) return;
          event.preventDefault();
          go();
        }}
      />
      <div className="row between wrap">
        <span className="hint">{m.sessions.keys}</span>
        <span className="row">
          {working !== undefined && (
            <button type="button" className="btn" disabled={halt.isPending} onClick={() => halt.mutate(working)}>
              {m.sessions.interrupt}
            </button>
          )}
          <button type="submit" className="btn first" disabled={!ready}>
            {m.sessions.send}
          </button>
        </span>
      </div>
      <SameCommand line={working === undefined ? `lantern sessions send ${id} ${shell(text.trim() || "hello")} --follow` : `lantern runs cancel ${working}`} />
    </form>
  );
}

// One step: what it asked, what came back, what it cost, and what went wrong on the way.
import { Link } from "@tanstack/react-router";
import { clock, count, duration, exact, money } from "../lib/format";
import type { Run } from "../api/client";
import type { Recorded, Step } from "../lib/recorder";
import { typed } from "../lib/value";
import { m } from "../messages/en";
import { type Fact, Facts } from "../ui/facts";
import { Block } from "../ui/block";
import { useNow } from "../ui/pieces";
import type { Doing } from "./run-actions";
import { Prompt } from "./run-prompt";

export function StepDetail({ run, recorded, step, may, act }: { run: Run; recorded: Recorded; step: Step; may: boolean; act: (doing: Doing) => void }) {
  const words = m.run.step;
  const now = useNow();
  const began = new Date(step.startedAt).toISOString();
  const model = [step.provider, step.model].filter(Boolean).join("/");
  const facts: Fact[] = [
    [words.began, <span title={exact(began)}>{clock(began)}</span>],
    [words.took, duration(Math.max(0, (step.endedAt ?? now) - step.startedAt))],
  ];
  const turn = (step.asked as { turn?: unknown } | undefined)?.turn;
  if (step.type === "llm" && typeof turn === "number") facts.push([words.turn, String(turn)]);
  if (model) facts.push([words.model, model]);
  if (step.tokensIn + step.tokensOut > 0) facts.push([words.tokens, `${count(step.tokensIn)} → ${count(step.tokensOut)}`]);
  if (step.costUsd > 0 || step.type === "llm") facts.push([words.cost, money(step.costUsd)]);
  if (step.heldUsd > 0) facts.push([words.held, money(step.heldUsd)]);
  if (step.effect) facts.push([words.effect, step.effect]);
  if (step.attempt > 1) facts.push([words.attempt, String(step.attempt)]);
  if (step.finish) facts.push([words.finish, step.finish]);
  if (step.due && step.endedAt === undefined) facts.push([words.due, <span title={exact(step.due)}>{clock(step.due)}</span>]);
  if (step.decidedBy) facts.push([words.decided, step.decidedBy]);
  if (step.note) facts.push([words.note, step.note]);
  if (step.childRunId) {
    facts.push([
      words.child,
      <Link to="/runs/$id" params={{ id: step.childRunId }} className="mono">
        {step.childRunId}
      </Link>,
    ]);
  }
  return (
    <>
      <header>
        <h2 className="cut isolate">{step.id}</h2>
        <span className="row">
          <span className="tag">{m.run.types[step.type] ?? step.type}</span>
          <span className={`tag ${step.state === "done" ? "" : "accent"}`}>{m.run.state[step.state]}</span>
        </span>
      </header>
      <div className="in">
        {step.state === "in_doubt" && (
          <div className="banner">
            <p className="grow">{m.run.doubt}</p>
            {may && (
              <span className="row">
                <button type="button" className="btn small" onClick={() => act({ what: "resolve", step: step.id, happened: true })}>
                  {m.run.happened}
                </button>
                <button type="button" className="btn small" onClick={() => act({ what: "resolve", step: step.id, happened: false })}>
                  {m.run.notHappened}
                </button>
              </span>
            )}
          </div>
        )}
        {step.reused && <p className="note">{words.reused}</p>}
        <Facts of={facts} />
        {(step.code ?? step.error) && <Block title={words.error} value={[step.code, step.error].filter(Boolean).join(": ")} />}
        {step.marks.length > 0 && (
          <div className="stack tight">
            <h3>{words.marks}</h3>
            <ul className="marks">
              {step.marks.map((mark, index) => (
                <li key={`${mark.at}-${index}`}>
                  <span className="mono dim">{clock(new Date(mark.at).toISOString())}</span>
                  <span className="text">
                    {m.run.mark[mark.kind]} {mark.kind === "answered" ? (m.budgets.answer[mark.text] ?? mark.text) : mark.text}
                  </span>
                </li>
              ))}
            </ul>
          </div>
        )}
        {step.asked !== undefined && step.type !== "llm" && <Block title={words.asked} value={step.asked} />}
        {step.type === "llm" && !run.contentRemovedAt && <Prompt run={run} recorded={recorded} step={step} />}
        {step.saying !== undefined && <Block title={words.saying} value={step.saying} live />}
        {step.output !== undefined && step.output !== "" && <Block title={step.type === "llm" ? words.answered : words.output} value={step.output} />}
        {step.toolCalls.length > 0 && (
          <div className="stack tight">
            <h3>{words.tools}</h3>
            {step.toolCalls.map((call, index) => (
              <Block key={call.id ?? index} title={call.name} value={typed(call.arguments)} small="code" />
            ))}
          </div>
        )}
        {may && step.endedAt !== undefined && step.parent === undefined && (
          <div className="formfoot">
            <button type="button" className="btn small" onClick={() => act({ what: "fork", step: step.id })}>
              {m.run.actions.forkHere}
            </button>
          </div>
        )}
      </div>
    </>
  );
}

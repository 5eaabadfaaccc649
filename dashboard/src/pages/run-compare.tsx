// Two runs side by side: what is alike, and the first step at which they part.
import { useQuery } from "@tanstack/react-query";
import { Link } from "@tanstack/react-router";
import { useEffect, useId, useState } from "react";
import { type Run, type Schemas, get, page } from "../api/client";
import { count, money, pretty, relative, shell } from "../lib/format";
import { m } from "../messages/en";
import { Body } from "../ui/block";
import { Facts } from "../ui/facts";
import { Failure, Field, Loading, SameCommand, Status } from "../ui/pieces";

const words = m.compare;
type Side = Schemas["SideOfStep"];

export function RunCompare({ run, other, choose }: { run: Run; other?: string; choose: (id: string | undefined) => void }) {
  const related = run.forkedFrom?.runId ?? "";
  const [typed, setTyped] = useState(other ?? related);
  useEffect(() => setTyped(other ?? related), [other, related]);
  const listed = useId();
  const runs = useQuery({ queryKey: ["runs", "of", run.agentName], queryFn: ({ signal }) => page("/v1/runs", { query: { agent: run.agentName, limit: 20 }, signal }) });
  const diff = useQuery({
    queryKey: ["diff", run.id, other],
    queryFn: ({ signal }) => get("/v1/runs/{id}/diff/{other}", { path: { id: run.id, other: other ?? "" }, signal }),
    enabled: other !== undefined,
  });
  return (
    <div className="stack">
      <form
        className="card in paste"
        onSubmit={(event) => {
          event.preventDefault();
          choose(typed.trim() || undefined);
        }}
      >
        <Field label={words.with} hint={words.withHint}>
          <input type="text" className="mono" list={listed} spellCheck={false} autoComplete="off" value={typed} onChange={(event) => setTyped(event.target.value)} />
        </Field>
        <datalist id={listed}>
          {(runs.data?.items ?? [])
            .filter((one) => one.id !== run.id)
            .map((one) => (
              <option key={one.id} value={one.id} label={`${m.status[one.status] ?? one.status}, ${relative(Date.parse(one.createdAt), Date.now())}`} />
            ))}
        </datalist>
        <button type="submit" className="btn first" disabled={typed.trim() === ""}>
          {words.go}
        </button>
      </form>
      <Failure error={diff.error} retry={() => void diff.refetch()} />
      {other === undefined ? <p className="note">{words.choose}</p> : diff.isPending ? <Loading /> : diff.data && <Differences diff={diff.data} />}
      <SameCommand line={`lantern runs diff ${run.id} ${other ? shell(other) : "OTHER"}`} />
    </div>
  );
}

function Differences({ diff }: { diff: Schemas["RunDifferences"] }) {
  const first = diff.firstDivergence;
  const apart = diff.steps.filter((step) => step.differs !== "same").length;
  return (
    <>
      <section className="card" aria-label={words.first} data-same={diff.same}>
        <header>
          <h2>{diff.same ? words.same : first ? words.part(first.stepId, diff.sharedSteps) : words.ends}</h2>
          <span className="row wrap">
            {first && <span className="tag accent">{words.differs[first.differs] ?? first.differs}</span>}
            <span className={`tag ${diff.sameVersion ? "" : "accent"}`}>{diff.sameVersion ? words.sameVersion : words.otherVersion}</span>
            <span className={`tag ${diff.sameInput ? "" : "accent"}`}>{diff.sameInput ? words.sameInput : words.otherInput}</span>
          </span>
        </header>
        <div className="sides">
          {([["a", words.this], ["b", words.other]] as const).map(([side, name]) => {
            const run = diff[side];
            return (
              <div key={side} className="in stack">
                <Facts
                  of={[
                    [
                      name,
                      <Link to="/runs/$id" params={{ id: run.runId }} className="mono">
                        {run.runId}
                      </Link>,
                    ],
                    [
                      m.run.facts.status,
                      <>
                        <Status of={run.status} /> {run.errorCode && <code>{run.errorCode}</code>}
                      </>,
                    ],
                    [m.run.facts.cost, money(run.costUsd)],
                    [m.run.facts.tokens, `${count(run.tokensIn)} → ${count(run.tokensOut)}`],
                  ]}
                />
                {first && <SideOf side={first[side]} other={first[side === "a" ? "b" : "a"]} />}
              </div>
            );
          })}
        </div>
      </section>
      <section className="card" aria-label={words.steps}>
        <header>
          <h2>{words.steps}</h2>
          <span className="dim">{words.differ(apart, diff.steps.length)}</span>
        </header>
        <table className="table" aria-label={words.steps}>
          <thead>
            <tr>
              <th>{words.columns.step}</th>
              <th className="fit wide">{words.columns.kind}</th>
              <th className="fit">{words.columns.differs}</th>
            </tr>
          </thead>
          <tbody>
            {diff.steps.map((step) => (
              <tr key={step.stepId}>
                <td className="cut mono">{step.stepId}</td>
                <td className="fit dim wide">{m.run.types[step.kind] ?? step.kind}</td>
                <td className="fit">
                  <span className={step.differs === "same" ? "dim" : "tag accent"}>{words.differs[step.differs] ?? step.differs}</span>
                </td>
              </tr>
            ))}
          </tbody>
        </table>
      </section>
    </>
  );
}

function SideOf({ side, other }: { side?: Side | null; other?: Side | null }) {
  if (!side) return <p className="note">{words.absent}</p>;
  const parts: [string, unknown, unknown][] = [
    [words.request, side.request, other?.request],
    [words.output, side.output, other?.output],
    [words.error, side.error, other?.error],
  ];
  return (
    <>
      {parts.map(
        ([name, value, theirs]) =>
          value !== undefined &&
          value !== null && (
            <div key={name} className="stack tight">
              <h3>
                {name} {other && pretty(value) !== pretty(theirs) && <span className="tag accent">{words.apart}</span>}
              </h3>
              <Body value={value} />
            </div>
          ),
      )}
      {side.omitted && side.omitted.length > 0 && <p className="note">{words.omitted(side.omitted.join(", "))}</p>}
      <p className="dim">{words.state[side.state] ?? side.state}</p>
    </>
  );
}

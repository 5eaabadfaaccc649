// The steps of a run as a waterfall: where in time each lies, how long it took and what it cost. Only what is seen is drawn.
import { useVirtualizer } from "@tanstack/react-virtual";
import { useMemo, useRef } from "react";
import { duration, money } from "../lib/format";
import { type Bar, type Recorded, waterfall } from "../lib/recorder";
import { m } from "../messages/en";
import { Icon } from "../ui/icons";
import { useNow } from "../ui/pieces";

const ROW = 36;

export function Timeline({ recorded, picked, pick }: { recorded: Recorded; picked?: string; pick: (id: string | undefined) => void }) {
  const open = recorded.endedAt === undefined;
  const tick = useNow();
  const now = open ? Math.max(tick, recorded.lastAt ?? 0) : 0;
  const bars = useMemo(() => waterfall(recorded, now), [recorded, now]);
  const scroller = useRef<HTMLDivElement>(null);
  const virtual = useVirtualizer({ count: bars.length, getScrollElement: () => scroller.current, estimateSize: () => ROW, overscan: 10 });
  const names = m.run.stepColumns;
  return (
    <section className="card steps" aria-label={m.run.timeline}>
      <div className="srow header" aria-hidden="true">
        <span>{names.step}</span>
        <span>{names.time}</span>
        <span className="num">{names.took}</span>
        <span className="num wide">{names.cost}</span>
      </div>
      {bars.length === 0 && <p className="spinner">{m.run.noSteps}</p>}
      <div ref={scroller} className="scroller" style={{ maxHeight: "calc(100vh - 300px)", height: Math.min(bars.length, 40) * ROW }} tabIndex={0} role="group" aria-label={m.run.timeline}>
        <div className="canvas" style={{ height: virtual.getTotalSize() }}>
          {virtual.getVirtualItems().map((item) => {
            const bar = bars[item.index];
            return bar && <Line key={bar.step.id} bar={bar} start={item.start} now={now} picked={bar.step.id === picked} pick={pick} />;
          })}
        </div>
      </div>
    </section>
  );
}

function Line({ bar, start, now, picked, pick }: { bar: Bar; start: number; now: number; picked: boolean; pick: (id: string | undefined) => void }) {
  const { step } = bar;
  const took = (step.endedAt ?? now) - step.startedAt;
  const odd = step.state !== "done" && step.state !== "working";
  return (
    <button type="button" className="srow body" aria-pressed={picked} onClick={() => pick(picked ? undefined : step.id)} style={{ transform: `translateY(${start}px)` }}>
      <span className="label" style={{ paddingLeft: bar.depth * 14 }}>
        <Icon name={step.type || "tool"} />
        <span className="cut isolate">
          {step.name}
          {step.name !== step.id && <span className="dim"> {step.id}</span>}
        </span>
        {odd && <span className={`tag ${step.state === "waiting" || step.state === "retrying" ? "accent" : ""}`}>{m.run.state[step.state]}</span>}
        {step.reused && <span className="sr">{m.run.step.reused}</span>}
      </span>
      <Lane bar={bar} />
      <span className="num">{now === 0 && step.endedAt === undefined ? m.common.none : duration(Math.max(0, took))}</span>
      <span className="num wide">{step.costUsd > 0 || step.type === "llm" ? money(step.costUsd) : m.common.none}</span>
    </button>
  );
}

function Lane({ bar }: { bar: Bar }) {
  const { step } = bar;
  const kind = step.state === "failed" || step.state === "denied" || step.state === "in_doubt" ? step.state : step.type;
  const queued = (bar.width * bar.queued) / 100;
  return (
    <svg className="lane" aria-hidden="true">
      <line className="track" x1="0" x2="100%" y1="8" y2="8" />
      {queued > 0.2 && <rect className="queued" x={`${bar.left}%`} width={`${queued}%`} y="5" height="6" rx="1" />}
      <rect className={`bar ${kind} ${step.endedAt === undefined ? "open" : ""}`} x={`${bar.left + queued}%`} width={`${Math.max(bar.width - queued, 0.4)}%`} y="3" height="10" rx="2" />
      {step.marks.some((mark) => mark.kind === "retry" || mark.kind === "doubt" || mark.kind === "resent") && <circle className="mark" cx={`${bar.left}%`} cy="8" r="3" />}
    </svg>
  );
}

// Every event as the journal has it: all are here, those that are seen are drawn.
import { useVirtualizer } from "@tanstack/react-virtual";
import { useRef } from "react";
import { clock, exact } from "../lib/format";
import type { Recorded, RunEvent } from "../lib/recorder";
import { m } from "../messages/en";

export function Events({ recorded }: { recorded: Recorded }) {
  const scroller = useRef<HTMLDivElement>(null);
  const { events } = recorded;
  const virtual = useVirtualizer({
    count: events.length,
    getScrollElement: () => scroller.current,
    estimateSize: () => 36,
    overscan: 10,
    getItemKey: (index) => events[index]?.seq ?? index,
  });
  return (
    <section className="card">
      <header>
        <h2>{m.run.raw}</h2>
        <span className="dim">{m.run.rawCount(events.length)}</span>
      </header>
      <div className="events" ref={scroller} tabIndex={0} role="group" aria-label={m.run.raw}>
        <div className="canvas" style={{ height: virtual.getTotalSize() }}>
          {virtual.getVirtualItems().map((item) => {
            const event = events[item.index];
            return (
              event && (
                <div key={item.key} ref={virtual.measureElement} data-index={item.index} data-seq={event.seq} className="erow" style={{ transform: `translateY(${item.start}px)` }}>
                  <Line event={event} />
                </div>
              )
            );
          })}
        </div>
      </div>
    </section>
  );
}

function Line({ event }: { event: RunEvent }) {
  const body = JSON.stringify(event.data, null, 2);
  return (
    <>
      <span className="num dim">{event.seq}</span>
      <span className="dim wide">{event.ts && <time dateTime={event.ts} title={exact(event.ts)}>{clock(event.ts)}</time>}</span>
      <span className="wide">{event.kind}</span>
      <details className="cut">
        <summary className="cut">
          <span className="isolate">{event.stepId ?? event.kind}</span> <span className="dim isolate">{JSON.stringify(event.data).slice(0, 200)}</span>
        </summary>
        <div className="body isolate">{body}</div>
      </details>
    </>
  );
}

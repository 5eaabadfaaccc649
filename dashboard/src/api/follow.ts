// Follows an event stream until it is over, across dropped connections and restarted servers.
//
// Each connection begins after the last event that was taken, so none is told twice and none is missed.
import { ApiError, PAGE, refusal } from "./client";
import { type Frame, FrameReader, pause } from "../lib/sse";

export type Link = "connecting" | "live" | "recovering" | "over";

export interface Followed {
  onFrames: (frames: Frame[]) => void;
  onLink: (link: Link, error?: unknown) => void;
  /** Whether the stream is over with this frame. */
  isLast: (frame: Frame) => boolean;
}

/** Begins to follow; the answer ends it. */
export function follow(path: string, told: Followed): () => void {
  const stop = new AbortController();
  void run(path, told, stop.signal);
  return () => stop.abort();
}

async function run(path: string, told: Followed, signal: AbortSignal): Promise<void> {
  let last: string | undefined;
  let failures = 0;
  told.onLink("connecting");
  while (!signal.aborted) {
    try {
      const headers: Record<string, string> = { ...PAGE, Accept: "text/event-stream" };
      if (last !== undefined) headers["Last-Event-ID"] = last;
      const response = await fetch(path, { headers, signal, credentials: "same-origin" });
      if (response.status === 204) return told.onLink("over");
      if (!response.ok) throw await refusal(response);
      if (!response.body) throw new ApiError(0, "unreachable", "");
      const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
      const frames = new FrameReader();
      told.onLink("live");
      for (;;) {
        const { done, value } = await reader.read();
        if (done) break;
        const got = frames.push(value);
        if (got.length === 0) continue;
        failures = 0;
        for (const frame of got) if (frame.id !== undefined) last = frame.id;
        told.onFrames(got);
        if (got.some(told.isLast)) return told.onLink("over");
      }
    } catch (error) {
      if (signal.aborted) return;
      // What is refused stays refused; what is broken or busy comes back.
      if (error instanceof ApiError && error.status >= 400 && error.status < 500 && error.status !== 429) {
        return told.onLink("over", error);
      }
    }
    if (signal.aborted) return;
    told.onLink("recovering");
    failures += 1;
    await rest(pause(failures, Math.random()), signal);
  }
}

function rest(ms: number, signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    const timer = setTimeout(resolve, ms);
    signal.addEventListener("abort", () => (clearTimeout(timer), resolve()), { once: true });
  });
}

// Event streams, read by hand: a browser's own reader can send no header, and tells nobody why it was refused.

export interface Frame {
  id?: string;
  event?: string;
  data: string;
}

/** Cuts a stream of text into frames, wherever the pieces of it are torn. */
export class FrameReader {
  private rest = "";

  push(piece: string): Frame[] {
    this.rest += piece;
    // A carriage return at the end may be the first half of one line's end.
    const whole = this.rest.endsWith("\r") ? this.rest.slice(0, -1) : this.rest;
    const held = this.rest.slice(whole.length);
    const blocks = whole.replace(/\r\n?/g, "\n").split("\n\n");
    this.rest = (blocks.pop() ?? "") + held;
    return blocks.map(frame).filter((found) => found !== undefined);
  }
}

function frame(block: string): Frame | undefined {
  const found: Frame = { data: "" };
  const lines: string[] = [];
  for (const line of block.split("\n")) {
    const [, name, value] = /^([^:]*):? ?(.*)$/s.exec(line) ?? [];
    if (name === "data") lines.push(value ?? "");
    else if (name === "id") found.id = value;
    else if (name === "event") found.event = value;
  }
  if (lines.length === 0) return undefined;
  found.data = lines.join("\n");
  return found;
}

/** How long to wait before the nth try in a row, in milliseconds: quick at first, and never all clients at once. */
export function pause(failures: number, random: number): number {
  return Math.min(250 * 2 ** Math.min(failures, 5), 5_000) * (0.5 + random / 2);
}

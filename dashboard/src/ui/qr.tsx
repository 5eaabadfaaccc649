// A text as a picture that a telephone reads: always dark on light, with the rim that readers need.
import { encode } from "uqr";

/** Empty cells around it, as the standard asks. */
const RIM = 4;

export function Picture({ text, label }: { text: string; label: string }) {
  const { data, size } = encode(text, { border: RIM });
  const cells = data.flatMap((row, y) => row.flatMap((dark, x) => (dark ? [`M${x} ${y}h1v1h-1z`] : [])));
  return (
    <svg className="qr" viewBox={`0 0 ${size} ${size}`} role="img" aria-label={label} shapeRendering="crispEdges">
      <path d={cells.join("")} />
    </svg>
  );
}

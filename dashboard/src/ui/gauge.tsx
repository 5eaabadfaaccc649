// What was spent and is held of a cap, as a bar and in words.
import { money } from "../lib/format";
import { m } from "../messages/en";

export function Gauge({ title, spent, held, cap }: { title: string; spent: number; held: number; cap?: number }) {
  const share = (amount: number) => (cap ? Math.min(100, (100 * amount) / cap) : 0);
  return (
    <div className="stack tight">
      <div className="row between wrap">
        <h3>{title}</h3>
        <span>
          {money(spent)} {m.spending.spent}
          {held > 0 && `, ${money(held)} ${m.spending.held}`} <span className="dim">{cap === undefined ? m.spending.noCap : m.spending.of(money(cap))}</span>
        </span>
      </div>
      {cap !== undefined && (
        <div className="gauge">
          <svg viewBox="0 0 100 6" preserveAspectRatio="none" aria-hidden="true">
            <rect className="held" x="0" y="0" width={share(spent + held)} height="6" />
            <rect className="spent" x="0" y="0" width={share(spent)} height="6" />
          </svg>
        </div>
      )}
    </div>
  );
}

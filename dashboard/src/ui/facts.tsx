// Names and what they stand for, in two columns.
import type { ReactNode } from "react";

export type Fact = readonly [name: string, value: ReactNode];

export function Facts({ of, className }: { of: readonly (Fact | false)[]; className?: string }) {
  return (
    <dl className={`facts ${className ?? ""}`.trim()}>
      {of.map(
        (fact) =>
          fact && (
            <div key={fact[0]}>
              <dt>{fact[0]}</dt>
              <dd>{fact[1]}</dd>
            </div>
          ),
      )}
    </dl>
  );
}

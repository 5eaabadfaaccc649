// What a run would probably cost, before it is started.
import { useQuery } from "@tanstack/react-query";
import { useEffect, useState } from "react";
import { type Schemas, post } from "../api/client";
import { money } from "../lib/format";
import { m } from "../messages/en";
import { Facts } from "./facts";
import { Command, Failure } from "./pieces";

const words = m.forecast;

/** What is typed, once it rests. */
function useRested<T>(value: T, key: string): T {
  const [rested, setRested] = useState(value);
  useEffect(() => {
    const timer = setTimeout(() => setRested(value), 300);
    return () => clearTimeout(timer);
    // A value is another one when its key is.
  }, [key]);
  return rested;
}

export function ForecastPanel({ agent, input, command }: { agent: string; input: unknown; command: string }) {
  const key = JSON.stringify([agent, input]);
  const asked = useRested({ agent, input }, key);
  const forecast = useQuery({
    queryKey: ["forecast", asked],
    queryFn: () => post("/v1/runs/forecast", { body: { agentName: asked.agent, input: asked.input as never } }),
    enabled: asked.agent !== "",
    placeholderData: (before) => before,
    retry: false,
  });
  if (agent === "") return null;
  return (
    <section className="forecast" aria-label={words.title} aria-busy={forecast.isFetching}>
      <h3>{words.title}</h3>
      {forecast.error ? <Failure error={forecast.error} /> : forecast.data ? <Said forecast={forecast.data} /> : <p className="note">{words.pending}</p>}
      <Command line={command} />
    </section>
  );
}

function Said({ forecast }: { forecast: Schemas["Forecast"] }) {
  const { interval, maxCostUsd: cap, estimatedCostUsd: guess } = forecast;
  const learned = forecast.calibrated;
  const at = (usd: number) => (cap > 0 ? Math.min(100, (100 * usd) / cap) : 0);
  return (
    <>
      <p>
        {typeof guess === "number" && <strong>{words.expected(money(guess))}</strong>}{" "}
        {learned && <span className="dim">{words.likely(money(interval.lowUsd), money(interval.highUsd), interval.level)}</span>}
      </p>
      {learned && (
        <div className="gauge">
          <svg viewBox="0 0 100 6" preserveAspectRatio="none" aria-hidden="true">
            <rect className="held" x={at(interval.lowUsd)} y="0" width={Math.max(0.6, at(interval.highUsd) - at(interval.lowUsd))} height="6" />
            {typeof guess === "number" && <rect className="spent" x={Math.min(99.4, at(guess))} y="0" width="0.6" height="6" />}
          </svg>
        </div>
      )}
      <p className="note">
        {learned ? words.history(forecast.reasoning.historical_runs) : words.prior} {!learned && words.noRange(money(cap))}{" "}
        {learned && typeof interval.coverage === "number" && words.coverage(interval.coverage, interval.tried)} {forecast.drift && words.drift}
      </p>
      {forecast.wouldExceedBudget && <p className="banner">{words.exceeds(money(cap))}</p>}
      <Facts
        of={[
          [words.model, <span className="isolate">{[forecast.provider, forecast.model].filter(Boolean).join("/")}</span>],
          [words.most, money(cap)],
        ]}
      />
    </>
  );
}

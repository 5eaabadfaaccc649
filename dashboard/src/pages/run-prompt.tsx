// What a model call was given: the version that ran says the instructions, the journal says the rest.
import { useQuery } from "@tanstack/react-query";
import { Link } from "@tanstack/react-router";
import { type Run, get, page } from "../api/client";
import { type Recorded, type Step, before } from "../lib/recorder";
import { typed } from "../lib/value";
import { m } from "../messages/en";
import { Block } from "../ui/block";
import { Failure } from "../ui/pieces";

const words = m.prompt;
interface Manifest {
  systemPrompt?: string;
  steps?: { id?: string; data?: { prompt?: unknown; system?: unknown } }[];
}

/** The manifest of the version that a run ran. A version never changes. */
function useVersion(run: Run) {
  return useQuery({
    queryKey: ["agents", "ran", run.agentVersionId],
    queryFn: async ({ signal }) => {
      const path = { name: run.agentName };
      for (let cursor: string | undefined; ; ) {
        const { items, next } = await page("/v1/agents/{name}/versions", { path, query: { limit: 100, cursor }, signal });
        const ran = items.find((one) => one.id === run.agentVersionId);
        if (ran) return (await get("/v1/agents/{name}/versions/{version}", { path: { ...path, version: String(ran.number) }, signal })).manifest as Manifest;
        if (!next) return null;
        cursor = next;
      }
    },
    staleTime: Number.POSITIVE_INFINITY,
  });
}

export function Prompt({ run, recorded, step }: { run: Run; recorded: Recorded; step: Step }) {
  const version = useVersion(run);
  const own = version.data?.steps?.find((one) => one.id === step.id);
  const earlier = version.data?.steps ? [] : before(recorded, step);
  return (
    <div className="stack tight">
      <h3>{words.title}</h3>
      <p className="note">{words.text}</p>
      <Failure error={version.error} />
      {version.data === null && <p className="note">{words.nothing}</p>}
      {version.data?.systemPrompt && <Block title={words.instructions} value={version.data.systemPrompt} small="words" />}
      {own?.data?.system !== undefined && <Block title={words.instructions} value={own.data.system} small="words" />}
      {own?.data?.prompt !== undefined && <Block title={words.template} value={own.data.prompt} small="words" />}
      {run.sessionId && (
        <p className="note">
          <Link to="/sessions/$id" params={{ id: run.sessionId }}>
            {words.session}
          </Link>
        </p>
      )}
      {recorded.input !== undefined && recorded.input !== null && <Block title={words.input} value={recorded.input} small="words" />}
      {earlier.length > 0 && (
        <details className="earlier">
          <summary>{words.earlier(earlier.length)}</summary>
          <ol className="stack tight">
            {earlier.map((one) => (
              <li key={one.id} className="stack tight">
                {one.type === "llm" ? (
                  <>
                    {one.output !== undefined && one.output !== "" && <Block title={words.said(one.id)} value={one.output} small="words" />}
                    {one.toolCalls.map((call, index) => (
                      <Block key={call.id ?? index} title={words.called(call.name)} value={typed(call.arguments)} small="words" />
                    ))}
                  </>
                ) : (
                  <Block title={words.result(one.name)} value={one.output ?? one.error ?? m.run.state[one.state]} small="words" />
                )}
              </li>
            ))}
          </ol>
        </details>
      )}
    </div>
  );
}

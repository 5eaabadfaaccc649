// Work for a server: agents of every kind that the pages show, and runs in every state.

export const STEPS = {
  squares: {
    name: "squares", description: "Squares a list of numbers, three at a time", program: "steps",
    steps: [{ id: "each", kind: "map", data: { items: "{{input.numbers}}", concurrency: 3 }, step: { kind: "tool", data: { tool: "calc", arguments: { expression: "{{item}}^2" } } } }],
  },
  release: {
    name: "release", description: "Adds up what changed, then asks a person", program: "steps",
    steps: [
      { id: "sum", kind: "tool", data: { tool: "calc", arguments: { expression: "{{input.changes}}" } } },
      { id: "ship", kind: "approval", data: { reason: "{{steps.sum.value}} lines changed. Ship it?" } },
    ],
  },
  waits: { name: "waits", description: "Waits for a signal", program: "steps", steps: [{ id: "go", kind: "signal", data: { name: "go" } }] },
  breaks: { name: "breaks", description: "Divides by nothing", program: "steps", steps: [{ id: "half", kind: "tool", data: { tool: "calc", arguments: { expression: "1/0" } } }] },
};

/** An agent of so many steps with a rest between them, so that something can happen in the middle. */
export function slow(count, ms) {
  const steps = Array.from({ length: count }, (_, n) => [
    { id: `sum-${n}`, kind: "tool", data: { tool: "calc", arguments: { expression: `${n}+1` } } },
    { id: `rest-${n}`, kind: "sleep", data: { durationMs: ms } },
  ]).flat();
  return { name: "slow", description: "Does little, slowly", program: "steps", steps };
}

export const HELPER = {
  name: "helper", description: "Answers questions, and calculates", systemPrompt: "You help with sums.\nBe brief.", tools: ["calc"],
};

const DIGEST = "Summarise these notes for a stand-up.";
const NOTES = "The search index was rebuilt overnight and queries are fast again. Two customers asked for exports in CSV. The export job now runs in the background and mails a link. We still need somebody to look at the flaky login test. The release is planned for Thursday, after the database is moved.";

/** An agent whose steps cost something, where there is a vendor. */
export const PAID = {
  name: "writer", description: "Asks a model that costs something, twice", program: "steps", maxCostUsd: 1,
  steps: ["draft", "polish"].map((id) => ({ id, kind: "llm", data: { prompt: "Say something.", model: "gpt-4o", maxTokens: 60 } })),
};

/** Waits until a run stands so. */
export async function until(server, id, ...statuses) {
  for (const from = Date.now(); Date.now() - from < 30_000; ) {
    const run = await server.api("GET", `/v1/runs/${id}`);
    if (statuses.includes(run.status)) return run;
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
  throw new Error(`run ${id} is not ${statuses} after 30 s`);
}

/** Somebody who came in by an invitation, and what they sign in with. */
export async function member(server, email, role, name) {
  const password = "correct horse battery";
  const { token } = await server.api("POST", "/v1/invitations", { email, role });
  const { user } = await server.ask("POST", "/auth/invitations/accept", { token, password, name });
  return { id: user.id, email, password };
}

/** People of every role, and an invitation that waits. */
export async function people(server) {
  await member(server, "ada@example.com", "admin", "Ada Lovelace");
  await member(server, "grace@example.com", "member", "Grace Hopper");
  await member(server, "eve@example.com", "viewer", "Eve");
  await server.api("POST", "/v1/invitations", { email: "barbara@example.com", role: "member" });
}

/** Secrets: one that a provider names, one of which no version counts, and one that nobody renewed. */
export async function secrets(server) {
  const put = (name, value) => server.api("PUT", `/v1/secrets/${name}`, { value });
  for (const value of ["sk-not-a-real-key-1", "sk-not-a-real-key-2", "sk-not-a-real-key-3"]) await put("openai", value);
  await put("github-token", "not-a-real-token");
  await put("stripe.webhook_signing", "not-a-real-key");
  await server.api("PATCH", "/v1/secrets/openai/versions/1", { enabled: false });
  await server.api("PATCH", "/v1/secrets/github-token/versions/1", { enabled: false });
  await server.api("POST", "/v1/settings/llm-providers", { provider: "openai", apiKey: "lantern.secret://tenant/openai" });
}

/** Fills a server with a small history. */
export async function history(server) {
  for (const agent of [HELPER, ...Object.values(STEPS), { name: "digest", description: "Summarises notes for a stand-up", systemPrompt: DIGEST, tools: [] }]) {
    await server.api("POST", "/v1/agents", agent);
  }
  await server.api("PATCH", "/v1/agents/helper", { systemPrompt: "You help with sums.\nBe brief, and say how you got there.", maxTurns: 8 });
  const run = async (agentName, input, labels) => (await server.api("POST", "/v1/runs", { agentName, input, labels })).id;
  const ids = {};
  ids.squares = await run("squares", { numbers: [1, 2, 3, 4, 5, 6, 7] }, { team: "data" });
  await until(server, ids.squares, "succeeded");
  ids.digest = await run("digest", NOTES);
  ids.helper = await run("helper", "What is (120+33)*2, and what is 17% of 240?");
  ids.other = await run("helper", "What is (120+33)*3?");
  ids.breaks = await run("breaks", {});
  ids.cancelled = await run("waits", {});
  await until(server, ids.cancelled, "paused", "running");
  await server.api("POST", `/v1/runs/${ids.cancelled}/cancel`, { reason: "no longer needed" });
  await until(server, ids.digest, "succeeded");
  await until(server, ids.helper, "succeeded");
  await until(server, ids.other, "succeeded");
  await until(server, ids.breaks, "failed");
  ids.fork = (await server.api("POST", `/v1/runs/${ids.squares}/replay`, {})).id;
  ids.release = await run("release", { changes: "120+33" }, { team: "web" });
  await until(server, ids.release, "paused");
  ids.waits = await run("waits", {});
  const session = await server.api("POST", "/v1/sessions", { agentName: "helper" });
  ids.session = session.id;
  for (const content of ["What is 12*7+3?", "And (87-3)/12?"]) {
    const { runId } = await server.api("POST", `/v1/sessions/${ids.session}/messages`, { content });
    await until(server, runId, "succeeded");
  }
  await server.api("POST", "/v1/api-keys", { name: "deploy pipeline", scopes: ["write"], expiresInDays: 30 });
  await server.api("POST", "/v1/api-keys", { name: "grafana", scopes: ["read"] });
  await server.api("POST", "/v1/settings/caps", { maxCostUsdPerDay: "5", maxCostUsdPerMonth: "80" });
  await server.api("POST", "/v1/settings/llm-providers", { provider: "openai", apiKey: "sk-not-a-real-key-0123456789" });
  return ids;
}

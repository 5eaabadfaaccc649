// Every page as it looked when somebody last looked at it, in both themes: UPDATE=1 keeps how those look now that look
// otherwise, to be looked at again.
import assert from "node:assert/strict";
import { existsSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { openBrowser, openPage, signIn } from "./browser.mjs";
import { Server } from "./server.mjs";
import { STILL, apart, picture, still } from "./still.mjs";
import { HELPER, STEPS, people, secrets, until } from "./work.mjs";

/** So much of a picture may differ. */
const MOST = 0.001;
const GOLDEN = join(import.meta.dirname, "golden");
const FOUND = join(import.meta.dirname, "dist");

/** A history in which one thing comes after another, so that every list has one order. */
async function calm(server) {
  for (const agent of [HELPER, STEPS.squares, STEPS.release, STEPS.breaks]) await server.api("POST", "/v1/agents", agent);
  await server.api("PATCH", "/v1/agents/helper", { systemPrompt: "You help with sums.\nBe brief, and say how you got there.", maxTurns: 8 });
  const ids = {};
  const run = async (agentName, input, ...status) => {
    const { id } = await server.api("POST", "/v1/runs", { agentName, input });
    await until(server, id, ...status);
    ids[agentName] = id;
  };
  await run("squares", { numbers: [1, 2, 3] }, "succeeded");
  await run("helper", "What is (120+33)*2?", "succeeded");
  await run("breaks", {}, "failed");
  for (const from = Date.now(); (await server.api("GET", "/v1/receipts")).length < 3 && Date.now() - from < 10_000; ) await new Promise((resolve) => setTimeout(resolve, 50));
  await run("release", { changes: "120+33" }, "paused");
  const { key } = await server.api("POST", "/v1/api-keys", { name: "deploy pipeline", scopes: ["write"] });
  await server.api("POST", "/v1/settings/caps", { maxCostUsdPerDay: "5", maxCostUsdPerMonth: "80" });
  await server.api("POST", "/v1/settings/caps", { apiKeyId: key.id, maxCostUsdPerDay: "1" });
  await server.api("PUT", "/v1/agents/helper/budget", { maxCostUsdPerDay: "2", maxCostUsdPerRun: "0.5", hardFail: false, onLimit: "ask" });
  await people(server);
  await secrets(server);
  return ids;
}

const PAGES = {
  home: () => "/", runs: () => "/runs", run: ({ squares }) => `/runs/${squares}?step=each`, "run-output": ({ helper }) => `/runs/${helper}?tab=input`, "run-receipt": ({ helper }) => `/runs/${helper}?tab=receipt`,
  "run-compare": ({ helper, squares }) => `/runs/${helper}?tab=compare&with=${squares}`, "run-start": () => "/runs?start=1&agent=helper", approvals: () => "/approvals",
  agents: () => "/agents", agent: () => "/agents/helper", "agent-versions": () => "/agents/helper?tab=versions", "agent-budget": () => "/agents/helper?tab=budget", "agent-edit": () => "/agents/helper?tab=edit",
  "agent-new": () => "/agents?create=1", sessions: () => "/sessions", providers: () => "/providers", spending: () => "/spending", calls: () => "/calls", receipts: () => "/receipts", audit: () => "/audit",
  members: () => "/members", keys: () => "/keys", secrets: () => "/secrets?name=openai", settings: () => "/settings", account: () => "/account", proof: () => "/proof",
};

describe("every page looks as it did", () => {
  let browser, server, page, calmly, judge, ids;
  before(async () => {
    mkdirSync(GOLDEN, { recursive: true });
    mkdirSync(FOUND, { recursive: true });
    browser = await openBrowser(STILL);
    server = await new Server().start();
    ids = await calm(server);
    judge = await browser.newPage();
    page = await openPage(browser, server);
    const live = (request) => request.headers().accept === "text/event-stream" && ![ids.squares, ids.helper].some((id) => request.url().includes(id));
    calmly = await still(page, { live });
    await signIn(page, server.ready.login);
  });
  after(async () => {
    await browser?.close();
    await server?.end();
  });

  const check = async (name, page, calmly) => {
    const unlike = [];
    for (const theme of ["light", "dark"]) {
      await page.emulateMedia({ colorScheme: theme });
      const now = await picture(page, calmly);
      const file = `${name}-${theme}.png`;
      const kept = join(GOLDEN, file);
      const part = existsSync(kept) ? await apart(judge, readFileSync(kept), now) : 1;
      if (part <= MOST) continue;
      if (process.env.UPDATE) {
        writeFileSync(kept, now);
        continue;
      }
      writeFileSync(join(FOUND, file), now);
      unlike.push(`${file}: ${(100 * part).toFixed(2)} % of it is unlike; e2e/dist/${file} is how it looks now`);
    }
    assert.deepEqual(unlike, [], "look at both; UPDATE=1 keeps the new ones");
  };

  test("sign-in", async () => {
    const door = await openPage(browser, server);
    const calmly = await still(door, { live: () => false });
    await door.goto("/sign-in");
    await door.getByRole("button", { name: "Sign in" }).waitFor();
    await check("sign-in", door, calmly);
    await door.context().close();
  });
  for (const [name, path] of Object.entries(PAGES)) {
    test(name, async () => {
      await page.goto(path(ids));
      await page.getByRole("heading", { level: 1 }).waitFor();
      await page.waitForLoadState("load");
      await check(name, page, calmly);
      assert.deepEqual(page.faults, []);
    });
  }
  for (const name of ["home", "runs", "run", "approvals", "keys", "secrets"]) {
    test(`${name}, on a phone`, async () => {
      await page.setViewportSize({ width: 390, height: 780 });
      await page.goto(PAGES[name](ids));
      await page.getByRole("heading", { level: 1 }).waitFor();
      await check(`${name}-phone`, page, calmly);
      await page.setViewportSize({ width: 1280, height: 860 });
      assert.deepEqual(page.faults, []);
    });
  }
  test("what is new of a secret", async () => {
    await page.goto(PAGES.secrets(ids));
    await page.getByRole("button", { name: "New version" }).click();
    await page.getByRole("dialog").waitFor();
    await check("secret-new", page, calmly);
    await page.keyboard.press("Escape");
    assert.deepEqual(page.faults, []);
  });
  test("a picture of another page is told apart", async () => {
    const of = (name) => readFileSync(join(GOLDEN, `${name}-light.png`));
    assert.ok((await apart(judge, of("keys"), of("secrets"))) > MOST);
    assert.equal(await apart(judge, of("keys"), of("keys")), 0);
  });
});

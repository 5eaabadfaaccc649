// What may be spent: asked for more of it, and said for the workspace, agents and keys on their own pages.
import assert from "node:assert/strict";
import { test } from "node:test";
import { axe, openPage, signIn } from "./browser.mjs";
import { browser, group, quiet, settled } from "./group.mjs";
import { PAID, member, until } from "./work.mjs";

async function bothThemes(page, what) {
  for (const theme of ["dark", "light"]) {
    await page.emulateMedia({ colorScheme: theme });
    assert.deepEqual(await axe(page), [], `${what}, ${theme}`);
  }
}

group("a budget that asks", (world) => {
  let runs;
  /** An agent of this name with runs that wait. Each test has its own: what a server took under an answer is spent under the next question too. */
  const reached = async (server, agentName) => {
    await server.api("POST", "/v1/agents", { ...PAID, name: agentName });
    await server.api("PUT", `/v1/agents/${agentName}/budget`, { maxCostUsdPerDay: "0.0001", hardFail: false, onLimit: "ask" });
    runs = [];
    for (let n = 0; n < 3; n++) runs.push((await server.api("POST", "/v1/runs", { agentName, input: {} })).id);
    for (const run of runs) await until(server, run, "paused");
  };

  test("says what it is about, once for all runs that wait, and takes an amount", async () => {
    const { page, server, vendor } = world;
    await reached(server, "writer");
    const [asked] = await server.api("GET", "/v1/approvals");
    await signIn(page, server.ready.login);
    await page.getByText("May more be spent today?").waitFor();
    await page.goto("/approvals");
    const ask = page.getByRole("article", { name: "The budget of writer is reached" });
    // To the millionth, of which floats would make a hair more or less.
    const micros = Math.round(asked.budget.holdUsd * 1e6);
    const [hold, lack] = [micros, micros - 100].map((n) => `$0.${String(n).padStart(6, "0")}`);
    for (const [name, amount] of [["May be spent in this day", "$0.0001"], ["Spent when it was asked", "$0.00"], ["The next step could cost", hold], ["So it lacks, at least", lack]]) {
      assert.equal(await ask.locator("dl > div", { hasText: name }).locator("dd").textContent(), amount);
    }
    await ask.getByText("once, for every run that waits").waitFor();
    assert.equal(await page.getByRole("article").count(), 1);
    assert.equal(await ask.getByRole("button", { name: "Let it through" }).isDisabled(), true);
    const amount = ask.getByRole("textbox", { name: "So much more, in dollars" });
    for (const [text, words] of [["much", "That is no amount"], ["0.0000001", "That is no amount"], ["1e3", "That is no amount"], ["0", "Say more than nothing"], [`<img src=x onerror="globalThis.owned=1">`, "That is no amount"]]) {
      await amount.fill(text);
      await ask.getByRole("alert").getByText(words).waitFor();
      assert.equal(await ask.getByRole("button", { name: "Let it through" }).isDisabled(), true, text);
    }
    await bothThemes(page, "an amount that is none");
    await amount.fill("0.001");
    await ask.getByText(`lacks ${lack} at least`).waitFor();
    await bothThemes(page, "a question about a budget");
    await amount.fill("0.500001");
    await ask.getByText(`lantern approvals grant ${asked.id} --more 0.500001`, { exact: true }).waitFor();
    await ask.getByText(`lantern approvals deny ${asked.id}`, { exact: true }).waitFor();
    assert.equal(vendor.calls, 0);
    const sent = page.waitForRequest("**/grant");
    await ask.getByRole("button", { name: "Let it through" }).click();
    assert.deepEqual((await sent).postDataJSON(), { moreUsd: "0.500001" });
    await page.getByText("Nothing waits for you").waitFor();
    for (const run of runs) await until(server, run, "succeeded");
    assert.equal(vendor.calls, 6);
    await page.goto("/approvals?status=granted");
    await page.getByText("$0.500001 more was let through").waitFor();
    assert.equal(await page.evaluate(() => globalThis.owned), undefined);
    assert.deepEqual(page.faults, []);
  });

  test("is answered on the page of any run that waits, with the rest of its period", async () => {
    const { page, server } = world;
    await reached(server, "editor");
    const [asked] = await server.api("GET", "/v1/approvals");
    const other = runs.find((run) => run !== asked.runId);
    await page.goto(`/runs/${other}`);
    const ask = page.getByRole("article", { name: "The budget of editor is reached" });
    await ask.getByRole("link", { name: "Open the run that asked first" }).waitFor();
    await ask.getByRole("radio", { name: "The rest of the day" }).check();
    await ask.getByText(`lantern approvals grant ${asked.id}`, { exact: true }).waitFor();
    await bothThemes(page, "a question on the page of its run");
    await page.setViewportSize({ width: 390, height: 780 });
    assert.ok((await page.evaluate(() => document.documentElement.scrollWidth - innerWidth)) <= 0);
    await page.setViewportSize({ width: 1280, height: 860 });
    const sent = page.waitForRequest("**/grant");
    await ask.getByRole("button", { name: "Let it through" }).click();
    assert.deepEqual((await sent).postDataJSON(), {});
    await ask.waitFor({ state: "detached" });
    for (const run of runs) await until(server, run, "succeeded");
    await page.goto(`/runs/${other}?step=draft`);
    await page.getByText("A budget leaves too little, and people are asked").waitFor();
    await page.getByText("The question about the budget is over: more was let through").waitFor();
    await page.goto("/approvals?status=granted");
    await page.getByText("The rest of the day was let through").waitFor();
    assert.deepEqual(page.faults, []);
  });

  test("is shown to a member, who may not answer it, and denied by an admin", async () => {
    const { page, server } = world;
    await reached(server, "critic");
    const hers = await openPage(browser(), server);
    await signIn(hers, await member(server, "grace@example.com", "member"));
    await hers.goto("/approvals");
    await hers.getByText("Only those answer who may set budgets").waitFor();
    await quiet(hers);
    assert.equal(await hers.getByRole("button", { name: /Let it through|Say no/ }).count(), 0);
    assert.deepEqual(hers.faults, []);
    await hers.context().close();
    await page.goto("/approvals");
    await settled(page);
    const ask = page.getByRole("article", { name: "The budget of critic is reached" });
    await ask.getByText("A no holds for the rest of the day").waitFor();
    await ask.getByRole("button", { name: "Say no" }).click();
    await page.getByText("Nothing waits for you").waitFor();
    for (const run of runs) assert.equal((await until(server, run, "failed")).error.code, "budget_exceeded");
    assert.deepEqual(page.faults, []);
  });
}, { vendor: true });

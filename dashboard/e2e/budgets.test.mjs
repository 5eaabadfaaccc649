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
    // Its receipt records the caps that it was held within and the choices of its models, and the page looks at both.
    await page.goto(`/runs/${other}?tab=receipt`);
    await page.getByRole("button", { name: "Check it here" }).click();
    for (const which of ["ledger", "caps", "choices"]) await page.locator(`[data-check=${which}][data-state=holds].holds`).waitFor();
    await page.getByText("2 caps and 2 choices of a model were recorded, and looked at.").waitFor();
    await bothThemes(page, "a receipt of a run within caps");
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

group("what may be spent", (world) => {
  test("is said for an agent on its own page", async () => {
    const { page, server } = world;
    await server.api("POST", "/v1/agents", PAID);
    await signIn(page, server.ready.login);
    await page.goto("/agents/writer?tab=budget");
    await page.getByText("No budget of its own").waitFor();
    await page.getByText("lantern budgets set writer --day 1 --on-limit ask", { exact: true }).waitFor();
    await bothThemes(page, "an agent without a budget");
    await page.getByRole("button", { name: "Set budget" }).click();
    const dialog = page.getByRole("dialog");
    const save = dialog.getByRole("button", { name: "Save budget" });
    assert.equal(await save.isDisabled(), true);
    await dialog.getByLabel("A day").fill("five");
    await dialog.getByText("That is no amount").waitFor();
    assert.equal(await save.isDisabled(), true);
    await dialog.getByLabel("A day").fill("0.000001");
    await dialog.getByLabel("A run").fill("0.25");
    await dialog.getByLabel("When it is reached").selectOption("ask");
    await dialog.getByText("lantern budgets set writer --day 0.000001 --run 0.25 --on-limit ask", { exact: true }).waitFor();
    await bothThemes(page, "a budget that is set");
    await page.setViewportSize({ width: 390, height: 780 });
    assert.ok((await page.evaluate(() => document.documentElement.scrollWidth - innerWidth)) <= 0);
    await page.setViewportSize({ width: 1280, height: 860 });
    await save.click();
    const card = page.getByRole("region", { name: "Budget" });
    await card.getByText("of $0.000001").waitFor();
    await card.getByText("asks in the inbox").waitFor();
    await bothThemes(page, "a budget");
    const budget = await server.api("GET", "/v1/agents/writer/budget");
    assert.deepEqual([budget.maxCostUsdPerDay, budget.maxCostUsdPerRun, budget.onLimit, budget.hardFail], [0.000001, 0.25, "ask", false]);
    // What stands is said again, whole; a refusal is shown.
    await card.getByRole("button", { name: "Set budget" }).click();
    assert.equal(await dialog.getByLabel("A day").inputValue(), "0.000001");
    await dialog.getByLabel("A day").fill("5");
    await dialog.getByLabel("A month").fill("1");
    await dialog.getByText("A day may be spent more than a month").waitFor();
    await save.click();
    await dialog.getByRole("alert").getByText("maxCostUsdPerDay", { exact: true }).waitFor();
    await dialog.getByLabel("A month").fill("20");
    await dialog.getByLabel("When it is reached").selectOption("stop");
    await save.click();
    await card.getByText("of $20.00").waitFor();
    await card.getByText("stops", { exact: true }).waitFor();
    await card.getByRole("button", { name: "Remove budget" }).click();
    await dialog.getByText("lantern budgets delete writer", { exact: true }).waitFor();
    await dialog.getByRole("button", { name: "Remove budget" }).click();
    await page.getByText("No budget of its own").waitFor();
    assert.deepEqual(page.faults, []);
  });

  test("is said for a key in the list of keys", async () => {
    const { page, server } = world;
    const name = `ci <img src=x onerror="globalThis.owned=1">`;
    const { key } = await server.api("POST", "/v1/api-keys", { name, scopes: ["write"] });
    await page.goto("/keys");
    await page.getByRole("button", { name: `Caps of ${name}` }).click();
    const dialog = page.getByRole("dialog");
    assert.equal(await dialog.getByLabel("When it is reached").count(), 0);
    await dialog.getByText("Calls do not wait for people").waitFor();
    await dialog.getByLabel("A day").fill("1");
    await dialog.getByText(`lantern caps --key ${key.id} --day 1 --month none`, { exact: true }).waitFor();
    await bothThemes(page, "the caps of a key");
    await dialog.getByRole("button", { name: "Save caps" }).click();
    await page.getByText("$0.00 of $1.00 today").waitFor();
    await bothThemes(page, "keys with caps");
    assert.equal(await page.evaluate(() => globalThis.owned), undefined);
    const mine = (await server.api("GET", "/v1/settings/caps")).filter(({ apiKeyId }) => apiKeyId === key.id);
    assert.deepEqual(mine.map(({ period, maxCostUsd, onLimit }) => [period, maxCostUsd, onLimit]), [["day", 1, "stop"]]);
    await page.setViewportSize({ width: 390, height: 780 });
    assert.ok((await page.evaluate(() => document.documentElement.scrollWidth - innerWidth)) <= 0);
    await page.setViewportSize({ width: 1280, height: 860 });
    assert.deepEqual(page.faults, []);
  });

  test("is said for the workspace, with what is done when it is reached", async () => {
    const { page, server } = world;
    await server.api("PUT", "/v1/agents/writer/budget", { maxCostUsdPerDay: "2", hardFail: false, onLimit: "ask" });
    await page.goto("/spending");
    await page.getByRole("button", { name: "Set caps" }).click();
    const dialog = page.getByRole("dialog");
    await dialog.getByLabel("A day").fill("0.000007");
    assert.equal(await dialog.getByText("The command sets amounts alone").count(), 0);
    await dialog.getByLabel("When it is reached").selectOption("ask");
    await dialog.getByText("The command sets amounts alone").waitFor();
    await dialog.getByText("lantern caps --day 0.000007 --month none", { exact: true }).waitFor();
    await bothThemes(page, "the caps of the workspace");
    await dialog.getByRole("button", { name: "Save caps" }).click();
    await page.getByText("of $0.000007").waitFor();
    assert.equal(await page.getByText("asks when it is reached").count(), 2);
    const [ours] = (await server.api("GET", "/v1/settings/caps")).filter(({ scope }) => scope === "tenant");
    assert.deepEqual([ours.maxCostUsd, ours.onLimit], [0.000007, "ask"]);
    await bothThemes(page, "spending");
    await page.getByRole("link", { name: "Agent writer" }).click();
    await page.getByRole("region", { name: "Budget" }).getByText("of $2.00").waitFor();
    assert.deepEqual(page.faults, []);
  });

  test("is shown to those who may not set it, without a button to", async () => {
    const { server } = world;
    for (const role of ["viewer", "member"]) {
      const page = await openPage(browser(), server);
      await signIn(page, await member(server, `${role}@example.com`, role));
      await page.goto("/agents/writer?tab=budget");
      await page.getByRole("region", { name: "Budget" }).getByText("of $2.00").waitFor();
      await quiet(page);
      assert.equal(await page.getByRole("button", { name: /Set budget|Remove budget/ }).count(), 0, role);
      await page.goto("/keys");
      await page.getByText("of $1.00 today").waitFor();
      assert.equal(await page.getByRole("button", { name: /Caps of/ }).count(), 0, role);
      assert.deepEqual(page.faults, []);
      await page.context().close();
    }
  });
});

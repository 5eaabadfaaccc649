// The audit log: found, read, checked and taken away as a file.
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { axe, openPage, signIn } from "./browser.mjs";
import { browser, group, quiet, settled } from "./group.mjs";
import { HELPER, member } from "./work.mjs";

const rows = (page) => page.getByRole("table", { name: "Audit log" }).locator("tbody tr");
/** Until the list is of what was asked for, which takes a moment. */
async function all(page, what) {
  await page.getByRole("table", { name: "Audit log" }).waitFor();
  await page.waitForFunction((what) => [...document.querySelectorAll("table tbody tr")].every((row) => row.textContent.includes(what)), what);
  return rows(page).count();
}

group("the audit log", (world) => {
  let viewer;
  test("is offered to those alone who look after the workspace", async () => {
    const { page, server } = world;
    viewer = await member(server, "eve@example.com", "viewer", "Eve");
    const mia = await member(server, "mia@example.com", "member", "Mia");
    for (const one of [viewer, mia]) {
      const theirs = await openPage(browser(), server);
      await signIn(theirs, one);
      await theirs.getByRole("link", { name: "Members" }).waitFor();
      assert.equal(await theirs.getByRole("link", { name: "Audit log" }).count(), 0);
      await theirs.goto("/audit");
      await theirs.getByRole("alert").getByText("role_missing").waitFor();
      assert.equal(await theirs.getByRole("button", { name: "Export CSV" }).count(), 0);
      const forced = await theirs.evaluate(async () => (await fetch("/v1/audit/export", { headers: { "X-Lantern-Page": "1" } })).status);
      assert.equal(forced, 403);
      assert.deepEqual(theirs.faults, []);
      await theirs.context().close();
    }
    await signIn(page, server.ready.login);
    await page.getByRole("link", { name: "Audit log" }).click();
    await page.waitForURL("**/audit");
    await rows(page).first().waitFor();
    assert.deepEqual(page.faults, []);
  });

  test("is filtered by who, what, how it ended and when, as its address says", async () => {
    const { page, server } = world;
    await server.api("POST", "/v1/agents", HELPER);
    await server.api("PATCH", "/v1/agents/helper", { maxTurns: 7 });
    await page.goto("/audit");
    await page.getByLabel("Action").fill("agents.update");
    await page.keyboard.press("Enter");
    await page.waitForURL("**/audit?action=agents.update");
    assert.equal(await all(page, "agents.update"), 1);
    await page.getByText("lantern audit list --action agents.update", { exact: true }).waitFor();
    await page.getByRole("button", { name: "Clear filters" }).click();
    await page.getByLabel("Outcome").selectOption("denied");
    await page.waitForURL("**/audit?outcome=denied");
    const denied = await all(page, "Denied");
    assert.ok(denied >= 2, String(denied));
    await page.getByLabel("Who").selectOption({ label: "eve@example.com" });
    await page.waitForURL(`**/audit?*who=${viewer.id}*`);
    const hers = await all(page, "eve@example.com");
    assert.ok(hers >= 1 && hers < denied, `${hers} of ${denied}`);
    await page.reload();
    assert.equal(await all(page, "eve@example.com"), hers);
    await page.getByRole("button", { name: "Clear filters" }).click();
    await page.getByLabel("From", { exact: true }).fill("2100-01-01T00:00");
    await page.getByText("No entry fits these filters").waitFor();
    await page.getByText("lantern audit list --since 2099-12-31T23:00:00.000Z").waitFor();
    await page.goto("/audit?until=2000-01-01&who=nobody");
    await page.getByText("No entry fits these filters").waitFor();
    await page.getByText("lantern audit list --until 2000-01-01T00:00:00.000Z").waitFor();
    assert.deepEqual(page.faults, []);
  });

  test("shows all of an entry, which has an address of its own", async () => {
    const { page, server } = world;
    const [entry] = await server.api("GET", "/v1/audit?action=agents.update");
    await page.goto("/audit");
    await page.getByRole("link", { name: "agents.update" }).click();
    await page.waitForURL(`**/audit?entry=${entry.id}`);
    const dialog = page.getByRole("dialog", { name: `Entry ${entry.id}` });
    for (const text of [entry.before, entry.after, entry.hash, entry.requestId, entry.principalId, entry.resource, "200", "127.0.0.1"]) await dialog.getByText(text, { exact: true }).waitFor();
    for (const theme of ["dark", "light"]) {
      await page.emulateMedia({ colorScheme: theme });
      assert.deepEqual(await axe(page), [], `an entry, ${theme}`);
    }
    // By its address alone, where the list has other entries.
    await page.goto(`/audit?outcome=denied&entry=${entry.id}`);
    await dialog.getByText(entry.hash).waitFor();
    await dialog.getByRole("button", { name: "Only of them" }).click();
    await page.waitForURL(`**/audit?*who=${entry.principalId}*`);
    await dialog.waitFor({ state: "detached" });
    await page.goto("/audit?entry=999999");
    await page.getByText("The log has no such entry.").waitFor();
    await page.keyboard.press("Escape");
    await page.waitForURL("**/audit");
    assert.deepEqual(page.faults, []);
  });

  test("comes in pages", async () => {
    const { page, server } = world;
    for (let n = 0; n < 60; n++) await server.api("POST", "/v1/agents", { ...HELPER, name: `helper-${n}` });
    await page.goto("/audit?action=agents.create");
    await page.getByRole("button", { name: "Show more" }).click();
    await page.getByRole("link", { name: "agents.create" }).nth(60).waitFor();
    assert.equal(await rows(page).count(), 61);
    await page.getByRole("button", { name: "Show more" }).waitFor({ state: "detached" });
    assert.deepEqual(page.faults, []);
  });

  test("is taken away whole, and no address has a token", async () => {
    const { page, server } = world;
    const asked = [];
    page.on("request", (request) => asked.push(request.url()));
    await page.goto("/audit");
    for (const [name, format, type] of [["Export JSON Lines", "jsonl", "application/x-ndjson"], ["Export CSV", "csv", "text/csv"]]) {
      const coming = page.waitForEvent("download");
      await page.getByRole("button", { name }).click();
      const file = await coming;
      assert.equal(file.suggestedFilename(), `audit.${format}`);
      const saved = readFileSync(await file.path());
      const answer = await fetch(`${server.url}/v1/audit/export?format=${format}`, { headers: { Authorization: `Bearer ${server.token}` } });
      assert.ok(answer.headers.get("content-type").startsWith(type));
      // Nothing was done since but to look, and looking is no entry.
      assert.ok(saved.equals(Buffer.from(await answer.arrayBuffer())), format);
    }
    assert.ok(asked.every((url) => !/token|ticket|hlx_|eyJ/.test(url)));
    assert.deepEqual(page.faults, []);
  });

  test("is checked, and says which entry is not as it was written", async () => {
    const { page, server } = world;
    await page.goto("/audit");
    const card = page.getByRole("region", { name: "The chain" });
    await card.getByText("lantern audit verify", { exact: true }).waitFor();
    await card.getByRole("button", { name: "Check it" }).click();
    await card.locator("[data-chain=holds]").getByText(/^\d+ entries are as they were written$/).waitFor();
    for (const theme of ["dark", "light"]) {
      await page.emulateMedia({ colorScheme: theme });
      assert.deepEqual(await axe(page), [], `a log that holds, ${theme}`);
    }
    // As somebody does who can write to the database.
    const sql = "import sqlite3,sys; db=sqlite3.connect(sys.argv[1]); print(db.execute(\"UPDATE audit_entries SET action = 'agents.delete' WHERE action = 'agents.update'\").rowcount); db.commit()";
    assert.equal(execFileSync("python3", ["-c", sql, join(server.folder, "lantern.db")], { encoding: "utf8" }).trim(), "1");
    await card.getByRole("button", { name: "Check it" }).click();
    await card.locator("[data-chain=broken]").getByText("An entry is not as it was written").waitFor();
    await card.getByText(/^\d+: /).waitFor();
    await page.setViewportSize({ width: 390, height: 780 });
    await settled(page);
    await quiet(page);
    assert.ok((await page.evaluate(() => document.documentElement.scrollWidth - innerWidth)) <= 0, "too wide for a phone");
    assert.deepEqual(page.faults, []);
  });
});

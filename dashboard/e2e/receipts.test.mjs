// Receipts: checked by anybody in their own browser, exported and listed.
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import { axe, signIn } from "./browser.mjs";
import { group } from "./group.mjs";
import { HELPER, STEPS, until } from "./work.mjs";

group("receipts", (world) => {
  const golden = new URL("../../crates/verify/tests/golden/", import.meta.url);
  const fixture = (name) => readFileSync(new URL(name, golden));
  const keys = { name: "keys.json", mimeType: "application/json", buffer: fixture("keys.json") };
  const file = (buffer, name = "receipt.json") => ({ name, mimeType: "application/json", buffer });
  const choose = (page, what) => page.getByRole("region", { name: "Receipt file" }).locator("input[type=file]").setInputFiles(what);
  const verdict = (page, how) => page.locator(`[data-verdict=${how}]`).waitFor();
  const states = (page) => page.locator("[data-check]").evaluateAll((rows) => rows.map((row) => `${row.dataset.check} ${row.dataset.state}`));

  test("are checked by anybody, in the browser, without a request", async () => {
    const { page } = world;
    await page.goto("/proof");
    await page.waitForLoadState("networkidle");
    const asked = [];
    page.on("request", (request) => asked.push(request.url()));
    await page.context().setOffline(true);
    await choose(page, file(fixture("01-succeeded.json")));
    await verdict(page, "alone");
    assert.equal((await states(page)).filter((state) => state.endsWith(" holds")).length, 9);
    await page.getByRole("region", { name: "Keys that you trust" }).locator("input[type=file]").setInputFiles(keys);
    await verdict(page, "true");
    for (const name of ["02-cancelled.json", "05-failed.json", "10-failed.json"]) {
      await choose(page, file(fixture(name), name));
      await page.getByText(name).waitFor();
      await page.getByText(JSON.parse(fixture(name)).payload.runId).waitFor();
      await verdict(page, "true");
    }
    // What a receipt records of choices is looked at, and that it records nothing of caps is said.
    await choose(page, file(fixture("12-failed.json"), "12-failed.json"));
    await page.getByText("0 caps and 2 choices of a model were recorded, and looked at.").waitFor();
    await page.locator("[data-check=choices].holds").waitFor();
    await page.locator("[data-check=caps]", { hasText: "none recorded" }).waitFor();
    // A dollar more, an event less, a letter of the signature.
    const text = fixture("01-succeeded.json").toString();
    for (const [from, to, check, before] of [
      [/"costMicroUsd":\d+,"costUsd":[\d.]+/, '"costMicroUsd":1,"costUsd":0.000001', "signature", 2],
      [/\{"seq":2,.*?\},(?=\{"seq":3,)/, "", "chain", 5],
      [/"signature":"../, '"signature":"AA', "signature", 2],
      [/"algorithm"/, ' "algorithm"', "form", 0],
    ]) {
      const changed = text.replace(from, to);
      assert.notEqual(changed, text);
      await choose(page, file(Buffer.from(changed), `${check}.json`));
      await page.locator(`[data-check=${check}][data-state=fails]`).waitFor();
      await verdict(page, "false");
      assert.equal((await states(page)).filter((state) => state.endsWith(" holds")).length, before, check);
    }
    await page.getByRole("button", { name: "Forget them" }).click();
    await page.getByLabel("Or a key in base64").fill("u3ceIW8LqyVL7h9czGH3L/ZSq7VOgLhWsToX2cjq/3Q=");
    await page.getByRole("button", { name: "Use", exact: true }).click();
    await choose(page, file(Buffer.from(text)));
    await verdict(page, JSON.parse(text).keyId === "0bf8c9bac81142f5" ? "true" : "false");
    assert.deepEqual(asked, []);
    await page.context().setOffline(false);
    assert.deepEqual(page.faults, []);
  });

  test("of a run are exported, checked and listed", async () => {
    const { page, server } = world;
    await server.api("POST", "/v1/agents", HELPER);
    const { id } = await server.api("POST", "/v1/runs", { agentName: "helper", input: "What is 2*3?" });
    await until(server, id, "succeeded");
    for (const from = Date.now(); (await server.api("GET", "/v1/receipts")).length === 0 && Date.now() - from < 10_000; ) await new Promise((resolve) => setTimeout(resolve, 50));
    await signIn(page, server.ready.login);
    await page.goto("/receipts");
    await page.getByRole("link", { name: "helper" }).click();
    await page.waitForURL(`**/runs/${id}?tab=receipt`);
    await page.getByRole("button", { name: "Check it here" }).click();
    await verdict(page, "true");
    await page.locator(".verdict").getByText("0 of 1").waitFor();
    const coming = page.waitForEvent("download");
    await page.getByRole("button", { name: "Download" }).click();
    const saved = readFileSync(await (await coming).path());
    const answer = await fetch(`${server.url}/v1/runs/${id}/receipt/file`, { headers: { Authorization: `Bearer ${server.token}` } });
    assert.ok(saved.equals(Buffer.from(await answer.arrayBuffer())));
    // The file, on the page for anybody, by the keys of this server.
    await page.goto("/proof");
    await choose(page, file(saved));
    await verdict(page, "alone");
    await page.getByRole("button", { name: "Ask this server for its keys" }).click();
    await verdict(page, "true");
    for (const theme of ["light", "dark"]) {
      await page.emulateMedia({ colorScheme: theme });
      assert.deepEqual(await axe(page), [], `a receipt that holds, ${theme}`);
      await choose(page, file(Buffer.from(saved.toString().replace('"status":"succeeded"', '"status":"failed"'))));
      await verdict(page, "false");
      assert.deepEqual(await axe(page), [], `a receipt that does not, ${theme}`);
      await choose(page, file(saved));
      await verdict(page, "true");
    }
    assert.deepEqual(page.faults, []);
  });

  test("of a run that goes on are not there yet", async () => {
    const { page, server } = world;
    await server.api("POST", "/v1/agents", STEPS.waits);
    const { id } = await server.api("POST", "/v1/runs", { agentName: "waits" });
    await page.goto(`/runs/${id}?tab=receipt`);
    await page.getByText("A run has its receipt when it is over.").waitFor();
    await server.api("POST", `/v1/runs/${id}/cancel`, {});
    await page.getByRole("button", { name: "Check it here" }).click();
    await verdict(page, "true");
    assert.deepEqual(page.faults, []);
  });
});

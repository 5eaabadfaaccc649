// What pages say beside what they show: whose a cap is, which step a fork begins with, and why a number is missing.
import assert from "node:assert/strict";
import { test } from "node:test";
import { axe, signIn } from "./browser.mjs";
import { group, settled } from "./group.mjs";
import { HELPER, STEPS, until } from "./work.mjs";

group("what is said beside what is shown", (world) => {
  test("each cap has its owner's name, and says that runs count", async () => {
    const { page, server } = world;
    await signIn(page, server.ready.login);
    await server.api("POST", "/v1/agents", HELPER);
    const { key } = await server.api("POST", "/v1/api-keys", { name: "deploy pipeline", scopes: ["write"] });
    await server.api("POST", "/v1/settings/caps", { maxCostUsdPerDay: "5" });
    await server.api("POST", "/v1/settings/caps", { agentName: "helper", maxCostUsdPerDay: "2", maxCostUsdPerMonth: "20" });
    await server.api("POST", "/v1/settings/caps", { apiKeyId: key.id, maxCostUsdPerDay: "1" });
    await page.goto("/spending");
    await page.getByRole("heading", { name: "The workspace" }).waitFor();
    await page.getByRole("heading", { name: "Agent helper" }).waitFor();
    await page.getByRole("heading", { name: "Key deploy pipeline" }).waitFor();
    await page.getByText("Calls through the front doors and steps of runs draw from the same caps.").waitFor();
    assert.equal(await page.getByText("of $5.00").count(), 1);
    // Home shows the workspace's alone.
    await page.goto("/");
    await page.getByRole("heading", { name: "Spent, against caps" }).waitFor();
    await page.getByText("of $5.00").waitFor();
    assert.equal(await page.getByText("of $2.00").count(), 0);
    assert.deepEqual(page.faults, []);
  });

  test("a fork begins with the step that its dialog shows", async () => {
    const { page, server } = world;
    await server.api("POST", "/v1/agents", STEPS.squares);
    const { id } = await server.api("POST", "/v1/runs", { agentName: "squares", input: { numbers: [1, 2, 3] } });
    await until(server, id, "succeeded");
    await page.goto(`/runs/${id}`);
    await page.locator("[data-link=over]").waitFor();
    await page.getByRole("button", { name: "More", exact: true }).click();
    await page.getByRole("menuitem", { name: "Fork" }).click();
    const dialog = page.getByRole("dialog");
    assert.equal(await dialog.getByRole("combobox").inputValue(), "each");
    await dialog.getByText(`lantern runs fork ${id} --from each`, { exact: true }).waitFor();
    const asked = page.waitForRequest(`**/v1/runs/${id}/fork`);
    await dialog.getByRole("button", { name: "Fork" }).click();
    assert.deepEqual((await asked).postDataJSON(), { fromStep: "each" });
    await page.getByText("Fork of").waitFor();
    assert.deepEqual(page.faults, []);
  });

  test("a number that the list of receipts leaves out has its reason", async () => {
    const { page, server } = world;
    const ids = [];
    for (let n = 0; n < 4; n++) {
      const { id } = await server.api("POST", "/v1/runs", { agentName: "squares", input: { numbers: [n] } });
      await until(server, id, "succeeded");
      ids.push(id);
    }
    const listed = async () => (await server.api("GET", "/v1/receipts")).map(({ runId }) => runId);
    for (const from = Date.now(); !(await listed()).includes(ids[3]) && Date.now() - from < 10_000; ) await new Promise((resolve) => setTimeout(resolve, 50));
    const numbers = Object.fromEntries((await server.api("GET", "/v1/receipts")).map(({ runId, logIndex }) => [runId, logIndex]));
    await page.goto("/receipts");
    await page.getByRole("link", { name: "squares" }).first().waitFor();
    assert.equal(await page.getByText("was deleted").count(), 0);
    for (const id of ids.slice(1, 3)) await server.api("DELETE", `/v1/runs/${id}`);
    await page.reload();
    await settled(page);
    const [low, high] = [numbers[ids[1]], numbers[ids[2]]].sort((a, b) => a - b);
    await page.getByRole("row", { name: new RegExp(`^${low === high - 1 ? `${low} to ${high}` : low} Th.* deleted`) }).waitFor();
    assert.deepEqual(await axe(page), []);
    assert.deepEqual(page.faults, []);
  });
});

// Secrets: handed in once and never shown again, in versions, and put under another key.
import assert from "node:assert/strict";
import { test } from "node:test";
import { axe, openPage, signIn } from "./browser.mjs";
import { browser, group, quiet, settled } from "./group.mjs";
import { member } from "./work.mjs";

async function bothThemes(page, what) {
  for (const theme of ["dark", "light"]) {
    await page.emulateMedia({ colorScheme: theme });
    assert.deepEqual(await axe(page), [], `${what}, ${theme}`);
  }
}

/** All that this page's scripts hold on to after a collection, as the browser writes it down. */
async function heap(page) {
  const debug = await page.context().newCDPSession(page);
  let told = "";
  debug.on("HeapProfiler.addHeapSnapshotChunk", ({ chunk }) => (told += chunk));
  await debug.send("HeapProfiler.collectGarbage");
  await debug.send("HeapProfiler.takeHeapSnapshot", { reportProgress: false });
  await debug.detach();
  return told;
}

/** As a keyboard does it: the test itself leaves nothing of what it types in the page. */
async function type(page, field, text) {
  await field.click();
  await page.keyboard.type(text);
}

group("secrets", (world) => {
  const typed = "first-value-0123456789";
  test("are handed in once, and nothing keeps what was typed", async () => {
    const { page, server } = world;
    await signIn(page, server.ready.login);
    await page.goto("/secrets");
    await page.getByText("No secrets yet").waitFor();
    await page.getByText("lantern secrets set openai", { exact: true }).waitFor();
    await page.getByText("There is no key before there is a secret.").waitFor();
    await page.getByRole("button", { name: "New secret" }).click();
    const dialog = page.getByRole("dialog");
    await dialog.getByLabel("Name").fill("openai");
    await dialog.getByText("lantern secrets set openai --new", { exact: true }).waitFor();
    await type(page, dialog.getByLabel("Value"), typed);
    assert.equal(await dialog.getByLabel("Value").getAttribute("type"), "password");
    await bothThemes(page, "a new secret");
    const sent = page.waitForRequest((request) => request.method() === "PUT");
    await dialog.getByRole("button", { name: "Save" }).click();
    assert.equal((await sent).headers()["if-none-match"], "*");
    await dialog.waitFor({ state: "detached" });
    const card = page.getByRole("region", { name: "openai", exact: true });
    await card.getByText("lantern.secret://tenant/openai", { exact: true }).waitFor();
    await card.getByRole("row", { name: /^1 Counts/ }).waitFor();
    await page.getByRole("row", { name: /^1 1 / }).waitFor();
    assert.ok(!(await page.content()).includes(typed));
    const held = await heap(page);
    assert.ok(held.includes("lantern.secret://tenant/openai") && !held.includes(typed));
    // A name that is there already is refused, not taken for a new version of it.
    await page.getByRole("button", { name: "New secret" }).click();
    await dialog.getByLabel("Name").fill("openai");
    await type(page, dialog.getByLabel("Value"), "another");
    await dialog.getByRole("button", { name: "Save" }).click();
    await dialog.getByRole("alert").getByText("There is a secret openai already").waitFor();
    await dialog.getByRole("alert").getByText("version_mismatch").waitFor();
    await dialog.getByLabel("Name").fill("../<script>globalThis.owned=1</script>");
    await dialog.getByRole("button", { name: "Save" }).click();
    await dialog.getByRole("alert").getByText("invalid_body").waitFor();
    await page.keyboard.press("Escape");
    assert.equal(await page.evaluate(() => globalThis.owned), undefined);
    assert.deepEqual(page.faults, []);
  });

  test("have versions, of which the newest that is enabled counts", async () => {
    const { page } = world;
    const card = page.getByRole("region", { name: "openai", exact: true });
    const dialog = page.getByRole("dialog");
    await card.getByRole("button", { name: "New version" }).click();
    await dialog.getByText("lantern secrets set openai", { exact: true }).waitFor();
    await type(page, dialog.getByLabel("Value"), typed);
    await dialog.getByRole("button", { name: "Save" }).click();
    await page.getByText("That value counts already").waitFor();
    // A file is taken as it is; what is none is refused, and so are several lines in a field of one.
    await card.getByRole("button", { name: "New version" }).click();
    await dialog.getByLabel("Value").evaluate((field) => {
      const clipboardData = new DataTransfer();
      clipboardData.setData("text", "one\ntwo");
      field.dispatchEvent(new ClipboardEvent("paste", { clipboardData, bubbles: true, cancelable: true }));
    });
    await dialog.getByRole("alert").getByText("That has several lines").waitFor();
    assert.equal(await dialog.getByLabel("Value").inputValue(), "");
    const file = dialog.getByLabel("Or a file");
    await file.setInputFiles({ name: "key.bin", mimeType: "application/octet-stream", buffer: Buffer.from([0xff, 0xfe]) });
    await dialog.getByText("lantern secrets set openai --file key.bin", { exact: true }).waitFor();
    await dialog.getByRole("button", { name: "Save" }).click();
    await dialog.getByRole("alert").getByText("not_text").waitFor();
    await file.setInputFiles({ name: "key.pem", mimeType: "text/plain", buffer: Buffer.from("one\ntwo \u202e🏮\n") });
    const sent = page.waitForRequest((request) => request.method() === "PUT");
    await dialog.getByRole("button", { name: "Save" }).click();
    assert.deepEqual((await sent).postDataJSON(), { value: "one\ntwo \u202e🏮\n" });
    await card.getByRole("row", { name: /^2 Counts/ }).waitFor();
    await card.getByRole("row", { name: /^1 Enabled/ }).waitFor();
    await card.getByRole("button", { name: "Disable version 2" }).click();
    await dialog.getByText("lantern secrets disable openai 2", { exact: true }).waitFor();
    assert.equal(await dialog.getByText("No other version is enabled").count(), 0);
    await dialog.getByRole("button", { name: "Disable" }).click();
    await card.getByRole("row", { name: /^1 Counts/ }).waitFor();
    await card.getByText("lantern secrets enable openai 2", { exact: true }).waitFor();
    await card.getByRole("button", { name: "Delete version 1" }).click();
    await dialog.getByText("No other version is enabled").waitFor();
    await dialog.getByText("lantern secrets delete openai --only-version 1", { exact: true }).waitFor();
    await bothThemes(page, "a version that goes");
    await dialog.getByRole("button", { name: "Delete" }).click();
    await card.getByRole("row", { name: /^1 / }).waitFor({ state: "detached" });
    await page.getByRole("button", { name: /^openai none counts/ }).waitFor();
    await card.getByRole("button", { name: "Enable version 2" }).click();
    await card.getByRole("row", { name: /^2 Counts/ }).waitFor();
    assert.deepEqual(page.faults, []);
  });

  test("are put under another key while they are there", async () => {
    const { page, server } = world;
    const keys = page.getByRole("region", { name: "Keys that values are sealed under" });
    await keys.getByRole("button", { name: "Change keys" }).click();
    const dialog = page.getByRole("dialog");
    await dialog.getByText("lantern secrets rekey", { exact: true }).waitFor();
    await bothThemes(page, "a change of keys");
    await dialog.getByRole("button", { name: "Change keys" }).click();
    await page.getByText("Key 2 seals all secrets now: 1 value was sealed anew").waitFor();
    await keys.getByRole("row", { name: /^2 1 / }).waitFor();
    const known = await server.api("GET", "/v1/secret-keys");
    assert.deepEqual(known.map(({ version, sealed }) => [version, sealed]), [[2, 1]]);
    assert.deepEqual(page.faults, []);
  });

  test("say whose key they are, and go with what is said of that", async () => {
    const { page, server } = world;
    const script = `x"><img src=x onerror="globalThis.owned=1">`;
    await server.api("PUT", "/v1/secrets/openai", { value: "sk-not-a-real-key-0123456789" });
    await server.api("POST", "/v1/settings/llm-providers", { provider: "openai", apiKey: "lantern.secret://tenant/openai" });
    await server.api("PUT", "/v1/secrets/github", { value: script });
    await page.goto("/secrets?name=openai");
    const card = page.getByRole("region", { name: "openai", exact: true });
    await card.getByText("openai", { exact: true }).last().waitFor();
    for (const theme of ["dark", "light"]) {
      await page.emulateMedia({ colorScheme: theme });
      assert.deepEqual(await axe(page), [], `secrets, ${theme}`);
    }
    await card.getByRole("button", { name: "Delete", exact: true }).click();
    const dialog = page.getByRole("dialog");
    await dialog.getByText("It is the key of openai").waitFor();
    await dialog.getByText("lantern secrets delete openai", { exact: true }).waitFor();
    await dialog.getByRole("button", { name: "Delete" }).click();
    await page.getByRole("region", { name: "github", exact: true }).waitFor();
    assert.equal(await page.getByText("lantern.secret://tenant/openai").count(), 0);
    assert.ok(!(await page.content()).includes("onerror"));
    assert.deepEqual((await server.api("GET", "/v1/secrets")).map(({ name }) => name), ["github"]);
    await page.goto(`/secrets?name=${encodeURIComponent(script)}`);
    await page.getByRole("alert").first().waitFor();
    assert.equal(await page.evaluate(() => globalThis.owned), undefined);
    await page.goto("/secrets");
    await page.setViewportSize({ width: 390, height: 780 });
    await page.getByRole("region", { name: "github", exact: true }).waitFor();
    assert.ok((await page.evaluate(() => document.documentElement.scrollWidth - innerWidth)) <= 0);
    await page.setViewportSize({ width: 1280, height: 860 });
    assert.deepEqual(page.faults, []);
  });

  test("are shown to a member by name, and not offered to a viewer", async () => {
    const { server } = world;
    for (const role of ["member", "viewer"]) {
      const page = await openPage(browser(), server);
      await signIn(page, await member(server, `${role}@example.com`, role));
      await quiet(page);
      assert.equal(await page.getByRole("navigation").getByRole("link", { name: "Secrets" }).count(), role === "member" ? 1 : 0);
      await page.goto("/secrets");
      await settled(page);
      if (role === "member") await page.getByRole("region", { name: "github", exact: true }).waitFor();
      else await page.getByRole("alert").getByText("role_missing").waitFor();
      await quiet(page);
      assert.equal(await page.getByRole("button", { name: /New|Delete|Disable|Change keys/ }).count(), 0, role);
      await page.context().close();
      assert.deepEqual(page.faults, []);
    }
  });
});

// Signing in by an issuer: there, back, and in; and what is seen when that fails.
import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { axe, openPage } from "./browser.mjs";
import { browser } from "./group.mjs";
import { Issuer } from "./issuer.mjs";
import { Server } from "./server.mjs";

describe("an issuer", () => {
  const world = {};
  before(async () => {
    world.issuer = await new Issuer().start();
    world.server = await new Server(world.issuer.env).start();
    world.page = await openPage(browser(), world.server);
  });
  after(async () => {
    await world.page?.context().close();
    await world.server?.end();
    await world.issuer?.end();
  });

  test("is offered at the door, and leads to the page that was wanted", async () => {
    const { page } = world;
    await page.goto("/account");
    await page.waitForURL("**/sign-in*");
    await page.getByRole("button", { name: "Continue with Work" }).waitFor();
    assert.deepEqual(await axe(page), []);
    await page.getByRole("button", { name: "Continue with Work" }).click();
    await page.getByRole("link", { name: "That is me" }).click();
    await page.waitForURL("**/account");
    const card = page.getByRole("region", { name: "Linked accounts" });
    await card.getByRole("row").filter({ hasText: "admin@lantern.dev" }).waitFor();
    assert.deepEqual(await axe(page), []);
    const cookies = await page.context().cookies();
    assert.deepEqual(cookies.map((cookie) => cookie.name), ["lantern_session"]);
  });

  test("is linked by whoever has the password", async () => {
    const { page, issuer, server } = world;
    issuer.email = "other@example.com";
    await page.getByRole("button", { name: "Link Work" }).click();
    await page.getByRole("link", { name: "That is me" }).click();
    const dialog = page.getByRole("dialog");
    await dialog.getByLabel("Password").fill("not my password");
    await dialog.getByRole("button", { name: "Link", exact: true }).click();
    await dialog.getByRole("alert").getByText("wrong_password").waitFor();
    await dialog.getByLabel("Password").fill(server.ready.login.password);
    await dialog.getByRole("button", { name: "Link", exact: true }).click();
    const row = page.getByRole("row").filter({ hasText: "other@example.com" });
    await row.getByRole("button", { name: "Unlink" }).click();
    await dialog.getByText("lantern identities unlink").waitFor();
    await dialog.getByRole("button", { name: "Unlink" }).click();
    await row.waitFor({ state: "detached" });
  });

  test("that signs nobody in is told at the door", async () => {
    const { page, issuer } = world;
    await page.context().clearCookies();
    await page.goto("/sign-in");
    await page.getByRole("button", { name: "Continue with Work" }).click();
    await page.getByRole("link", { name: "No" }).click();
    await page.getByRole("alert").getByText("sso_denied").waitFor();
    issuer.email = "nobody@example.com";
    await page.getByRole("button", { name: "Continue with Work" }).click();
    await page.getByRole("link", { name: "That is me" }).click();
    await page.getByRole("alert").getByText("sso_no_account").waitFor();
    assert.deepEqual(await axe(page), []);
    // Gone back to, it signs nobody in either.
    await page.reload();
    await page.getByRole("alert").getByText(/sso_(expired|no_account)/).waitFor();
    assert.deepEqual(page.faults, []);
  });
});

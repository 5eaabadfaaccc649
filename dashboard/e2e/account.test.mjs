// One's own account: how one signs in, and where one is signed in.
import assert from "node:assert/strict";
import { test } from "node:test";
import { axe, openPage, signIn } from "./browser.mjs";
import { browser, group, settled } from "./group.mjs";
import { code } from "./totp.mjs";

/** Fills the door in, and knocks. */
async function knock(page, { email, password }, shown) {
  await page.getByLabel("Email").fill(email);
  await page.getByLabel("Password").fill(password);
  if (shown !== undefined) await page.getByLabel("Code of your authenticator app").fill(shown);
  await page.getByRole("button", { name: "Sign in" }).click();
}

async function leave(page) {
  await page.getByRole("button", { name: "Account" }).click();
  await page.getByRole("menuitem", { name: "Sign out", exact: true }).click();
  await page.waitForURL("**/sign-in");
}

async function bothThemes(page, what) {
  for (const theme of ["dark", "light"]) {
    await page.emulateMedia({ colorScheme: theme });
    assert.deepEqual(await axe(page), [], `${what}, ${theme}`);
  }
}

group("one's own account", (world) => {
  let codes;
  test("is not told to be over to somebody who never signed in", async () => {
    const { page } = world;
    for (const path of ["/", "/runs", "/account"]) {
      await page.goto(path);
      await page.waitForURL("**/sign-in*");
      await page.getByText("Agents that survive").waitFor();
      assert.equal(await page.getByText("Your sign-in is over").count(), 0, path);
    }
    assert.match(page.url(), /\/sign-in\?next=%2Faccount$/);
    assert.deepEqual(page.faults, []);
  });

  test("gets a second factor, whose secret and recovery codes are shown once", async () => {
    const { page, server } = world;
    await knock(page, server.ready.login);
    await page.waitForURL("**/account");
    const card = page.getByRole("region", { name: "Second factor" });
    await card.getByRole("button", { name: "Set up" }).click();
    const dialog = page.getByRole("dialog");
    await dialog.getByText("lantern totp enable").waitFor();
    await dialog.getByLabel("Your password").fill("not my password");
    await dialog.getByRole("button", { name: "Go on" }).click();
    await dialog.getByRole("alert").getByText("wrong_password").waitFor();
    await dialog.getByLabel("Your password").fill(server.ready.login.password);
    await dialog.getByRole("button", { name: "Go on" }).click();
    const secret = (await dialog.locator("[data-secret]").textContent()).trim();
    assert.match(secret, /^[A-Z2-7]{4}( [A-Z2-7]{4}){7}$/);
    assert.ok(await dialog.getByLabel("Code that the app shows now").evaluate((field) => field === document.activeElement));
    const picture = await dialog.getByRole("img", { name: "picture" }).boundingBox();
    assert.ok(picture.width >= 160 && Math.abs(picture.width - picture.height) < 1, JSON.stringify(picture));
    await bothThemes(page, "a secret");
    await dialog.getByLabel("Code that the app shows now").fill("000000");
    await dialog.getByRole("button", { name: "Turn on" }).click();
    await dialog.getByRole("alert").getByText("is not the code that the app shows now").first().waitFor();
    await dialog.getByLabel("Code that the app shows now").fill(code(secret));
    await dialog.getByRole("button", { name: "Turn on" }).click();
    await page.getByRole("heading", { name: "Your recovery codes" }).waitFor();
    codes = (await page.locator("[data-secret]").textContent()).trim().split("\n");
    assert.equal(codes.filter((one) => /^[A-Z2-7]{4}(-[A-Z2-7]{4}){3}$/.test(one)).length, 10, codes.join(" "));
    await bothThemes(page, "recovery codes");
    await page.getByRole("button", { name: "Close" }).click();
    await card.getByText("Recovery codes left").waitFor();
    const content = await page.content();
    assert.ok(!content.includes(secret) && !content.includes(secret.replaceAll(" ", "")) && !content.includes(codes[0]));
    await bothThemes(page, "an account");
    assert.deepEqual(page.faults, []);
  });

  test("is asked for a code at the door, and no code is good twice", async () => {
    const { page, server } = world;
    await leave(page);
    await knock(page, server.ready.login);
    await page.getByRole("alert").getByText("second_factor_required").waitFor();
    await bothThemes(page, "the door, with a code");
    await knock(page, server.ready.login, codes[0]);
    await page.getByRole("heading", { name: "Home", level: 1 }).waitFor();
    await leave(page);
    await knock(page, server.ready.login);
    await page.getByRole("alert").getByText("second_factor_required").waitFor();
    await knock(page, server.ready.login, codes[0]);
    await page.getByRole("alert").getByText("wrong_code").waitFor();
    await knock(page, server.ready.login, codes[1]);
    await page.getByRole("heading", { name: "Home", level: 1 }).waitFor();
    await page.goto("/account");
    const card = page.getByRole("region", { name: "Second factor" });
    await card.getByText("8", { exact: true }).waitFor();
    await card.getByRole("button", { name: "Turn off" }).click();
    await page.getByRole("dialog").getByText("lantern totp disable").waitFor();
    await page.getByRole("dialog").getByLabel("Your password").fill(server.ready.login.password);
    await page.getByRole("dialog").getByRole("button", { name: "Turn off" }).click();
    await card.getByText("You sign in with your password alone").waitFor();
    await leave(page);
    await signIn(page, server.ready.login);
    assert.deepEqual(page.faults, []);
  });

});

// Another server: tries at one door are limited by the minute.
group("where one is signed in", (world) => {
  test("is shown, and ended", async () => {
    const { page, server } = world;
    await signIn(page, server.ready.login);
    const other = await server.ask("POST", "/auth/login", server.ready.login, { "User-Agent": "lantern/9.9 (a laptop)" });
    await page.goto("/account");
    const card = page.getByRole("region", { name: "Where you are signed in" });
    await card.getByRole("row", { name: /Chrome, Linux.*127\.0\.0\.1.*this one/ }).waitFor();
    await card.getByRole("row", { name: /a laptop/ }).getByRole("button", { name: "End" }).click();
    await page.getByRole("dialog").getByText(/lantern logins end [0-9a-f-]{36}/).waitFor();
    await page.getByRole("dialog").getByRole("button", { name: "End" }).click();
    await card.getByRole("row", { name: /a laptop/ }).waitFor({ state: "detached" });
    const answer = await fetch(`${server.url}/auth/me`, { headers: { Authorization: `Bearer ${other.token}` } });
    assert.equal(answer.status, 401);
    assert.deepEqual(page.faults, []);
  });

  test("ends with the password, but for the page that changed it", async () => {
    const { page, server } = world;
    const other = await openPage(browser(), server, { width: 390, height: 780 });
    await signIn(other, server.ready.login);
    await other.goto("/account");
    await settled(other);
    assert.ok((await other.evaluate(() => document.documentElement.scrollWidth - innerWidth)) <= 0, "too wide for a phone");
    const next = "another horse battery";
    await page.getByRole("button", { name: "Change password" }).click();
    const dialog = page.getByRole("dialog");
    await dialog.getByLabel("Your password").fill("wrong");
    await dialog.getByLabel("New password").fill(next);
    await dialog.getByLabel("The same again").fill(next);
    await dialog.getByRole("button", { name: "Change password" }).click();
    await dialog.getByRole("alert").getByText("wrong_password").waitFor();
    await dialog.getByLabel("Your password").fill(server.ready.login.password);
    await dialog.getByRole("button", { name: "Change password" }).click();
    await page.getByText("Password changed").waitFor();
    await other.reload();
    await other.waitForURL("**/sign-in*");
    await signIn(other, { ...server.ready.login, password: next });
    await other.goto("/account");
    await other.getByRole("button", { name: "Sign out everywhere" }).click();
    await other.getByRole("dialog").getByText("lantern logout --everywhere").waitFor();
    await other.getByRole("dialog").getByRole("button", { name: "Sign out everywhere" }).click();
    await other.waitForURL("**/sign-in");
    await page.reload();
    await page.waitForURL("**/sign-in*");
    for (const one of [page, other]) assert.deepEqual(one.faults, []);
    await other.context().close();
  });
});

// The people of a workspace: invited, given roles, removed; what each may, and how each signs in.
import assert from "node:assert/strict";
import { test } from "node:test";
import { axe, openPage, signIn } from "./browser.mjs";
import { browser, group, quiet, settled } from "./group.mjs";
import { member } from "./work.mjs";

const PASSWORD = "correct horse battery";

/** Whoever opens a link that they were handed: nobody who is signed in. */
async function opens(server, link, options) {
  const page = await openPage(browser(), server, options);
  await page.goto(link);
  await settled(page);
  return page;
}

/** Chooses what is done about a member of the list. */
async function act(page, email, action) {
  await page.getByRole("button", { name: `Actions for ${email}` }).click();
  await page.getByRole("menuitem", { name: action, exact: true }).click();
  return page.getByRole("dialog");
}

/** Asks the API as the person of this page, past all that the page offers. */
const forced = (page, method, path, body) =>
  page.evaluate(
    async ([method, path, body]) => {
      const answer = await fetch(path, { method, headers: { "X-Lantern-Page": "1", "Content-Type": "application/json" }, body: body && JSON.stringify(body) });
      return [answer.status, (await answer.json().catch(() => ({}))).code];
    },
    [method, path, body],
  );

group("members", (world) => {
  let link;
  test("are invited by a link that is shown once", async () => {
    const { page, server } = world;
    await signIn(page, server.ready.login);
    await page.goto("/members");
    await page.getByText("Nobody else is here").waitFor();
    await page.getByRole("button", { name: "Invite somebody" }).click();
    await page.getByLabel("Their address").fill("ada@example.com");
    await page.getByLabel("Role").selectOption("admin");
    await page.getByText("lantern members invite ada@example.com --role admin", { exact: true }).waitFor();
    await page.getByRole("button", { name: "Make invitation" }).click();
    link = (await page.locator("[data-secret]").textContent()).trim();
    assert.match(link, new RegExp(`^${server.url}/invitation#hlx_inv_[\\w-]+$`));
    for (const theme of ["light", "dark"]) {
      await page.emulateMedia({ colorScheme: theme });
      assert.deepEqual(await axe(page), [], `the link, ${theme}`);
    }
    await page.emulateMedia({ colorScheme: "light" });
    await page.getByRole("button", { name: "Close" }).click();
    await page.getByRole("table", { name: "Invitations that wait" }).getByRole("cell", { name: "ada@example.com" }).waitFor();
    assert.ok(!(await page.content()).includes("hlx_inv_"));
    assert.deepEqual(page.faults, []);
  });

  test("come in by it once, with a cookie and without a token", async () => {
    const { page, server } = world;
    const asked = [];
    const ada = await openPage(browser(), server);
    ada.on("request", (request) => asked.push(request.url()));
    const answers = [];
    ada.on("response", (answer) => answers.push(answer));
    await ada.goto(link);
    await ada.getByRole("heading", { name: "You are invited" }).waitFor();
    assert.equal(ada.url(), `${server.url}/invitation`);
    for (const theme of ["light", "dark"]) {
      await ada.emulateMedia({ colorScheme: theme });
      assert.deepEqual(await axe(ada), [], `an invitation, ${theme}`);
    }
    await ada.getByLabel("Your name").fill("Ada");
    await ada.getByLabel("New password").fill(PASSWORD);
    await ada.getByLabel("The same again").fill("correct horse batterz");
    await ada.getByRole("button", { name: "Come in" }).click();
    assert.equal(await ada.getByLabel("The same again").evaluate((field) => field.validationMessage), "The two are not the same");
    await ada.getByLabel("The same again").fill(PASSWORD);
    await ada.getByRole("button", { name: "Come in" }).click();
    await ada.getByRole("heading", { name: "Home", level: 1 }).waitFor();
    assert.deepEqual((await ada.context().cookies()).map(({ name, httpOnly }) => [name, httpOnly]), [["lantern_session", true]]);
    assert.ok(asked.every((url) => !url.includes("hlx_inv_")), "no address that is asked for has the slip");
    for (const answer of answers.filter((one) => one.url().includes("/auth/"))) assert.doesNotMatch(await answer.text(), /"token"|eyJ|hlx_/);
    assert.equal(await ada.evaluate(() => JSON.stringify([{ ...localStorage }, { ...sessionStorage }, history.state])).then((kept) => /hlx_|eyJ/.test(kept)), false);
    await page.goto("/members");
    await page.getByRole("table", { name: "Members" }).getByRole("row", { name: /Ada.*ada@example\.com.*Admin/ }).waitFor();
    await page.getByText("No invitation waits").waitFor();
    const late = await opens(server, link);
    await late.getByLabel("New password").fill(PASSWORD);
    await late.getByLabel("The same again").fill(PASSWORD);
    await late.getByRole("button", { name: "Come in" }).click();
    await late.getByRole("alert").getByText("invalid_invitation").waitFor();
    for (const one of [ada, late]) {
      assert.deepEqual(one.faults, []);
      await one.context().close();
    }
  });

  test("whose invitation is taken back do not come in", async () => {
    const { page, server } = world;
    const { token } = await server.api("POST", "/v1/invitations", { email: "bob@example.com", role: "viewer" });
    await page.goto("/members");
    await page.getByRole("button", { name: "Take back" }).click();
    await page.getByRole("dialog").getByText("lantern members withdraw").waitFor();
    await page.getByRole("dialog").getByRole("button", { name: "Take back" }).click();
    await page.getByText("No invitation waits").waitFor();
    // Without what stands behind the #, the link itself is asked for.
    const bob = await opens(server, "/invitation");
    await bob.getByLabel("Link", { exact: false }).fill(`${server.url}/invitation#${token}`);
    await bob.getByLabel("New password").fill(PASSWORD);
    await bob.getByLabel("The same again").fill(PASSWORD);
    await bob.getByRole("button", { name: "Come in" }).click();
    await bob.getByRole("alert").getByText("invalid_invitation").waitFor();
    assert.deepEqual(bob.faults, []);
    await bob.context().close();
  });

  test("get another role, but the last owner stays one", async () => {
    const { page, server } = world;
    await page.goto("/members");
    let dialog = await act(page, "ada@example.com", "Change role");
    await dialog.getByLabel("Role").selectOption("member");
    await dialog.getByText(/lantern members role [0-9a-f-]{36} member/).waitFor();
    await dialog.getByRole("button", { name: "Change role" }).click();
    await page.getByRole("row", { name: /ada@example\.com.*Member/ }).waitFor();
    dialog = await act(page, server.ready.login.email, "Change role");
    await dialog.getByLabel("Role").selectOption("admin");
    await dialog.getByRole("button", { name: "Change role" }).click();
    await dialog.getByRole("alert").getByText("last_owner").waitFor();
    await dialog.getByText("Make somebody else an owner first").waitFor();
    await page.keyboard.press("Escape");
    dialog = await act(page, server.ready.login.email, "Remove");
    await dialog.getByText("With --force it does not ask").waitFor();
    await dialog.getByRole("button", { name: "Remove" }).click();
    await dialog.getByRole("alert").getByText("last_owner").waitFor();
    await page.keyboard.press("Escape");
    // One's own password is changed with the old one, not reset.
    await page.getByRole("button", { name: `Actions for ${server.ready.login.email}` }).click();
    assert.equal(await page.getByRole("menuitem", { name: "Make a password reset" }).count(), 0);
    await page.keyboard.press("Escape");
    assert.deepEqual(page.faults, []);
  });

  test("choose another password by a link, once", async () => {
    const { page, server } = world;
    await page.goto("/members");
    const dialog = await act(page, "ada@example.com", "Make a password reset");
    await dialog.getByRole("button", { name: "Make a password reset" }).click();
    const reset = (await page.locator("[data-secret]").textContent()).trim();
    assert.match(reset, new RegExp(`^${server.url}/reset#hlx_rst_[\\w-]+$`));
    await page.getByRole("button", { name: "Close" }).click();
    const ada = await opens(server, reset);
    assert.equal(ada.url(), `${server.url}/reset`);
    for (const theme of ["light", "dark"]) {
      await ada.emulateMedia({ colorScheme: theme });
      assert.deepEqual(await axe(ada), [], `a reset, ${theme}`);
    }
    await ada.getByLabel("New password").fill("another horse battery");
    await ada.getByLabel("The same again").fill("another horse battery");
    await ada.getByRole("button", { name: "Set password" }).click();
    await ada.getByRole("link", { name: "Sign in" }).click();
    await signIn(ada, { email: "ada@example.com", password: "another horse battery" });
    const again = await opens(server, reset);
    await again.getByLabel("New password").fill(PASSWORD);
    await again.getByLabel("The same again").fill(PASSWORD);
    await again.getByRole("button", { name: "Set password" }).click();
    await again.getByRole("alert").getByText("invalid_reset_token").waitFor();
    await again.context().close();
    // Who is removed is out, on the page that is open.
    await (await act(page, "ada@example.com", "Remove")).getByRole("button", { name: "Remove" }).click();
    await page.getByText("Nobody else is here").waitFor();
    await ada.waitForURL("**/sign-in*");
    await ada.getByText("Your sign-in is over").waitFor();
    for (const one of [page, ada, again]) assert.deepEqual(one.faults, []);
    await ada.context().close();
  });

  test("are shown to a viewer, who is offered nothing and refused what is forced", async () => {
    const { page, server } = world;
    const viewer = await member(server, "eve@example.com", "viewer", "Eve");
    const admin = await member(server, "zoe@example.com", "admin", "Zoe");
    const theirs = await openPage(browser(), server);
    await signIn(theirs, viewer);
    await theirs.goto("/members");
    await theirs.getByRole("row", { name: /eve@example\.com.*Viewer/ }).waitFor();
    await quiet(theirs);
    for (const role of ["button", "region"]) assert.equal(await theirs.getByRole(role, { name: /Invite|Actions for|Invitations/ }).count(), 0);
    assert.deepEqual(await forced(theirs, "POST", "/v1/invitations", { email: "x@example.com" }), [403, "role_missing"]);
    assert.deepEqual(await forced(theirs, "PATCH", `/v1/members/${viewer.id}`, { role: "owner" }), [403, "role_missing"]);
    assert.deepEqual(await forced(theirs, "DELETE", `/v1/members/${admin.id}`), [403, "role_missing"]);
    assert.deepEqual(theirs.faults, []);
    await theirs.context().close();
    // An admin is offered nothing about an owner, and no role above their own.
    const hers = await openPage(browser(), server);
    await signIn(hers, admin);
    await hers.goto("/members");
    await hers.getByRole("button", { name: "Actions for eve@example.com" }).waitFor();
    assert.equal(await hers.getByRole("button", { name: `Actions for ${server.ready.login.email}` }).count(), 0);
    const dialog = await act(hers, "eve@example.com", "Change role");
    assert.deepEqual(await dialog.getByRole("option").allTextContents(), ["Viewer", "Member", "Admin"]);
    await hers.keyboard.press("Escape");
    assert.deepEqual(await forced(hers, "PATCH", `/v1/members/${viewer.id}`, { role: "owner" }), [403, "role_above"]);
    assert.deepEqual(hers.faults, []);
    await hers.context().close();
    await page.goto("/members");
    await page.getByRole("row", { name: /zoe@example\.com/ }).waitFor();
    for (const theme of ["light", "dark"]) {
      await page.emulateMedia({ colorScheme: theme });
      await page.getByRole("button", { name: "Actions for eve@example.com" }).click();
      await page.getByRole("menuitem").first().waitFor();
      await page.keyboard.press("Escape");
      assert.deepEqual(await axe(page), [], `members, ${theme}`);
    }
    await page.setViewportSize({ width: 390, height: 780 });
    assert.ok((await page.evaluate(() => document.documentElement.scrollWidth - innerWidth)) <= 0);
    assert.deepEqual(page.faults, []);
  });
});

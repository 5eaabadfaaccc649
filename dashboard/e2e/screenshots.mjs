// Pictures of every page with a small real history, in both themes: `node e2e/screenshots.mjs ../docs/dashboard`, or with names
// behind it of those that are wanted alone: `… secrets approvals`.
import { mkdirSync } from "node:fs";
import { join } from "node:path";
import { openBrowser, openPage, signIn } from "./browser.mjs";
import { Provider } from "./provider.mjs";
import { Server } from "./server.mjs";
import { PAID, history, people, secrets, until } from "./work.mjs";

const folder = process.argv[2] ?? "e2e/dist";
const names = process.argv.slice(3);
const wanted = (name) => names.length === 0 || names.includes(name);
mkdirSync(folder, { recursive: true });
const server = await new Server().start();
const browser = await openBrowser();
try {
  const ids = await history(server);
  await people(server);
  await secrets(server);
  await server.api("POST", "/v1/settings/caps", { agentName: "helper", maxCostUsdPerDay: "2" });
  const deploys = (await server.api("GET", "/v1/api-keys")).find(({ name }) => name === "deploy pipeline");
  await server.api("POST", "/v1/settings/caps", { apiKeyId: deploys.id, maxCostUsdPerDay: "1" });
  // An entry that says what was there before and after.
  const [changed] = await server.api("GET", "/v1/audit?action=agents.update");
  const pages = {
    home: "/", runs: "/runs", run: `/runs/${ids.squares}?step=each`, "run-model": `/runs/${ids.helper}?step=llm-1`, "run-waiting": `/runs/${ids.release}`,
    "run-failed": `/runs/${ids.breaks}`, "run-events": `/runs/${ids.digest}?tab=events`, "run-output": `/runs/${ids.digest}?tab=input`, approvals: "/approvals",
    agents: "/agents", "agent-versions": "/agents/helper?tab=versions", "agent-edit": "/agents/helper?tab=edit", sessions: "/sessions", session: `/sessions/${ids.session}`,
    "run-receipt": `/runs/${ids.helper}?tab=receipt`, "run-compare": `/runs/${ids.helper}?tab=compare&with=${ids.other}`, receipts: "/receipts", proof: "/proof", "proof-false": "/proof", "run-start": "/runs?start=1&agent=helper",
    providers: "/providers", spending: "/spending", calls: "/calls", keys: "/keys", secrets: "/secrets?name=openai", "secret-new": "/secrets?name=openai", settings: "/settings",
    members: "/members", "member-invited": "/members", invitation: "/invitation", account: "/account", "account-code": "/account", audit: "/audit", "audit-chain": "/audit?action=agents.update", "audit-entry": `/audit?entry=${changed.id}`,
  };
  const file = await fetch(`${server.url}/v1/runs/${ids.helper}/receipt/file`, { headers: { Authorization: `Bearer ${server.token}` } });
  const receipt = { name: "receipt.json", mimeType: "application/json", buffer: Buffer.from(await file.arrayBuffer()) };
  // What a page shows once something was done on it.
  const does = {
    "run-receipt": async (page) => (await page.getByRole("button", { name: "Check it here" }).click(), page.locator("[data-verdict=true]").waitFor()),
    "proof-false": async (page) => {
      await page.locator(".drop input").setInputFiles({ ...receipt, buffer: Buffer.from(receipt.buffer.toString().replace(/"tokensOut":\d+/, '"tokensOut":1')) });
      await page.locator("[data-verdict=false]").waitFor();
    },
    "member-invited": async (page) => {
      await page.getByRole("button", { name: "Invite somebody" }).click();
      await page.getByLabel("Their address").fill("barbara@example.com");
      await page.getByRole("button", { name: "Make invitation" }).click();
      await page.locator("[data-secret]").waitFor();
    },
    "secret-new": async (page) => {
      await page.getByRole("button", { name: "New version" }).click();
      await page.getByRole("dialog").waitFor();
    },
    "account-code": async (page) => {
      await page.getByRole("button", { name: "Set up" }).click();
      await page.getByLabel("Your password").fill(server.ready.login.password);
      await page.getByRole("button", { name: "Go on" }).click();
      await page.locator("[data-secret]").waitFor();
    },
    "audit-chain": (page) => page.getByRole("button", { name: "Check it" }).click(),
    proof: async (page) => {
      await page.locator(".drop input").setInputFiles(receipt);
      await page.getByRole("button", { name: "Ask this server for its keys" }).click();
      await page.locator("[data-verdict=true]").waitFor();
    },
  };
  const whole = new Set(["proof", "proof-false", "run-receipt", "run-compare", "account", "secrets"]);
  for (const theme of ["light", "dark"]) {
    const page = await openPage(browser, server, { theme });
    await page.goto("/sign-in");
    await page.getByRole("button", { name: "Sign in" }).waitFor();
    if (wanted("sign-in")) await page.screenshot({ path: join(folder, `sign-in-${theme}.png`) });
    await signIn(page, server.ready.login);
    for (const [name, path] of Object.entries(pages).filter(([name]) => wanted(name))) {
      await page.goto(path);
      await page.getByRole("heading", { level: 1 }).waitFor();
      await page.waitForLoadState("load");
      await does[name]?.(page);
      await page.waitForTimeout(700);
      // Those that are longer than a window are taken in a higher one.
      if (whole.has(name)) {
        await page.setViewportSize({ width: 1280, height: 1400 });
        await page.evaluate(() => scrollTo(0, 0));
      }
      await page.screenshot({ path: join(folder, `${name}-${theme}.png`) });
      if (whole.has(name)) await page.setViewportSize({ width: 1280, height: 860 });
    }
    if (wanted("palette")) {
      await page.goto("/");
      await page.getByRole("heading", { level: 1 }).waitFor();
      await page.keyboard.press("Control+k");
      await page.getByRole("combobox").fill("ru");
      await page.screenshot({ path: join(folder, `palette-${theme}.png`) });
    }
    if (wanted("agent-new")) {
      await page.goto("/agents?create=1");
      await page.getByRole("dialog").waitFor();
      await page.waitForTimeout(300);
      await page.screenshot({ path: join(folder, `agent-new-${theme}.png`) });
    }
    if (page.faults.length > 0) console.error(page.faults);
    await page.context().close();
  }
  const phone = await openPage(browser, server, { width: 390, height: 780 });
  await signIn(phone, server.ready.login);
  for (const name of ["home", "runs", "run", "approvals", "session", "members", "account", "audit", "secrets"].filter(wanted)) {
    await phone.goto(pages[name]);
    await phone.getByRole("heading", { level: 1 }).waitFor();
    await phone.waitForTimeout(700);
    await phone.screenshot({ path: join(folder, `${name}-phone.png`) });
  }
  if (wanted("approval-budget") || wanted("agent-budget")) await budgets();
} finally {
  await browser.close();
  await server.end();
}

/** A budget that is reached, on a server of its own: there models cost something. */
async function budgets() {
  const vendor = await new Provider().start();
  const paid = await new Server(vendor.env).start();
  try {
    await paid.api("POST", "/v1/agents", PAID);
    await paid.api("POST", "/v1/settings/caps", { maxCostUsdPerDay: "5", maxCostUsdPerMonth: "80" });
    const run = async () => (await paid.api("POST", "/v1/runs", { agentName: PAID.name, input: {} })).id;
    await until(paid, await run(), "succeeded");
    await paid.api("PUT", `/v1/agents/${PAID.name}/budget`, { maxCostUsdPerDay: "0.001", maxCostUsdPerMonth: "0.02", maxCostUsdPerRun: "0.01", hardFail: false, onLimit: "ask" });
    for (let n = 0; n < 3; n++) await until(paid, await run(), "paused");
    for (const [theme, width, name] of [["light", 1280], ["dark", 1280], ["light", 390, "phone"]]) {
      const page = await openPage(browser, paid, { theme, width, height: width > 400 ? 860 : 780 });
      await signIn(page, paid.ready.login);
      await page.goto("/approvals");
      await page.getByRole("textbox").fill("0.50");
      await page.waitForTimeout(700);
      if (wanted("approval-budget")) await page.screenshot({ path: join(folder, `approval-budget-${name ?? theme}.png`) });
      await page.goto(`/agents/${PAID.name}?tab=budget`);
      await page.waitForTimeout(700);
      if (wanted("agent-budget")) await page.screenshot({ path: join(folder, `agent-budget-${name ?? theme}.png`) });
      await page.context().close();
    }
  } finally {
    await paid.end();
    await vendor.end();
  }
}

// A browser with nobody's history, and what tests ask of its pages.
import { existsSync } from "node:fs";
import { createRequire } from "node:module";
import { readFileSync } from "node:fs";
import { chromium } from "playwright-core";

const NAMES = ["/usr/bin/chromium", "/usr/bin/chromium-browser", "/usr/bin/google-chrome"];
const executablePath = process.env.CHROMIUM ?? NAMES.find((name) => existsSync(name));
const AXE = readFileSync(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");

export async function openBrowser(more = []) {
  if (!executablePath) throw new Error("no Chromium here: install Debian's package `chromium`, or name one in CHROMIUM");
  return chromium.launch({
    executablePath,
    args: ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-sync", ...more],
  });
}

/** A page of its own, which fails the test on any error that it reports. */
export async function openPage(browser, server, { theme = "light", width = 1280, height = 860 } = {}) {
  const context = await browser.newContext({ baseURL: server.url, viewport: { width, height }, colorScheme: theme, timezoneId: "Europe/Berlin", locale: "en-GB" });
  const page = await context.newPage();
  page.faults = [];
  page.on("pageerror", (error) => page.faults.push(`error: ${error.message}`));
  page.on("console", (message) => {
    const text = message.text();
    // The browser says so by itself when an answer is an error or a connection breaks; tests break both on purpose.
    if (message.type() === "error" && !text.startsWith("Failed to load resource")) page.faults.push(`console: ${text}`);
  });
  page.setDefaultTimeout(15_000);
  return page;
}

export async function signIn(page, { email, password }) {
  await page.goto("/sign-in");
  await page.getByLabel("Email").fill(email);
  await page.getByLabel("Password").fill(password);
  await page.getByRole("button", { name: "Sign in" }).click();
  await page.getByRole("heading", { name: "Home", level: 1 }).waitFor();
}

/** What axe finds wrong on this page. The pages' policy forbids to inject it, so the browser itself evaluates it. */
export async function axe(page) {
  await page.evaluate(AXE);
  const found = await page.evaluate(() =>
    globalThis.axe.run(document, { runOnly: ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"], resultTypes: ["violations"] }),
  );
  return found.violations.map(({ id, help, nodes }) => `${id}: ${help}\n${nodes.map((node) => `    ${node.target} ${node.failureSummary?.split("\n")[1] ?? ""}`).join("\n")}`);
}

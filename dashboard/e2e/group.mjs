// What the tests of the pages share: one browser for each file of tests, and one server for each group.
import { after, before, describe } from "node:test";
import { openBrowser, openPage } from "./browser.mjs";
import { Provider } from "./provider.mjs";
import { Server } from "./server.mjs";

let opened;
before(async () => {
  opened = await openBrowser();
});
after(() => opened?.close());

/** The browser of this file of tests. */
export const browser = () => opened;

/** One server with a page of somebody signed in, for the tests of one group; `vendor`: with models that cost something. */
export function group(name, tests, { vendor = false } = {}) {
  describe(name, () => {
    const world = {};
    before(async () => {
      if (vendor) world.vendor = await new Provider().start();
      world.server = await new Server(world.vendor?.env).start();
      world.page = await openPage(opened, world.server);
    });
    after(async () => {
      await world.page?.context().close();
      await world.server?.end();
      await world.vendor?.end();
    });
    tests(world);
  });
}

export const settled = (page) => page.getByRole("heading", { level: 1 }).waitFor();
/** Until nothing is asked any more, or what is asked never ends, as a stream does. */
export const quiet = (page) => page.waitForLoadState("networkidle", { timeout: 1_200 }).catch(() => {});

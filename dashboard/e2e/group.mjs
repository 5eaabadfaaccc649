// What the tests of the pages share: one browser for each file of tests, and one server for each group.
import { after, before, describe } from "node:test";
import { openBrowser, openPage } from "./browser.mjs";
import { Server } from "./server.mjs";

let opened;
before(async () => {
  opened = await openBrowser();
});
after(() => opened?.close());

/** The browser of this file of tests. */
export const browser = () => opened;

/** One server with a page of somebody signed in, for the tests of one group. */
export function group(name, tests) {
  describe(name, () => {
    const world = {};
    before(async () => {
      world.server = await new Server().start();
      world.page = await openPage(opened, world.server);
    });
    after(async () => {
      await world.page?.context().close();
      await world.server?.end();
    });
    tests(world);
  });
}

export const settled = (page) => page.getByRole("heading", { level: 1 }).waitFor();
/** Until nothing is asked any more, or what is asked never ends, as a stream does. */
export const quiet = (page) => page.waitForLoadState("networkidle", { timeout: 1_200 }).catch(() => {});

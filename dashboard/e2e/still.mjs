// Pages that look alike each time and on every machine: letters that are boxes, one moment for all times, and nothing that moves.
import { boxFont } from "./box-font.mjs";

/** What a browser is told so that it draws the same wherever it runs. */
export const STILL = ["--font-render-hinting=none", "--enable-font-subpixel-positioning", "--disable-lcd-text", "--force-color-profile=srgb"];

const MOMENT = "2026-02-03T04:05:06Z";
const TIME = /\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z/g;
/** What was measured, and is another amount each time. */
const MEASURED = /("\w*(?:Ms|Millis|duration)":)[\d.]+/g;

/** Every answer to this page says one moment, a minute ago; ids and digests are as long as any other. `live`: streams that are left as they are. */
export async function still(page, { live }) {
  await page.clock.setFixedTime(new Date(Date.parse(MOMENT) + 60_000));
  await page.addInitScript(async (font) => {
    const face = new FontFace("Box", Uint8Array.from(atob(font), (character) => character.charCodeAt(0)));
    document.fonts.add(face);
    const sheet = new CSSStyleSheet();
    sheet.replaceSync("*, ::before, ::after, ::placeholder, ::file-selector-button { font-family: Box !important; text-rendering: geometricPrecision !important; }");
    document.adoptedStyleSheets = [sheet];
    await face.load();
  }, boxFont().toString("base64"));
  const open = new Set();
  await page.route(/\/(v1|auth)\//, async (route) => {
    if (live(route.request())) return route.continue();
    open.add(route);
    try {
      const response = await route.fetch({ maxRetries: 3 });
      const body = (await response.text()).replace(TIME, MOMENT).replace(MEASURED, "$15");
      await route.fulfill({ response, body });
    } catch {
      // The page that asked was left meanwhile; one that was not tells by itself that it has no answer.
      await route.abort().catch(() => {});
    } finally {
      open.delete(route);
    }
  });
  return { rests: () => open.size === 0 };
}

/** A picture of a page that has all its answers, and is the same as the one before it. */
export async function picture(page, { rests }) {
  let last;
  for (let n = 0; n < 60; n += 1) {
    const quiet = rests();
    const next = await page.screenshot({ animations: "disabled" });
    if (quiet && last?.equals(next)) return next;
    last = quiet ? next : undefined;
    await page.waitForTimeout(100);
  }
  throw new Error("the page does not come to rest");
}

/** How much of two pictures differs, from 0 to 1; all of it when they are of different sizes. `page` is any page without a policy. */
export function apart(page, one, other) {
  return page.evaluate(
    async (pictures) => {
      const [a, b] = await Promise.all(
        pictures.map(async (picture) => {
          const map = await createImageBitmap(await (await fetch(`data:image/png;base64,${picture}`)).blob());
          const canvas = new OffscreenCanvas(map.width, map.height).getContext("2d");
          canvas.drawImage(map, 0, 0);
          return canvas.getImageData(0, 0, map.width, map.height);
        }),
      );
      if (a.width !== b.width || a.height !== b.height) return 1;
      let differ = 0;
      for (let n = 0; n < a.data.length; n += 4) {
        // A shade that a machine draws a little darker is no other picture.
        if ([0, 1, 2].some((channel) => Math.abs(a.data[n + channel] - b.data[n + channel]) > 40)) differ += 1;
      }
      return differ / (a.width * a.height);
    },
    [one, other].map((picture) => picture.toString("base64")),
  );
}

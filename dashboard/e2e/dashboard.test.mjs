// The dashboard as a person meets it: the real program on a fresh database, in a real browser.
import assert from "node:assert/strict";
import { test } from "node:test";
import { axe, openPage, signIn } from "./browser.mjs";
import { browser, group, quiet, settled } from "./group.mjs";
import { HELPER, STEPS, history, member, slow, until } from "./work.mjs";

const PAGES = ["/", "/runs", "/approvals", "/agents", "/sessions", "/providers", "/spending", "/calls", "/receipts", "/members", "/keys", "/secrets", "/settings", "/account"];
group("signing in", (world) => {
  test("leads to the page that was asked for, and back to it", async () => {
    const { page, server } = world;
    await page.goto("/runs?status=failed");
    await page.waitForURL("**/sign-in?next=*");
    await page.getByLabel("Email").fill(server.ready.login.email);
    await page.getByLabel("Password").fill("wrong");
    await page.getByRole("button", { name: "Sign in" }).click();
    const alert = page.getByRole("alert");
    await alert.getByText("invalid_credentials").waitFor();
    assert.match(await alert.textContent(), /Request [0-9a-f-]{36}/);
    await page.getByLabel("Password").fill(server.ready.login.password);
    await page.getByRole("button", { name: "Sign in" }).click();
    await page.waitForURL("**/runs?status=failed");
    await settled(page);
  });

  test("leaves nothing that a script could take", async () => {
    const { page, server } = world;
    const [cookie, ...others] = await page.context().cookies();
    assert.deepEqual(others, []);
    assert.deepEqual([cookie.name, cookie.httpOnly, cookie.sameSite, cookie.path], ["lantern_session", true, "Strict", "/"]);
    const kept = await page.evaluate(() => ({ cookie: document.cookie, local: { ...localStorage }, session: { ...sessionStorage } }));
    assert.equal(kept.cookie, "");
    assert.ok(!JSON.stringify(kept).includes(cookie.value) && !/hlx_|eyJ/.test(JSON.stringify(kept)), JSON.stringify(kept));
    assert.ok(!page.url().includes(cookie.value));
    // Another site's page can send the cookie, if at all, without the header; then it opens nothing.
    const bare = await fetch(`${server.url}/v1/agents`, { headers: { Cookie: `lantern_session=${cookie.value}` } });
    assert.equal(bare.status, 401);
    const forged = await fetch(`${server.url}/v1/agents`, { method: "POST", headers: { Cookie: `lantern_session=${cookie.value}`, "Content-Type": "text/plain" }, body: '{"name":"forged"}' });
    assert.equal(forged.status, 401);
  });

  test("runs no script but the program's own", async () => {
    const { page, server } = world;
    const answer = await fetch(server.url);
    assert.match(answer.headers.get("content-security-policy"), /default-src 'none'.*script-src 'self'.*frame-ancestors 'none'/);
    const injected = await page.evaluate(() => {
      const script = document.createElement("script");
      try {
        script.textContent = "globalThis.injected = true";
        document.body.append(script);
      } catch {
        return "refused";
      }
      return String(globalThis.injected);
    });
    assert.notEqual(injected, "true");
    page.faults.length = 0;
  });

  test("that ends elsewhere ends on every open page, which says where to go on", async () => {
    const { page, server } = world;
    const { token } = await server.ask("POST", "/auth/login", server.ready.login);
    await server.ask("POST", "/auth/logout", { everywhere: true }, { Authorization: `Bearer ${token}` });
    await page.waitForURL("**/sign-in?next=*");
    await page.getByText("Your sign-in is over").waitFor();
    await page.getByLabel("Email").fill(server.ready.login.email);
    await page.getByLabel("Password").fill(server.ready.login.password);
    await page.getByRole("button", { name: "Sign in" }).click();
    await page.waitForURL("**/runs?status=failed");
    await settled(page);
  });

  test("ends, and a copy of the cookie ends with it", async () => {
    const { page, server } = world;
    const [cookie] = await page.context().cookies();
    await page.getByRole("button", { name: "Account" }).click();
    await page.getByRole("menuitem", { name: "Sign out", exact: true }).click();
    await page.waitForURL("**/sign-in");
    assert.deepEqual(await page.context().cookies(), []);
    const copy = await fetch(`${server.url}/auth/me`, { headers: { Cookie: `lantern_session=${cookie.value}`, "X-Lantern-Page": "1" } });
    assert.equal(copy.status, 401);
    await page.goto("/agents");
    await page.waitForURL("**/sign-in?next=*");
    assert.deepEqual(page.faults, []);
  });
});

group("an empty workspace", (world) => {
  test("says on every page which command is next", async () => {
    const { page, server } = world;
    await signIn(page, server.ready.login);
    for (const path of PAGES) {
      await page.goto(path);
      await settled(page);
      await page.locator(".cli code", { hasText: "lantern " }).first().waitFor();
    }
    await page.goto("/no/such/page").catch(() => {});
    assert.deepEqual(page.faults, []);
  });

  test("has no barrier that axe finds, in either theme", async () => {
    const { server } = world;
    for (const theme of ["light", "dark"]) {
      const page = await openPage(browser(), server, { theme });
      await page.goto("/sign-in");
      await settled(page);
      assert.deepEqual(await axe(page), [], `/sign-in, ${theme}`);
      await signIn(page, server.ready.login);
      for (const path of PAGES) {
        await page.goto(path);
        await settled(page);
        await page.locator(".cli code").first().waitFor();
        assert.deepEqual(await axe(page), [], `${path}, ${theme}`);
      }
      await page.context().close();
    }
  });
});

group("a workspace with a history", (world) => {
  let ids;
  test("has no barrier that axe finds, in either theme", async () => {
    const { server } = world;
    ids = await history(server);
    const paths = [
      ...PAGES, `/runs/${ids.squares}?step=each`, `/runs/${ids.release}`, `/runs/${ids.breaks}`, `/runs/${ids.digest}?tab=events`, `/runs/${ids.digest}?tab=input`,
      `/runs/${ids.helper}?step=llm-2`, `/runs/${ids.helper}?tab=receipt`, `/runs/${ids.squares}?tab=compare&with=${ids.fork}`, `/runs/${ids.helper}?tab=compare&with=${ids.digest}`, "/proof",
      "/agents/helper", "/agents/helper?tab=versions", "/agents/helper?tab=edit", "/agents/helper?tab=runs", "/agents/helper?tab=budget", `/sessions/${ids.session}`,
      "/runs?start=1", "/agents?create=1", "/sessions?begin=1",
    ];
    for (const theme of ["light", "dark"]) {
      const page = await openPage(browser(), server, { theme });
      await signIn(page, server.ready.login);
      for (const path of paths) {
        await page.goto(path);
        await settled(page);
        await quiet(page);
        assert.deepEqual(await axe(page), [], `${path}, ${theme}`);
      }
      await page.keyboard.press("Control+k");
      await page.getByRole("combobox").waitFor();
      assert.deepEqual(await axe(page), [], `palette, ${theme}`);
      assert.deepEqual(page.faults, []);
      await page.context().close();
    }
  });

  test("is used by the keyboard alone", async () => {
    const { page, server } = world;
    await signIn(page, server.ready.login);
    await page.keyboard.press("g");
    await page.keyboard.press("r");
    await page.waitForURL("**/runs");
    await page.getByRole("row").nth(1).waitFor();
    await page.keyboard.press("/");
    await page.keyboard.type("release");
    await page.waitForURL("**/runs?q=release");
    // Until the answer is there the rows are those of before.
    await page.locator('[role=table][aria-rowcount="2"]').waitFor();
    await page.keyboard.press("Tab");
    await page.evaluate(() => document.activeElement.blur());
    await page.keyboard.press("j");
    await page.keyboard.press("Enter");
    await page.waitForURL(`**/runs/${ids.release}`);
    await page.keyboard.press("?");
    await page.getByRole("dialog", { name: "Keyboard shortcuts" }).waitFor();
    await page.keyboard.press("Escape");
    await page.getByRole("dialog").waitFor({ state: "detached" });
    await page.keyboard.press("Control+k");
    await page.getByRole("combobox").waitFor();
    await page.keyboard.type(ids.breaks);
    await page.keyboard.press("Enter");
    await page.waitForURL(`**/runs/${ids.breaks}`);
    await page.getByText("division by zero").first().waitFor();
  });

  test("keeps the filters of its runs in the address", async () => {
    const { page } = world;
    await page.goto("/runs");
    await page.getByRole("button", { name: "Failed" }).click();
    await page.waitForURL("**/runs?status=failed");
    await page.getByText("1 run, no more").waitFor();
    await page.reload();
    await page.getByText("1 run, no more").waitFor();
    assert.equal(await page.locator(".cli code").textContent(), "lantern runs list --status failed");
    await page.getByRole("button", { name: "Clear filters" }).click();
    await page.getByRole("link", { name: "squares" }).first().waitFor();
  });

  test("shows a key once, and nothing of a provider's", async () => {
    const { page } = world;
    await page.goto("/keys");
    await page.getByRole("button", { name: "New key" }).click();
    await page.getByLabel("Name").fill("from the page");
    await page.getByRole("button", { name: "Make key" }).click();
    const raw = await page.locator("[data-secret]").textContent();
    assert.match(raw.trim(), /^hlx_live_[0-9a-f]{32}$/);
    await page.getByRole("button", { name: "Close" }).click();
    await page.getByRole("cell", { name: "from the page", exact: true }).waitFor();
    await page.goto("/providers");
    await page.getByRole("cell", { name: "openai" }).waitFor();
    assert.ok(!(await page.content()).includes("sk-not-a-real-key-0123456789") && !(await page.content()).includes(raw.trim()));
  });

  test("fits a phone", async () => {
    const { server } = world;
    const phone = await openPage(browser(), server, { width: 375, height: 700 });
    await signIn(phone, server.ready.login);
    for (const path of ["/", "/runs", `/runs/${ids.release}`, `/runs/${ids.helper}?tab=receipt`, `/runs/${ids.squares}?tab=compare&with=${ids.fork}`, "/receipts", "/proof", "/approvals"]) {
      await phone.goto(path);
      await settled(phone);
      const over = await phone.evaluate(() => document.documentElement.scrollWidth - innerWidth);
      assert.ok(over <= 0, `${path} is ${over} pixels too wide`);
    }
    await phone.getByRole("button", { name: "Approve" }).click();
    await phone.getByText("Nothing waits for you").waitFor();
    await until(server, ids.release, "succeeded");
    await phone.context().close();
  });
});

group("a run beside others", (world) => {
  let ids;
  test("is compared, and the first difference is shown", async () => {
    const { page, server } = world;
    ids = await history(server);
    await signIn(page, server.ready.login);
    await page.goto(`/runs/${ids.fork}?tab=compare`);
    // What it is a replay of is offered first.
    assert.equal(await page.getByLabel("Compare with").inputValue(), ids.squares);
    await page.getByRole("button", { name: "Compare", exact: true }).click();
    await page.waitForURL(`**&with=${ids.squares}`);
    await page.locator("[data-same=true]").waitFor();
    const other = await server.api("POST", "/v1/runs", { agentName: "squares", input: { numbers: [1, 2, 9] } });
    await until(server, other.id, "succeeded");
    await page.getByLabel("Compare with").fill(other.id);
    await page.keyboard.press("Enter");
    await page.locator("[data-same=false]").waitFor();
    const said = await server.api("GET", `/v1/runs/${ids.fork}/diff/${other.id}`);
    await page.getByRole("heading", { name: new RegExp(`They part at .*${said.firstDivergence.stepId.replace(/[[\]]/g, "\\$&")}`) }).waitFor();
    await page.getByText("different input").waitFor();
    assert.equal(await page.getByRole("table", { name: "Steps" }).getByRole("row").count(), said.steps.length + 1);
    await page.getByText(`lantern runs diff ${ids.fork} ${other.id}`).waitFor();
    await page.getByLabel("Compare with").fill("01a22b58-0000-7000-8000-000000000000");
    await page.keyboard.press("Enter");
    await page.getByRole("alert").getByText("run_not_found").waitFor();
    assert.deepEqual(page.faults, []);
  });

  test("says what each model call was given", async () => {
    const { page } = world;
    await page.goto(`/runs/${ids.helper}?step=llm-2`);
    const detail = page.locator(".detail");
    await detail.getByText("You help with sums.\nBe brief, and say how you got there.").waitFor();
    await detail.getByText("What is (120+33)*2, and what is 17% of 240?").first().waitFor();
    await detail.getByText("2 earlier steps").click();
    await detail.getByText('"expression": "(120+33)*2"').waitFor();
    await detail.getByText('"value": 306').waitFor();
    assert.deepEqual(page.faults, []);
  });

  test("is forecast before it is started", async () => {
    const { page, server } = world;
    await page.goto("/runs?start=1");
    await page.getByRole("dialog").locator("select").selectOption("helper");
    await page.getByLabel("Input").fill("What is 1+1?");
    const panel = page.getByRole("region", { name: "Forecast" });
    const said = await server.api("POST", "/v1/runs/forecast", { agentName: "helper", input: "What is 1+1?" });
    await panel.getByText(`${said.provider}/${said.model}`).waitFor();
    await panel.getByText(said.calibrated ? /earlier runs? of this agent/ : /From prices alone/).waitFor();
    await page.getByText("lantern forecast helper --input 'What is 1+1?'").waitFor();
    assert.deepEqual(page.faults, []);
  });

  test("stands beside the commands for what can be done, without a pointer over it", async () => {
    const { page, server } = world;
    await page.goto("/approvals");
    const [ask] = await server.api("GET", "/v1/approvals?status=pending");
    for (const how of ["grant", "deny"]) await page.getByText(`lantern approvals ${how} ${ask.id}`).waitFor();
    await page.goto("/providers");
    await page.getByText("lantern providers test openai").waitFor();
    const stop = await server.api("POST", "/v1/stops", { scope: "agent", agentName: "breaks", reason: "a look" });
    await page.goto("/settings");
    await page.getByText(`lantern stops lift ${stop.id}`).waitFor();
    assert.deepEqual(page.faults, []);
  });

  test("is kept for as long as was said, and an empty field says nothing", async () => {
    const { page, server } = world;
    const kept = async () => (await server.api("GET", "/v1/settings/retention")).content;
    const first = await kept();
    const field = page.getByLabel("Keep content for");
    const save = page.getByRole("button", { name: "Save", exact: true });
    await save.waitFor();
    assert.ok(await save.isDisabled());
    await field.fill("   ");
    assert.ok(await save.isDisabled());
    await field.fill("30d");
    await page.getByText("lantern retention --content 30d", { exact: true }).waitFor();
    await save.click();
    await page.getByText("Kept for 30d").waitFor();
    assert.equal(await kept(), "30d");
    await field.fill("default");
    await save.click();
    await page.getByText("Left to the server").waitFor();
    assert.equal(await kept(), first);
    assert.deepEqual(page.faults, []);
  });
});

group("an agent's day", (world) => {
  test("it is made, run and watched", async () => {
    const { page, server } = world;
    await signIn(page, server.ready.login);
    await page.goto("/agents");
    await page.getByRole("button", { name: "New agent" }).click();
    await page.getByLabel("Name", { exact: false }).first().fill("calculator");
    await page.getByLabel("Instructions").fill("You calculate.\nIt's simple.");
    await page.getByRole("checkbox", { name: "calc" }).check();
    const line = await page.getByRole("dialog").locator(".cli code").textContent();
    assert.match(line, /^lantern agents create --name calculator --system 'You calculate\.\nIt'\\''s simple\.' --tool calc$/);
    await page.getByRole("button", { name: "Create agent" }).click();
    await page.waitForURL("**/agents/calculator");
    await page.getByRole("button", { name: "Start a run" }).click();
    await page.getByLabel("Input").fill("What is (120+33)*2?");
    await page.getByRole("button", { name: "Start", exact: true }).click();
    await page.waitForURL("**/runs/*-*");
    await page.locator("[data-link=over]").waitFor();
    await page.getByRole("button", { name: /calc/ }).first().click();
    await page.locator(".detail").getByText('"value": 306').waitFor();
    await page.getByRole("tab", { name: "Input and output" }).click();
    await page.getByText("(120+33)*2 = 306").waitFor();
    const run = await server.api("GET", `/v1/runs/${page.url().match(/runs\/([\w-]+)/)[1]}`);
    assert.equal(run.status, "succeeded");
  });

  test("a second version differs, and the first is made current again", async () => {
    const { page, server } = world;
    await page.goto("/agents/calculator?tab=edit");
    await page.getByLabel("Instructions").fill("You calculate, and say how.");
    await page.getByRole("button", { name: "Save as a new version" }).click();
    await page.getByText("Saved as version 2").waitFor();
    await page.getByRole("tab", { name: "Versions" }).click();
    await page.locator(".diff .add", { hasText: "say how" }).waitFor();
    await page.getByRole("button", { name: /Version 1/ }).click();
    await page.getByRole("button", { name: "Make current" }).click();
    await page.getByText("New runs run this version").waitFor();
    assert.equal((await server.api("GET", "/v1/agents/calculator")).version, 1);
  });

  test("it asks a person, who approves", async () => {
    const { page, server } = world;
    await server.api("POST", "/v1/agents", STEPS.release);
    const { id } = await server.api("POST", "/v1/runs", { agentName: "release", input: { changes: "120+33" } });
    await page.goto("/approvals");
    await page.getByText("153 lines changed. Ship it?").waitFor();
    await page.getByLabel("Note").fill("Looks fine");
    await page.getByRole("button", { name: "Approve" }).click();
    await page.getByText("Nothing waits for you").waitFor();
    assert.equal((await until(server, id, "succeeded")).status, "succeeded");
    await page.getByRole("button", { name: "Granted" }).click();
    await page.getByText("Looks fine").waitFor();
  });

  test("it is signalled, paused, resumed and cancelled", async () => {
    const { page, server } = world;
    await server.api("POST", "/v1/agents", STEPS.waits);
    const start = async () => (await server.api("POST", "/v1/runs", { agentName: "waits" })).id;
    let id = await start();
    await page.goto(`/runs/${id}`);
    await page.getByRole("button", { name: "Pause" }).click();
    await page.getByRole("dialog").getByRole("button", { name: "Pause" }).click();
    await page.getByRole("button", { name: "Resume" }).click();
    await page.getByRole("dialog").getByRole("button", { name: "Resume" }).click();
    await page.getByRole("button", { name: "Pause" }).waitFor();
    await page.getByRole("button", { name: "More", exact: true }).click();
    await page.getByRole("menuitem", { name: "Send signal" }).click();
    assert.equal(await page.getByLabel("Name").inputValue(), "go");
    await page.getByLabel("Value").fill('{"ready":true}');
    await page.getByRole("button", { name: "Send", exact: true }).click();
    await page.locator("[data-link=over]").waitFor();
    assert.equal((await until(server, id, "succeeded")).status, "succeeded");
    id = await start();
    await page.goto(`/runs/${id}`);
    await page.getByRole("button", { name: "Cancel run" }).click();
    await page.getByLabel("Reason").fill("changed my mind");
    await page.getByRole("dialog").getByRole("button", { name: "Cancel run" }).click();
    await page.locator(".strip").getByText("Cancelled").waitFor();
    await page.getByRole("tab", { name: "Events" }).click();
    await page.getByText("changed my mind").first().waitFor();
  });

  test("a run is replayed for nothing", async () => {
    const { page, server } = world;
    await server.api("POST", "/v1/agents", STEPS.squares);
    const { id } = await server.api("POST", "/v1/runs", { agentName: "squares", input: { numbers: [1, 2, 3] } });
    await until(server, id, "succeeded");
    await page.goto(`/runs/${id}`);
    await page.getByRole("button", { name: "Replay" }).click();
    await page.getByRole("dialog").getByRole("button", { name: "Replay" }).click();
    await page.getByText("Replay of").waitFor();
    assert.ok(!page.url().includes(id));
    await page.locator("[data-link=over]").waitFor();
  });

  test("one talks to it, and sees the answer come", async () => {
    const { page, server } = world;
    await server.api("POST", "/v1/agents", HELPER);
    await page.goto("/sessions");
    await page.getByRole("button", { name: "New session" }).first().click();
    await page.getByRole("combobox", { name: "Agent" }).selectOption("helper");
    await page.getByRole("dialog").getByRole("button", { name: "New session" }).click();
    await page.waitForURL("**/sessions/*-*");
    await page.getByLabel("Message", { exact: true }).fill("What is 12*7+3?");
    await page.keyboard.press("Enter");
    await page.getByText("12*7+3 = 87").waitFor();
    await page.getByText("called").first().waitFor();
    await page.getByRole("button", { name: "End session" }).click();
    await page.getByRole("dialog").getByRole("button", { name: "End session" }).click();
    await page.getByText("This session was ended").waitFor();
    assert.deepEqual(page.faults, []);
  });

  test("everything is halted, and goes on", async () => {
    const { page, server } = world;
    await page.goto("/settings");
    await page.getByRole("button", { name: "Stop everything" }).click();
    await page.getByLabel("Reason").fill("a test");
    await page.getByRole("dialog").getByRole("button", { name: "Stop everything" }).click();
    await page.getByRole("button", { name: "Lift" }).waitFor();
    await page.goto("/");
    await page.getByText("1 emergency stop holds").waitFor();
    await page.goto("/settings");
    await page.getByRole("button", { name: "Lift" }).click();
    await page.getByText("Lifted").first().waitFor();
    const stops = await server.api("GET", "/v1/stops");
    assert.ok(stops[0].liftedAt);
  });
});

group("a server that is killed", (world) => {
  test("is waited for by the page, which misses no event and is not loaded again", async () => {
    const { page, server } = world;
    await signIn(page, server.ready.login);
    await server.api("POST", "/v1/agents", slow(8, 400));
    const { id } = await server.api("POST", "/v1/runs", { agentName: "slow" });
    await page.goto(`/runs/${id}?tab=events`);
    await page.evaluate(() => (globalThis.neverLoadedAgain = true));
    await page.locator("[data-seq='6']").waitFor();
    await server.kill();
    await page.locator("[data-link=recovering]").waitFor();
    await server.start();
    await page.locator("[data-link=over]").waitFor({ timeout: 60_000 });
    assert.equal(await page.evaluate(() => globalThis.neverLoadedAgain), true);
    const stream = await fetch(`${server.url}/v1/runs/${id}/events?live=false`, { headers: { Authorization: `Bearer ${server.token}` } });
    const told = [...(await stream.text()).matchAll(/^data: (.*)$/gm)].map(([, data]) => JSON.parse(data)).filter(({ kind }) => kind !== "end");
    assert.deepEqual(told.map(({ seq }) => seq), told.map((_, index) => index + 1));
    await page.getByText(`${told.length} events`).waitFor();
    const shown = new Set();
    // All are there; those that are seen are drawn.
    for (let at = 0; shown.size < told.length && at < 100; at++) {
      for (const seq of await page.locator("[data-seq]").evaluateAll((rows) => rows.map((row) => Number(row.dataset.seq)))) shown.add(seq);
      await page.locator(".events").evaluate((box) => box.scrollBy(0, 200));
      await page.evaluate(() => new Promise((resolve) => requestAnimationFrame(() => requestAnimationFrame(resolve))));
    }
    assert.deepEqual([...shown].sort((a, b) => a - b), told.map(({ seq }) => seq));
    assert.equal((await until(server, id, "succeeded")).status, "succeeded");
    assert.deepEqual(page.faults, []);
  });
});

group("hostile text", (world) => {
  test("is shown as text, wherever it stands", async () => {
    const { page, server } = world;
    const script = `<img src=x onerror="globalThis.owned=1"><script>globalThis.owned=1</script>`;
    const hostile = `${script} \u202eRTL\u202c 🏮 {{input}} \u0007`;
    await server.api("POST", "/v1/agents", { ...HELPER, name: "hostile", description: hostile, systemPrompt: hostile, labels: { [hostile.slice(0, 20)]: "x" } });
    await server.api("POST", "/v1/agents", { name: "asks", description: hostile, program: "steps", steps: [{ id: "ask", kind: "approval", data: { reason: "{{input.text}}" } }] });
    const run = await server.api("POST", "/v1/runs", { agentName: "asks", input: { text: hostile, long: "x".repeat(1_000_000) }, labels: { note: script } });
    await until(server, run.id, "paused");
    const said = await server.api("POST", "/v1/runs", { agentName: "hostile", input: hostile });
    await until(server, said.id, "succeeded", "failed");
    const session = await server.api("POST", "/v1/sessions", { agentName: "hostile" });
    await server.api("POST", `/v1/sessions/${session.id}/messages`, { content: hostile });
    await server.api("POST", "/v1/api-keys", { name: script });
    await signIn(page, server.ready.login);
    for (const path of [
      "/", "/runs", "/approvals", "/agents", "/agents/hostile", "/agents/hostile?tab=edit", "/keys", "/sessions", `/sessions/${session.id}`, `/runs/${run.id}`,
      `/runs/${run.id}?tab=input`, `/runs/${run.id}?tab=events`, `/runs/${said.id}?tab=input`, `/runs/${said.id}?step=llm-1`, `/runs?q=${encodeURIComponent(script)}`,
      `/agents/${encodeURIComponent(script)}`, `/sign-in?next=${encodeURIComponent("javascript:globalThis.owned=1")}`, `/sign-in?next=//example.com`,
    ]) {
      await page.goto(path);
      await settled(page);
      assert.equal(await page.evaluate(() => globalThis.owned), undefined, path);
      assert.equal(await page.locator("img[src=x]").count(), 0, path);
    }
    // A browser that lays out a million characters in one line is gone for half a minute.
    await page.goto(`/runs/${run.id}?tab=input`);
    await page.getByRole("button", { name: /^Show all 1,000,\d{3} characters$/ }).waitFor();
    await page.goto("/approvals");
    await page.getByText("<script>globalThis.owned=1</script>").first().waitFor();
    assert.deepEqual(page.faults, []);
  });
});

group("a viewer, who may only read", (world) => {
  test("is offered nothing that would be refused, and is refused what is forced", async () => {
    const { page, server } = world;
    const ids = await history(server);
    const viewer = await member(server, "viewer@lantern.dev", "viewer");
    await signIn(page, viewer);
    for (const [path, action] of [["/runs", "Start a run"], ["/agents", "New agent"], ["/members", "Invite somebody"], ["/keys", "New key"], ["/providers", "Set a provider"], ["/settings", "Stop everything"], ["/approvals", "Approve"], [`/runs/${ids.release}`, "Cancel run"]]) {
      await page.goto(path);
      await settled(page);
      await quiet(page);
      assert.equal(await page.getByRole("button", { name: action }).count(), 0, path);
    }
    const status = await page.evaluate(async (id) => (await fetch(`/v1/runs/${id}/cancel`, { method: "POST", headers: { "X-Lantern-Page": "1", "Content-Type": "application/json" }, body: "{}" })).status, ids.release);
    assert.equal(status, 403);
    // Somebody who loses their role while a page is open is told so.
    await page.goto("/account");
    await page.getByRole("region", { name: "You", exact: true }).getByText("Viewer", { exact: true }).last().waitFor();
    assert.deepEqual(page.faults, []);
  });
});

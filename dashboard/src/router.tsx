// Which page has which address. `pages.txt` lists the same, for the server; a test compares them.
import { createRootRoute, createRoute, createRouter, lazyRouteComponent, redirect } from "@tanstack/react-router";
import { Shell } from "./app/shell";
import { ApiError } from "./api/client";
import { me, queries } from "./app/session";
import { readAudit } from "./lib/audit";
import { readFilters, writeFilters } from "./lib/filters";
import { Crashed, Missing } from "./pages/fallbacks";
import { SignIn } from "./pages/sign-in";

type Search = Record<string, string | undefined>;
const words = (...names: string[]) => (search: Record<string, unknown>): Search =>
  Object.fromEntries(names.flatMap((name) => (typeof search[name] === "string" ? [[name, search[name] as string]] : [])));

const root = createRootRoute({ notFoundComponent: Missing, errorComponent: Crashed });
const signIn = createRoute({ getParentRoute: () => root, path: "/sign-in", component: SignIn, validateSearch: words("next", "over", "sso", "error") });
// Whoever was given a receipt needs no account to check it.
const proof = createRoute({ getParentRoute: () => root, path: "/proof", component: lazyRouteComponent(() => import("./pages/proof"), "Proof") });

// Nor does whoever was handed a link to come in by.
const invitation = createRoute({ getParentRoute: () => root, path: "/invitation", component: lazyRouteComponent(() => import("./pages/slips"), "AcceptInvitation") });
const reset = createRoute({ getParentRoute: () => root, path: "/reset", component: lazyRouteComponent(() => import("./pages/slips"), "ResetPassword") });

// Nothing below is shown before it is known to whom.
const shell = createRoute({
  getParentRoute: () => root,
  id: "shell",
  component: Shell,
  beforeLoad: async ({ location }) => {
    try {
      await queries.ensureQueryData(me);
    } catch (error) {
      if (error instanceof ApiError && error.status === 401) {
        throw redirect({ to: "/sign-in", search: location.href === "/" ? {} : { next: location.href } });
      }
      throw error;
    }
  },
});

const under = () => shell;
const home = createRoute({ getParentRoute: under, path: "/", component: lazyRouteComponent(() => import("./pages/home"), "Home") });
const runs = createRoute({
  getParentRoute: under,
  path: "/runs",
  component: lazyRouteComponent(() => import("./pages/runs"), "Runs"),
  validateSearch: (search: Record<string, unknown>): Search => ({ ...writeFilters(readFilters(search)), ...words("start")(search) }),
});
const run = createRoute({
  getParentRoute: under,
  path: "/runs/$id",
  component: lazyRouteComponent(() => import("./pages/run"), "RunPage"),
  validateSearch: words("tab", "step", "with"),
});
const approvals = createRoute({
  getParentRoute: under,
  path: "/approvals",
  component: lazyRouteComponent(() => import("./pages/approvals"), "Approvals"),
  validateSearch: words("status"),
});
const agents = createRoute({
  getParentRoute: under,
  path: "/agents",
  component: lazyRouteComponent(() => import("./pages/agents"), "Agents"),
  validateSearch: words("create", "archived"),
});
const agent = createRoute({
  getParentRoute: under,
  path: "/agents/$name",
  component: lazyRouteComponent(() => import("./pages/agent"), "AgentPage"),
  validateSearch: words("tab", "version"),
});
const sessions = createRoute({
  getParentRoute: under,
  path: "/sessions",
  component: lazyRouteComponent(() => import("./pages/sessions"), "Sessions"),
  validateSearch: words("begin", "agent"),
});
const session = createRoute({
  getParentRoute: under,
  path: "/sessions/$id",
  component: lazyRouteComponent(() => import("./pages/session"), "SessionPage"),
});
const providers = createRoute({ getParentRoute: under, path: "/providers", component: lazyRouteComponent(() => import("./pages/providers"), "Providers") });
const spending = createRoute({ getParentRoute: under, path: "/spending", component: lazyRouteComponent(() => import("./pages/spending"), "Spending") });
const calls = createRoute({ getParentRoute: under, path: "/calls", component: lazyRouteComponent(() => import("./pages/calls"), "Calls") });
const receipts = createRoute({ getParentRoute: under, path: "/receipts", component: lazyRouteComponent(() => import("./pages/receipts"), "Receipts") });
const members = createRoute({ getParentRoute: under, path: "/members", component: lazyRouteComponent(() => import("./pages/members"), "Members") });
const account = createRoute({ getParentRoute: under, path: "/account", component: lazyRouteComponent(() => import("./pages/account"), "Account"), validateSearch: words("sso", "error") });
const audit = createRoute({
  getParentRoute: under,
  path: "/audit",
  component: lazyRouteComponent(() => import("./pages/audit"), "Audit"),
  validateSearch: (search: Record<string, unknown>): Search => ({ ...readAudit(search), ...words("entry")(search) }),
});
const keys = createRoute({ getParentRoute: under, path: "/keys", component: lazyRouteComponent(() => import("./pages/keys"), "Keys") });
const secrets = createRoute({
  getParentRoute: under,
  path: "/secrets",
  component: lazyRouteComponent(() => import("./pages/secrets"), "Secrets"),
  validateSearch: words("name"),
});
const settings = createRoute({ getParentRoute: under, path: "/settings", component: lazyRouteComponent(() => import("./pages/settings"), "Settings") });

const tree = root.addChildren([
  signIn,
  proof,
  invitation,
  reset,
  shell.addChildren([home, runs, run, approvals, agents, agent, sessions, session, providers, spending, calls, receipts, audit, members, keys, secrets, settings, account]),
]);

export const router = createRouter({
  routeTree: tree,
  defaultPreload: "intent",
  defaultErrorComponent: Crashed,
  defaultNotFoundComponent: Missing,
  // Addresses are for people: words stand in them as they are, not as JSON.
  parseSearch: (text) => Object.fromEntries(new URLSearchParams(text)),
  stringifySearch: (search) => {
    const pairs = Object.entries(search).filter((pair): pair is [string, string] => typeof pair[1] === "string" && pair[1] !== "");
    const query = new URLSearchParams(pairs).toString();
    return query ? `?${query}` : "";
  },
});

declare module "@tanstack/react-router" {
  interface Register {
    router: typeof router;
  }
}

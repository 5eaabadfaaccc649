// The pages, in the order in which they are offered.
import { type Role, atLeast } from "../lib/people";
import { m } from "../messages/en";

interface Place {
  to: string;
  icon: string;
  label: string;
  /** What goes there after `g`. */
  key: string;
  /** The least role that is offered it; without one, everybody is. */
  least?: Role;
  /** Whether it stands in the menu of one's own account. */
  own?: boolean;
}

export const PAGES = [
  { to: "/", icon: "home", label: m.nav.home, key: "h" },
  { to: "/runs", icon: "runs", label: m.nav.runs, key: "r" },
  { to: "/approvals", icon: "approvals", label: m.nav.approvals, key: "p" },
  { to: "/agents", icon: "agents", label: m.nav.agents, key: "a" },
  { to: "/sessions", icon: "sessions", label: m.nav.sessions, key: "s" },
  { to: "/providers", icon: "providers", label: m.nav.providers, key: "m" },
  { to: "/spending", icon: "spending", label: m.nav.spending, key: "b" },
  { to: "/calls", icon: "calls", label: m.nav.calls, key: "c" },
  { to: "/receipts", icon: "receipts", label: m.nav.receipts, key: "e" },
  { to: "/audit", icon: "audit", label: m.nav.audit, key: "l", least: "admin" },
  { to: "/members", icon: "members", label: m.nav.members, key: "u" },
  { to: "/keys", icon: "keys", label: m.nav.keys, key: "k" },
  { to: "/secrets", icon: "secrets", label: m.nav.secrets, key: "t", least: "member" },
  { to: "/settings", icon: "settings", label: m.nav.settings, key: "," },
  { to: "/account", icon: "account", label: m.nav.yourAccount, key: "y", own: true },
] as const satisfies readonly Place[];

/** The pages that somebody of this role is offered. */
export function offered(role: string | undefined): readonly (typeof PAGES)[number][] {
  return PAGES.filter((page: Place) => page.least === undefined || atLeast(role, page.least));
}

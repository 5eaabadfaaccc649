// The pages, in the order in which they are offered.
import { m } from "../messages/en";

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
  { to: "/keys", icon: "keys", label: m.nav.keys, key: "k" },
  { to: "/settings", icon: "settings", label: m.nav.settings, key: "," },
] as const;

// What stands around every page: where one can go, who one is, and what a key press does.
import * as Menu from "@radix-ui/react-dropdown-menu";
import { useQuery } from "@tanstack/react-query";
import { Link, Outlet, useNavigate, useRouterState } from "@tanstack/react-router";
import { lazy, Suspense, useEffect, useRef, useState } from "react";
import { page } from "../api/client";
import { m } from "../messages/en";
import { Icon } from "../ui/icons";
import { ToastRoom } from "../ui/pieces";
import { PAGES, offered } from "./nav";
import { signOut, useMe } from "./session";
import { type Theme, chooseTheme, useTheme } from "./theme";

const palette = () => import("./palette");
const Palette = lazy(() => palette().then((module) => ({ default: module.Palette })));
const Shortcuts = lazy(() => palette().then((module) => ({ default: module.Shortcuts })));

export const pending = {
  queryKey: ["approvals", "pending"],
  queryFn: ({ signal }: { signal: AbortSignal }) => page("/v1/approvals", { query: { status: "pending", limit: 100 }, signal }),
  refetchInterval: 4_000,
};

export function Shell() {
  const [open, setOpen] = useState<"palette" | "help" | undefined>();
  // A dialog tells that it was closed a moment later, when another may be open already.
  const closed = (which: "palette" | "help") => setOpen((now) => (now === which ? undefined : now));
  useKeys(setOpen);
  useEffect(() => {
    // So that it is there when it is called, and the first letters are not lost.
    const timer = setTimeout(() => void palette(), 1_000);
    return () => clearTimeout(timer);
  }, []);
  const main = useRef<HTMLElement>(null);
  const path = useRouterState({ select: (state) => state.location.pathname });
  const first = useRef(true);
  useEffect(() => {
    // After a page is left, reading goes on at the beginning of the next.
    if (!first.current) main.current?.focus({ preventScroll: true });
    first.current = false;
    main.current?.scrollTo(0, 0);
  }, [path]);
  return (
    <ToastRoom>
      <a className="skip" href="#main">
        {m.common.skip}
      </a>
      <div className="shell">
        <header className="side">
          <Link to="/" className="brand">
            <img src="/favicon.svg" alt="" /> {m.brand}
          </Link>
          <button type="button" className="find" onClick={() => setOpen("palette")}>
            {m.nav.palette} <kbd>Ctrl K</kbd>
          </button>
          <nav aria-label={m.nav.label}>
            <Pages />
          </nav>
          <div className="foot">
            <Account onHelp={() => setOpen("help")} />
          </div>
        </header>
        <main className="main" id="main" tabIndex={-1} ref={main}>
          <Outlet />
        </main>
        <Phone onHelp={() => setOpen("help")} />
      </div>
      <Suspense>
        {open === "palette" && <Palette onClose={() => closed("palette")} />}
        {open === "help" && <Shortcuts onClose={() => closed("help")} />}
      </Suspense>
    </ToastRoom>
  );
}

function Waiting() {
  const { data } = useQuery(pending);
  const waiting = data?.items.length ?? 0;
  if (waiting === 0) return null;
  return (
    <span className="badge-count">
      <span aria-hidden="true">{data?.next ? "99+" : waiting}</span>
      <span className="sr">{m.nav.waiting(waiting)}</span>
    </span>
  );
}

function Pages() {
  const role = useMe()?.role;
  return (
    <ul>
      {offered(role).filter((one) => !("own" in one)).map(({ to, icon, label }, index) => (
        <li key={to} className={index === 5 ? "apart" : undefined}>
          <Link to={to} className="link" activeProps={{ className: "is-active", "aria-current": "page" }} activeOptions={{ exact: to === "/" }}>
            <Icon name={icon} /> {label} {to === "/approvals" && <Waiting />}
          </Link>
        </li>
      ))}
    </ul>
  );
}

function Phone({ onHelp }: { onHelp: () => void }) {
  return (
    <nav className="phone" aria-label={m.nav.label}>
      {PAGES.slice(0, 3).map(({ to, icon, label }) => (
        <Link key={to} to={to} activeProps={{ className: "is-active" }} activeOptions={{ exact: to === "/" }}>
          <Icon name={icon} /> {label} {to === "/approvals" && <Waiting />}
        </Link>
      ))}
      <Account onHelp={onHelp} phone />
    </nav>
  );
}

function Account({ onHelp, phone }: { onHelp: () => void; phone?: boolean }) {
  const user = useMe();
  const theme = useTheme();
  const navigate = useNavigate();
  const leave = async (everywhere: boolean) => {
    await signOut(everywhere).catch(() => {});
    await navigate({ to: "/sign-in" });
  };
  return (
    <Menu.Root modal={false}>
      {phone ? (
        <Menu.Trigger>
          <Icon name="more" /> {m.nav.more}
        </Menu.Trigger>
      ) : (
        <Menu.Trigger className="who">
          <span className="grow">
            <span className="sr">{m.nav.account}</span>
            <span className="name cut">{user?.name}</span>
            <br />
            <span className="mail cut">{user?.email}</span>
          </span>
          <Icon name="more" />
        </Menu.Trigger>
      )}
      <Menu.Portal>
        <Menu.Content className="menu" side="top" align={phone ? "end" : "start"} sideOffset={6} collisionPadding={8}>
          {phone &&
            offered(user?.role).slice(3).filter((one) => !("own" in one)).map(({ to, icon, label }) => (
              <Menu.Item key={to} onSelect={() => void navigate({ to })}>
                <Icon name={icon} /> {label}
              </Menu.Item>
            ))}
          {phone && <Menu.Separator className="sep" />}
          <Menu.Label className="title">{m.nav.theme}</Menu.Label>
          <Menu.RadioGroup value={theme} onValueChange={(value) => chooseTheme(value as Theme)}>
            {(["system", "light", "dark"] as const).map((name) => (
              <Menu.RadioItem key={name} value={name}>
                {m.nav.themes[name]}
                <Menu.ItemIndicator className="tick">✓</Menu.ItemIndicator>
              </Menu.RadioItem>
            ))}
          </Menu.RadioGroup>
          <Menu.Separator className="sep" />
          <Menu.Item onSelect={() => void navigate({ to: "/account" })}>{m.nav.yourAccount}</Menu.Item>
          <Menu.Item onSelect={onHelp}>{m.nav.help}</Menu.Item>
          <Menu.Separator className="sep" />
          <Menu.Item onSelect={() => void leave(false)}>{m.nav.signOut}</Menu.Item>
          <Menu.Item onSelect={() => void leave(true)}>{m.nav.signOutEverywhere}</Menu.Item>
        </Menu.Content>
      </Menu.Portal>
    </Menu.Root>
  );
}

/** Keys that work on every page. They leave alone whoever writes. */
function useKeys(setOpen: (what: "palette" | "help" | undefined) => void): void {
  const navigate = useNavigate();
  const going = useRef(0);
  useEffect(() => {
    const onKey = (event: KeyboardEvent) => {
      if ((event.ctrlKey || event.metaKey) && event.key.toLowerCase() === "k") {
        event.preventDefault();
        setOpen("palette");
        return;
      }
      const target = event.target as HTMLElement;
      const writes = target.closest("input, textarea, select, [contenteditable], dialog, [role=menu]");
      if (writes || event.ctrlKey || event.metaKey || event.altKey) return;
      if (event.timeStamp - going.current < 1_200) {
        const there = PAGES.find(({ key }) => key === event.key);
        going.current = 0;
        if (there) {
          event.preventDefault();
          void navigate({ to: there.to });
          return;
        }
      }
      if (event.key === "g") going.current = event.timeStamp;
      else if (event.key === "?") setOpen("help");
      else if (event.key === "/") {
        const search = document.querySelector<HTMLInputElement>("input[type=search]");
        if (search) {
          event.preventDefault();
          search.focus();
        }
      }
    };
    addEventListener("keydown", onKey);
    return () => removeEventListener("keydown", onKey);
  }, [navigate, setOpen]);
}

// Go anywhere or begin anything by typing a few letters of it.
import { useQuery } from "@tanstack/react-query";
import { useNavigate } from "@tanstack/react-router";
import { useId, useState } from "react";
import { page } from "../api/client";
import { ranked } from "../lib/rank";
import { m } from "../messages/en";
import { Dialog } from "../ui/pieces";
import { offered } from "./nav";
import { mayWrite, useMe } from "./session";
import { chooseTheme } from "./theme";

interface Doable {
  name: string;
  keys?: string;
  act: () => void;
}

const ID = /^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$/i;

export function Palette({ onClose }: { onClose: () => void }) {
  const navigate = useNavigate();
  const user = useMe();
  const [typed, setTyped] = useState("");
  const [at, setAt] = useState(0);
  const list = useId();
  const agents = useQuery({ queryKey: ["agents", "palette"], queryFn: () => page("/v1/agents", { query: { limit: 100 } }), staleTime: 30_000 });
  const go = (to: string, search?: Record<string, string>) => () => void navigate({ to, search });
  const all: Doable[] = [
    ...offered(user?.role).map(({ to, label, key }) => ({ name: m.palette.goTo(label), keys: `g ${key}`, act: go(to) })),
    ...(mayWrite(user)
      ? [
          { name: m.palette.newRun, act: go("/runs", { start: "1" }) },
          { name: m.palette.newAgent, act: go("/agents", { create: "1" }) },
          { name: m.palette.newSession, act: go("/sessions", { begin: "1" }) },
        ]
      : []),
    ...(agents.data?.items ?? []).map(({ name }) => ({ name: m.palette.agent(name), act: go(`/agents/${encodeURIComponent(name)}`) })),
    ...(["system", "light", "dark"] as const).map((theme) => ({ name: m.palette.theme(m.nav.themes[theme]), act: () => chooseTheme(theme) })),
  ];
  const id = typed.trim();
  const run = ID.test(id) ? [{ name: m.palette.openRun(id), act: go(`/runs/${id}`) }] : [];
  const found: Doable[] = [...run, ...ranked(typed, all, (one) => one.name)].slice(0, 12);
  const picked = Math.min(at, found.length - 1);
  const choose = (one: Doable | undefined) => {
    if (!one) return;
    onClose();
    one.act();
  };
  return (
    <Dialog title={m.nav.palette} className="palette" onClose={onClose} bare>
      <input
        className="search"
        type="text"
        role="combobox"
        aria-label={m.nav.palette}
        aria-expanded="true"
        aria-controls={list}
        aria-activedescendant={found.length > 0 ? `${list}-${picked}` : undefined}
        placeholder={m.palette.placeholder}
        autoFocus
        autoComplete="off"
        value={typed}
        onChange={(event) => (setTyped(event.target.value), setAt(0))}
        onKeyDown={(event) => {
          if (event.key === "ArrowDown") setAt(Math.min(picked + 1, found.length - 1));
          else if (event.key === "ArrowUp") setAt(Math.max(picked - 1, 0));
          else if (event.key === "Enter") choose(found[picked]);
          else return;
          event.preventDefault();
        }}
      />
      <ul id={list} role="listbox" aria-label={m.palette.results}>
        {found.map((one, index) => (
          <li key={one.name} id={`${list}-${index}`} role="option" aria-selected={index === picked} onClick={() => choose(one)} onMouseMove={() => setAt(index)}>
            <span className="cut">{one.name}</span>
            {one.keys && <kbd>{one.keys}</kbd>}
          </li>
        ))}
      </ul>
      {found.length === 0 && <p className="spinner">{m.palette.empty}</p>}
    </Dialog>
  );
}

export function Shortcuts({ onClose }: { onClose: () => void }) {
  const user = useMe();
  const rows: [string, string[]][] = [
    [m.shortcuts.palette, ["Ctrl K"]],
    [m.shortcuts.help, ["?"]],
    [m.shortcuts.search, ["/"]],
    [m.shortcuts.goTo, ["g"]],
    ...offered(user?.role).map(({ label, key }): [string, string[]] => [m.palette.goTo(label), ["g", key]]),
    [m.shortcuts.next, ["j", "k"]],
    [m.shortcuts.open, ["Enter"]],
    [m.shortcuts.send, ["Enter"]],
    [m.shortcuts.close, ["Esc"]],
  ];
  return (
    <Dialog title={m.shortcuts.title} onClose={onClose}>
      <dl className="shortcuts">
        {rows.map(([what, keys]) => (
          <div key={what} style={{ display: "contents" }}>
            <dt>{what}</dt>
            <dd>
              {keys.map((key) => (
                <kbd key={key}>{key}</kbd>
              ))}
            </dd>
          </div>
        ))}
      </dl>
      <div className="formfoot">
        <button type="button" className="btn" onClick={onClose}>
          {m.common.close}
        </button>
      </div>
    </Dialog>
  );
}

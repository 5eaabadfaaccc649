// The small things that every page is made of.
import { type ReactNode, createContext, useContext, useEffect, useId, useRef, useState, useSyncExternalStore } from "react";
import { ApiError } from "../api/client";
import { exact, relative } from "../lib/format";
import { hintFor } from "../lib/value";
import { m } from "../messages/en";

// One clock for all relative times, so that a page of them does not start a timer for each.
let now = Date.now();
const watchers = new Set<() => void>();
let ticking: ReturnType<typeof setInterval> | undefined;
function watch(then: () => void): () => void {
  watchers.add(then);
  ticking ??= setInterval(() => {
    now = Date.now();
    for (const one of watchers) one();
  }, 1_000);
  return () => {
    watchers.delete(then);
    if (watchers.size === 0) {
      clearInterval(ticking);
      ticking = undefined;
    }
  };
}
/** The time, to the second. */
export function useNow(): number {
  return useSyncExternalStore(watch, () => now);
}
/** The time, to the minute: what needs no more is not drawn anew each second. */
export function useMinute(): number {
  return useSyncExternalStore(watch, () => Math.floor(now / 60_000) * 60_000);
}

/** How long ago, with the exact value on hover and for screen readers. */
export function Time({ at }: { at: string }) {
  const current = useNow();
  return (
    <time dateTime={at} title={exact(at)} className="nowrap">
      {relative(Date.parse(at), Math.max(current, Date.now() - 1_000))}
    </time>
  );
}

const TONES: Record<string, string> = {
  queued: "off", running: "live", paused: "asks", succeeded: "good", completed: "good", failed: "bad", cancelled: "off",
  pending: "asks", granted: "good", denied: "off", expired: "off", withdrawn: "off",
  active: "good", archived: "off", stopped: "off", revoked: "off", lifted: "off", holds: "bad", ok: "good", error: "bad", invalid: "bad",
};
export function Status({ of }: { of: string }) {
  return <span className={`status ${TONES[of] ?? "off"}`}>{m.status[of] ?? of}</span>;
}

export function Empty({ title, hint, command, children }: { title: string; hint?: string; command?: string; children?: ReactNode }) {
  return (
    <div className="empty">
      <h2>{title}</h2>
      {hint && <p>{hint}</p>}
      {children}
      {command && <Command line={command} />}
    </div>
  );
}

/** Puts a text where it can be pasted from. Browsers allow it on TLS and on this machine alone; `false` elsewhere. */
export async function copyText(text: string): Promise<boolean> {
  if (!navigator.clipboard) return false;
  return navigator.clipboard.writeText(text).then(
    () => true,
    () => false,
  );
}

/** A command, to be copied. */
export function Command({ line }: { line: string }) {
  const [copied, setCopied] = useState(false);
  const text = useRef<HTMLElement>(null);
  const copy = async () => {
    if (await copyText(line)) setCopied(true);
    else if (text.current) getSelection()?.selectAllChildren(text.current);
  };
  useEffect(() => {
    if (!copied) return;
    const timer = setTimeout(() => setCopied(false), 1_500);
    return () => clearTimeout(timer);
  }, [copied]);
  return (
    <div className="cli">
      <code tabIndex={0} ref={text}>
        {line}
      </code>
      <button type="button" className="btn plain small" onClick={copy}>
        {copied ? m.common.copied : m.common.copy}
      </button>
    </div>
  );
}

/** The command line that does what a button does; several, for several buttons. */
export function SameCommand({ line }: { line: string | string[] }) {
  return (
    <div className="cli-box">
      <span>{m.common.sameOnCli}</span>
      {[line].flat().map((one) => (
        <Command key={one} line={one} />
      ))}
    </div>
  );
}

/** What went wrong: the server's words, its code, the request's id, and what to do. */
export function Failure({ error, retry }: { error: unknown; retry?: () => void }) {
  if (!error) return null;
  const known = error instanceof ApiError ? error : new ApiError(500, "internal", String(error));
  const words = known.code === "unreachable" ? m.errors.unreachable : known.message || m.errors.unreadable;
  return (
    <div className="error" role="alert">
      <strong>{words}</strong>
      {known.fields.length > 0 && (
        <ul>
          {known.fields.map((field) => (
            <li key={field.path + field.message}>
              <code>{field.path}</code> {field.message}
            </li>
          ))}
        </ul>
      )}
      <p>{m.errors.next[hintFor(known.code, known.status, m.errors.next)]}</p>
      <div className="meta">
        <code>{known.code}</code>
        {known.requestId && <span className="mono">{m.common.requestId(known.requestId)}</span>}
        {retry && (
          <button type="button" className="btn small" onClick={retry}>
            {m.common.retry}
          </button>
        )}
      </div>
    </div>
  );
}

/** `quiet`: what stands beside it says the label already, which is for screen readers then. */
export function Field({ label, hint, quiet, children }: { label: string; hint?: string; quiet?: boolean; children: ReactNode }) {
  return (
    <label className="field">
      <span className={quiet ? "sr" : undefined}>{label}</span>
      {children}
      {hint && <small>{hint}</small>}
    </label>
  );
}

/** The browser's own modal dialog: it keeps the focus, closes by Escape, and needs no script to do so. */
export function Dialog({ title, onClose, className, children, bare }: { title: string; onClose: () => void; className?: string; children: ReactNode; bare?: boolean }) {
  const ref = useRef<HTMLDialogElement>(null);
  const id = useId();
  const close = useRef(onClose);
  close.current = onClose;
  useEffect(() => {
    const before = document.activeElement;
    ref.current?.showModal();
    return () => {
      if (before instanceof HTMLElement) before.focus();
    };
  }, []);
  return (
    <dialog
      ref={ref}
      className={className}
      aria-labelledby={id}
      onClose={() => close.current()}
      onClick={(event) => event.target === ref.current && ref.current?.close()}
    >
      {bare ? (
        <>
          <h2 id={id} className="sr">
            {title}
          </h2>
          {children}
        </>
      ) : (
        <div className="body">
          <h2 id={id}>{title}</h2>
          {children}
        </div>
      )}
    </dialog>
  );
}

/** Asks before something is done that cannot be undone, or asks for what it needs. */
export function Confirm(props: {
  title: string; text?: string; action: string; command?: string; danger?: boolean; error?: unknown; busy: boolean;
  onConfirm: () => void; onClose: () => void; children?: ReactNode;
}) {
  return (
    <Dialog title={props.title} onClose={props.onClose}>
      <form
        className="stack"
        onSubmit={(event) => {
          event.preventDefault();
          props.onConfirm();
        }}
      >
        {props.text && <p className="note">{props.text}</p>}
        {props.children}
        <Failure error={props.error} />
        {props.command && <SameCommand line={props.command} />}
        <div className="formfoot">
          <button type="button" className="btn plain" onClick={props.onClose}>
            {m.common.cancel}
          </button>
          <button type="submit" className={`btn first ${props.danger ? "danger" : ""}`} disabled={props.busy}>
            {props.action}
          </button>
        </div>
      </form>
    </Dialog>
  );
}

const Toasts = createContext<(text: string) => void>(() => {});
export const useToast = () => useContext(Toasts);
export function ToastRoom({ children }: { children: ReactNode }) {
  const [toasts, setToasts] = useState<{ id: number; text: string }[]>([]);
  const next = useRef(0);
  const show = useRef((text: string) => {
    const id = next.current++;
    setToasts((all) => [...all, { id, text }].slice(-3));
    setTimeout(() => setToasts((all) => all.filter((one) => one.id !== id)), 4_000);
  });
  return (
    <Toasts.Provider value={show.current}>
      {children}
      <div className="toasts" role="status">
        {toasts.map((toast) => (
          <div key={toast.id} className="toast">
            {toast.text}
          </div>
        ))}
      </div>
    </Toasts.Provider>
  );
}

export function Loading() {
  return (
    <p className="spinner" role="status">
      {m.common.loading}
    </p>
  );
}

export function Head({ title, lead, crumb, children }: { title: ReactNode; lead?: ReactNode; crumb?: ReactNode; children?: ReactNode }) {
  return (
    <div className="head">
      <div className="grow">
        {crumb && <div className="crumb">{crumb}</div>}
        <h1>{title}</h1>
        {lead && <p className="lead">{lead}</p>}
      </div>
      {children && <div className="row wrap">{children}</div>}
    </div>
  );
}

/** A page outside of the workspace, for whoever is not in yet. */
export function Door({ title, text, children }: { title: string; text: string; children: ReactNode }) {
  return (
    <main className="door">
      <div className="card">
        <div className="mark">
          <img src="/favicon.svg" alt="" />
          <h1>{title}</h1>
        </div>
        <p className="note">{text}</p>
        {children}
      </div>
    </main>
  );
}

/** The page's name in the window's title, too. */
export function useTitle(title: string): void {
  useEffect(() => {
    document.title = `${title} · ${m.brand}`;
  }, [title]);
}

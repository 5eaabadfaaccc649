// Caps, put together by whose they are.

export interface Cap {
  scope: string;
  period: string;
  apiKeyId?: string | null;
  agentName?: string | null;
}

const ORDER = ["tenant", "agent", "apiKey"];

/** Those of the workspace first, then those of agents, then those of keys; of each owner the day before the month. */
export function byOwner<C extends Cap>(caps: readonly C[]): { scope: string; id: string; caps: C[] }[] {
  const owners = new Map<string, { scope: string; id: string; caps: C[] }>();
  for (const cap of caps) {
    const id = cap.apiKeyId ?? cap.agentName ?? "";
    const owner = owners.get(`${cap.scope} ${id}`) ?? { scope: cap.scope, id, caps: [] };
    owner.caps.push(cap);
    owners.set(`${cap.scope} ${id}`, owner);
  }
  const place = ({ scope }: { scope: string }) => ORDER.indexOf(scope);
  const found = [...owners.values()].sort((a, b) => place(a) - place(b) || (a.id < b.id ? -1 : 1));
  for (const owner of found) owner.caps.sort((a, b) => (a.period < b.period ? -1 : 1));
  return found;
}

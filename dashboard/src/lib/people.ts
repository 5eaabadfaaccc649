// What somebody may do to whom. The server decides by the same rules; here they only spare people what would be refused.

/** Each may what the ones before it may. */
export const ROLES = ["viewer", "member", "admin", "owner"] as const;
export type Role = (typeof ROLES)[number];
export type Change = "role" | "remove" | "signOut" | "reset" | "removeCode";

const rank = (role: string | undefined): number => ROLES.indexOf(role as Role);

/** Whether somebody of this role may what those of another may. */
export function atLeast(role: string | undefined, least: Role): boolean {
  return rank(role) >= rank(least);
}

/** Whether somebody of this role looks after keys, providers and people. */
export function isAdmin(role: string | undefined): boolean {
  return atLeast(role, "admin");
}

/** The roles that somebody may give: none above their own, and none at all below an admin. */
export function givable(by: string | undefined): Role[] {
  return isAdmin(by) ? ROLES.filter((role) => rank(role) <= rank(by)) : [];
}

/** Whether somebody may be offered to do this to a member, who may be they themselves. */
export function offers(by: { role: string; id: string } | undefined, to: { role: string; id: string }, change: Change): boolean {
  if (!by || !isAdmin(by.role)) return false;
  if (change === "reset" || change === "removeCode") return by.id !== to.id && (rank(to.role) < rank(by.role) || by.role === "owner");
  return rank(to.role) <= rank(by.role);
}

export type Slip = "invitation" | "reset";

/** The link that hands a slip on. It stands behind the `#`, which a browser sends to nobody. */
export function slipLink(origin: string, kind: Slip, token: string): string {
  return `${origin}/${kind}#${token}`;
}

/** The slip of a link, or of what was pasted: a slip alone, or the link that has one. */
export function slipOf(text: string): string {
  return text.trim().split("#").at(-1) ?? "";
}

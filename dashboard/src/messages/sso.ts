// The part of the catalogue about signing in by an issuer.

export const sso = {
  continue: (label: string) => `Continue with ${label}`,
  accept: (label: string) => `Come in with ${label}`,
  link: (label: string) => `Link ${label}`,
  working: (name: string) => `You came back from ${name}. Signing in`,
  title: "Linked accounts",
  text: "Whoever one of these says you are signs in to this account, without its password. Your second factor is asked for all the same.",
  confirm: (label: string) => `Link what you came back from ${label} with?`,
  confirmText: "Whoever has that account there signs in to this one from now on. Your password shows that it is you who wants it.",
  linkIt: "Link",
  linked: "Linked",
  unlink: "Unlink",
  unlinkTitle: "Unlink this account?",
  unlinkText: "It signs nobody in to this account any more. Sign-ins that it began go on; end them below.",
  unlinked: "Unlinked",
  failed: "What came back is not to be believed.",
  refusals: {
    sso_denied: "Somebody said no there.",
    sso_expired: "This was used already, took too long, or was begun in another browser.",
    sso_email_unverified: "No verified address of yours is known there.",
    sso_unavailable: "It did not answer this server.",
    login_rate_limited: "There were too many tries.",
  } as Record<string, string>,
};

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
  failed: "Signing in did not work: what came back is not to be believed. Begin anew.",
  refusals: {
    sso_denied: "Somebody said no there. Begin anew, and say yes.",
    sso_expired: "This was used already, took too long, or was begun in another browser. Begin anew.",
    sso_email_unverified: "No verified address of yours is known there. Verify it there, and begin anew.",
    sso_unavailable: "It did not answer this server. Try again in a while, or sign in with your password.",
    login_rate_limited: "There were too many tries. Wait a minute, and begin anew.",
  } as Record<string, string>,
};

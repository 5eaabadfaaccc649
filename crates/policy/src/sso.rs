//! Who may come in by single sign-on, and as whom.
//!
//! Invariant: an account is nobody's but whoever has shown that they are its person: by an identity that is linked to it, or because the
//! operator says that this issuer speaks for the people of the account's tenant. The same address alone is no such thing: an account
//! may have been made by somebody who never had the address, and an issuer may say any address. Nobody new comes into a tenant but by
//! its invitation, or from a domain that the operator gave it. Knows no rows: what is found is brought along.

use lantern_types::TenantId;

/// What kind of issuer it is, as far as that bears on whom it may speak for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// One that the operator runs or chose: it speaks for every address that it says is verified.
    Oidc,
    /// Google, which speaks for its own mail and for the domains that it hosts. Any other address it saw verified once, and whose it is
    /// now it does not know (<https://developers.google.com/identity/openid-connect/openid-connect#an-id-tokens-payload>).
    Google,
    /// GitHub, which saw each address verified once.
    GitHub,
}

/// Domains in which Google gives out addresses itself.
const GOOGLES_OWN: [&str; 2] = ["gmail.com", "googlemail.com"];

/// What the operator said of a provider.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rules {
    /// Its kind.
    pub kind: Kind,
    /// The one tenant whose people it signs in; `None` for all.
    pub tenant: Option<TenantId>,
    /// The domains whose addresses it signs in; empty for all.
    pub domains: Vec<String>,
    /// Into which tenant somebody new of a domain comes.
    pub joins: Vec<(String, TenantId)>,
}

/// What the issuer says of somebody.
#[derive(Clone, Copy, Debug)]
pub struct Said<'a> {
    /// Their address, verified.
    pub email: &'a str,
    /// The domain of which the issuer hosts their account.
    pub hosted: Option<&'a str>,
}

/// What is known here.
#[derive(Clone, Copy, Debug, Default)]
pub struct Found {
    /// The tenant of the person whose identity this is.
    pub linked: Option<TenantId>,
    /// The tenant of the account that has the address, and whether that account is somebody else to this issuer.
    pub account: Option<(TenantId, bool)>,
    /// The tenant of an invitation that they brought, which is good and names the address.
    pub invited: Option<TenantId>,
}

/// As whom somebody comes in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// As the person whose identity it is.
    Known,
    /// As the person whose account has the address; the identity is theirs from now on.
    Link,
    /// As somebody new, whom their invitation names.
    Accept,
    /// As somebody new, a member of this tenant.
    Join(TenantId),
}

/// Why somebody does not come in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// An account has the address, and nobody says that it is theirs.
    NotLinked,
    /// Nobody here is them, or nobody whom this provider signs in.
    Nobody,
}

/// As whom somebody comes in of whom an issuer says this.
pub fn decide(rules: &Rules, said: Said<'_>, found: Found) -> Result<Verdict, Refused> {
    let domain = domain(said.email).ok_or(Refused::Nobody)?;
    let vouched = vouches(rules.kind, &domain, said.hosted);
    let listed = rules.domains.iter().any(|listed| listed.eq_ignore_ascii_case(&domain));
    let allowed = rules.domains.is_empty() || (listed && vouched);
    if !allowed {
        return Err(Refused::Nobody);
    }
    let within = |tenant: TenantId| rules.tenant.is_none_or(|only| only == tenant);
    if let Some(tenant) = found.linked {
        return if within(tenant) { Ok(Verdict::Known) } else { Err(Refused::Nobody) };
    }
    if let Some((tenant, other)) = found.account {
        let theirs = rules.tenant == Some(tenant) && vouched && !other;
        return if theirs { Ok(Verdict::Link) } else { Err(Refused::NotLinked) };
    }
    if found.invited.is_some_and(within) {
        return Ok(Verdict::Accept);
    }
    let joined = rules.joins.iter().find(|(from, _)| from.eq_ignore_ascii_case(&domain));
    match joined {
        Some((_, tenant)) if vouched && within(*tenant) => Ok(Verdict::Join(*tenant)),
        _ => Err(Refused::Nobody),
    }
}

/// Whether an issuer of this kind knows whose the addresses of a domain are.
fn vouches(kind: Kind, domain: &str, hosted: Option<&str>) -> bool {
    match kind {
        Kind::Oidc => true,
        Kind::Google => {
            GOOGLES_OWN.contains(&domain) || hosted.is_some_and(|hosted| hosted.eq_ignore_ascii_case(domain))
        }
        Kind::GitHub => false,
    }
}

/// Whether new people can come from domains by an issuer of this kind at all.
pub const fn may_join(kind: Kind) -> bool {
    matches!(kind, Kind::Oidc | Kind::Google)
}

fn domain(email: &str) -> Option<String> {
    let (local, domain) = email.rsplit_once('@')?;
    (!local.is_empty() && !domain.is_empty()).then(|| domain.to_lowercase())
}

/// Where a page may go on after signing in: a path of this server. `None` for everything that could lead elsewhere, or look as if.
pub fn path_here(said: &str) -> Option<&str> {
    const LENGTH_MAX: usize = 1_024;
    let plain = |byte: u8| byte.is_ascii_graphic() && !matches!(byte, b'\\' | b'"' | b'<' | b'>' | b'`');
    let second = said.as_bytes().get(1);
    let lower = said.to_ascii_lowercase();
    // What a proxy or a page would take apart once more.
    let hidden = ["/%2f", "/%5c", "/%09", "/%0a", "/%0d"].iter().any(|start| lower.starts_with(start));
    let here = said.len() <= LENGTH_MAX
        && said.starts_with('/')
        && second != Some(&b'/')
        && said.bytes().all(plain)
        && !hidden
        && !lower.contains("/..")
        // Whoever is signed in has nothing to do there.
        && !["/sign-in", "/auth/"].iter().any(|start| lower.starts_with(start));
    here.then_some(said)
}

#[cfg(test)]
mod tests {
    use super::*;
    use lantern_types::{DEV_TENANT, DEV_USER};

    const A: TenantId = DEV_TENANT;
    const B: TenantId = TenantId::from_uuid(DEV_USER.uuid());

    fn rules(kind: Kind, tenant: Option<TenantId>) -> Rules {
        Rules { kind, tenant, domains: Vec::new(), joins: Vec::new() }
    }

    fn said(email: &str) -> Said<'_> {
        Said { email, hosted: None }
    }

    #[test]
    fn the_same_address_is_not_the_same_person() {
        let account = Found { account: Some((A, false)), ..Found::default() };
        for (tenant, kind, want) in [
            (None, Kind::Oidc, Err(Refused::NotLinked)),
            (None, Kind::Google, Err(Refused::NotLinked)),
            (None, Kind::GitHub, Err(Refused::NotLinked)),
            (Some(B), Kind::Oidc, Err(Refused::NotLinked)),
            (Some(A), Kind::Oidc, Ok(Verdict::Link)),
            (Some(A), Kind::Google, Err(Refused::NotLinked)),
            (Some(A), Kind::GitHub, Err(Refused::NotLinked)),
        ] {
            let got = decide(&rules(kind, tenant), said("ada@example.com"), account);
            assert_eq!(got, want, "{kind:?} {tenant:?}");
        }
        // Google hosts the domain, or gives its addresses out itself.
        let google = rules(Kind::Google, Some(A));
        let hosted = Said { email: "ada@example.com", hosted: Some("Example.com") };
        assert_eq!(decide(&google, hosted, account), Ok(Verdict::Link));
        assert_eq!(decide(&google, said("ada@gmail.com"), account), Ok(Verdict::Link));
        let other = Said { email: "ada@example.com", hosted: Some("example.org") };
        assert_eq!(decide(&google, other, account), Err(Refused::NotLinked));
        // An address that was given to somebody else since.
        let taken = Found { account: Some((A, true)), ..Found::default() };
        let got = decide(&rules(Kind::Oidc, Some(A)), said("ada@example.com"), taken);
        assert_eq!(got, Err(Refused::NotLinked));
    }

    #[test]
    fn an_issuer_of_one_tenant_signs_nobody_else_in() {
        for (tenant, linked, want) in [
            (None, A, Ok(Verdict::Known)),
            (Some(A), A, Ok(Verdict::Known)),
            (Some(B), A, Err(Refused::Nobody)),
        ] {
            // Whatever else is known of the address.
            let found = Found { linked: Some(linked), account: Some((B, false)), invited: Some(B) };
            assert_eq!(decide(&rules(Kind::Oidc, tenant), said("ada@example.com"), found), want);
        }
    }

    #[test]
    fn nobody_new_comes_in_but_by_an_invitation_or_a_domain() {
        let joins = vec![("example.com".to_owned(), A)];
        let open = |kind| Rules { joins: joins.clone(), ..rules(kind, None) };
        let (nobody, invited) = (Found::default(), Found { invited: Some(B), ..Found::default() });
        for (rules, email, found, want) in [
            (rules(Kind::Oidc, None), "ada@example.com", nobody, Err(Refused::Nobody)),
            (rules(Kind::Oidc, None), "ada@example.com", invited, Ok(Verdict::Accept)),
            (rules(Kind::GitHub, None), "ada@example.com", invited, Ok(Verdict::Accept)),
            (rules(Kind::Oidc, Some(A)), "ada@example.com", invited, Err(Refused::Nobody)),
            (open(Kind::Oidc), "ada@EXAMPLE.com", nobody, Ok(Verdict::Join(A))),
            (open(Kind::Oidc), "ada@example.com", invited, Ok(Verdict::Accept)),
            (open(Kind::Oidc), "ada@sub.example.com", nobody, Err(Refused::Nobody)),
            (open(Kind::Oidc), "ada@notexample.com", nobody, Err(Refused::Nobody)),
            (open(Kind::Oidc), "ada@example.com@evil.example", nobody, Err(Refused::Nobody)),
            (open(Kind::Oidc), "@example.com", nobody, Err(Refused::Nobody)),
            (open(Kind::Google), "ada@example.com", nobody, Err(Refused::Nobody)),
            (open(Kind::GitHub), "ada@example.com", nobody, Err(Refused::Nobody)),
            (Rules { tenant: Some(B), ..open(Kind::Oidc) }, "ada@example.com", nobody, Err(Refused::Nobody)),
        ] {
            assert_eq!(decide(&rules, said(email), found), want, "{rules:?} {email}");
        }
    }

    #[test]
    fn a_domain_that_is_not_listed_is_refused_whoever_it_is() {
        let listed = |kind| Rules { domains: vec!["example.com".to_owned()], ..rules(kind, None) };
        let known = Found { linked: Some(A), ..Found::default() };
        for (kind, email, hosted, want) in [
            (Kind::Oidc, "ada@example.com", None, Ok(Verdict::Known)),
            (Kind::Oidc, "ada@example.org", None, Err(Refused::Nobody)),
            (Kind::Google, "ada@example.com", Some("example.com"), Ok(Verdict::Known)),
            // Somebody who has left may have kept a private account of that address.
            (Kind::Google, "ada@example.com", None, Err(Refused::Nobody)),
            (Kind::GitHub, "ada@example.com", None, Err(Refused::Nobody)),
        ] {
            assert_eq!(decide(&listed(kind), Said { email, hosted }, known), want, "{kind:?} {email}");
        }
    }

    #[test]
    fn a_path_leads_nowhere_else() {
        for good in ["/", "/runs", "/runs/1?a=b&c=/d#e", "/search?q=%2F%2Fevil.example", "/a//b", "/%E4"] {
            assert_eq!(path_here(good), Some(good), "{good}");
        }
        let long = format!("/{}", "a".repeat(1_024));
        for bad in [
            "",
            "runs",
            "//evil.example",
            "///evil.example",
            "/\\evil.example",
            "\\/evil.example",
            "/runs\\..\\x",
            "https://evil.example/",
            "https:evil.example",
            "javascript:alert(1)",
            "/%2fevil.example",
            "/%2F%2Fevil.example",
            "/%5Cevil.example",
            "/%09/evil.example",
            "/a/..//evil.example",
            "/\t/evil.example",
            "/\n/evil.example",
            " //evil.example",
            "/runs\r\nSet-Cookie: a=b",
            "/rünen",
            "/\u{2215}evil.example",
            "/sign-in?next=/runs",
            "/auth/oauth/x/callback",
            &long,
        ] {
            assert_eq!(path_here(bad), None, "{bad:?}");
        }
    }
}

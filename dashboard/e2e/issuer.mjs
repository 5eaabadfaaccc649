// An issuer of OpenID Connect, as a browser meets it: a page that is one button, and a token that is signed.
import { createHash, createSign, generateKeyPairSync, randomBytes } from "node:crypto";
import { createServer } from "node:http";

const TENANT = "00000000-0000-0000-0000-000000000001";
const encode = (value) => Buffer.from(JSON.stringify(value)).toString("base64url");

export class Issuer {
  /** What it says of whoever signs in. */
  email = "admin@lantern.dev";
  codes = new Map();
  keys = generateKeyPairSync("rsa", { modulusLength: 2048 });

  async start() {
    this.server = createServer((request, response) => {
      let body = "";
      request.on("data", (piece) => (body += piece)).on("end", () => this.answer(new URL(request.url, this.url), new URLSearchParams(body), response));
    });
    await new Promise((resolve) => this.server.listen(0, "127.0.0.1", resolve));
    this.url = `http://127.0.0.1:${this.server.address().port}`;
    return this;
  }

  answer(url, form, response) {
    const json = (value) => response.setHeader("Content-Type", "application/json").end(JSON.stringify(value));
    if (url.pathname === "/.well-known/openid-configuration") {
      return json({ issuer: this.url, authorization_endpoint: `${this.url}/authorize`, token_endpoint: `${this.url}/token`, jwks_uri: `${this.url}/keys` });
    }
    if (url.pathname === "/keys") return json({ keys: [{ ...this.keys.publicKey.export({ format: "jwk" }), kid: "one", use: "sig", alg: "RS256" }] });
    if (url.pathname === "/authorize") {
      const asked = Object.fromEntries(url.searchParams);
      const code = randomBytes(16).toString("hex");
      this.codes.set(code, asked);
      const back = (more) => `${asked.redirect_uri}?state=${asked.state}&${more}`;
      response.setHeader("Content-Type", "text/html");
      return response.end(`<!doctype html><title>Issuer</title><a href="${back(`code=${code}`)}">That is me</a> <a href="${back("error=access_denied")}">No</a>`);
    }
    const asked = this.codes.get(form.get("code"));
    const shown = createHash("sha256").update(form.get("code_verifier") ?? "").digest("base64url");
    if (url.pathname !== "/token" || asked?.code_challenge !== shown) return response.writeHead(400).end();
    const now = Math.floor(Date.now() / 1000);
    const claims = { iss: this.url, sub: this.email, aud: "pages", iat: now, exp: now + 300, nonce: asked.nonce, email: this.email, email_verified: true };
    const text = `${encode({ alg: "RS256", kid: "one" })}.${encode(claims)}`;
    return json({ token_type: "Bearer", access_token: "x", id_token: `${text}.${createSign("RSA-SHA256").update(text).sign(this.keys.privateKey, "base64url")}` });
  }

  /** The environment that makes a server use it, for the people of its one tenant. */
  get env() {
    return {
      LANTERN_OIDC_ISSUER: this.url, LANTERN_OIDC_LABEL: "Work", LANTERN_OIDC_TENANT: TENANT, LANTERN_OIDC_PRIVATE_ADDRESS: "true",
      LANTERN_OIDC_CLIENT_ID: "pages", LANTERN_OIDC_CLIENT_SECRET: "of the pages",
    };
  }

  async end() {
    await new Promise((resolve) => this.server.close(resolve));
  }
}

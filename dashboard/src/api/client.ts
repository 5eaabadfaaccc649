// The one way to the API: typed by what it says of itself, signed by the cookie, and refused in one shape.
//
// Every request carries the header that makes the cookie count. No credential is ever seen here.
import type { components, paths } from "./schema";

export type Schemas = components["schemas"];
export type Run = Schemas["Run"];
export type Agent = Schemas["Agent"];
export type AgentSummary = Schemas["AgentSummary"];
export type AgentVersion = Schemas["AgentVersion"];
export type AgentVersionSummary = Schemas["AgentVersionSummary"];
export type Approval = Schemas["Approval"];
export type Session = Schemas["Session"];
export type User = Schemas["User"];
export type Member = Schemas["Member"];
export type Invitation = Schemas["Invitation"];
export type SignIn = Schemas["SignIn"];
export type Identity = Schemas["Identity"];
export type AuditEntry = Schemas["AuditEntry"];
export type ApiKey = Schemas["ApiKey"];
export type EmergencyStop = Schemas["EmergencyStop"];
export type Secret = Schemas["Secret"];
export type Budget = Schemas["Budget"];
export type SpendingCap = paths["/v1/settings/caps"]["get"]["responses"][200]["content"]["application/json"][number];

type Verb = "get" | "post" | "put" | "patch" | "delete";
type Paths<V extends Verb> = {
  [P in keyof paths]: paths[P] extends Record<V, { responses: unknown }> ? P : never;
}[keyof paths];
type Operation<P extends keyof paths, V extends Verb> = paths[P] extends Record<V, infer O> ? O : never;
type Json<R> = R extends { content: { "application/json": infer T } } ? T : undefined;
type Answer<O> = O extends { responses: infer R }
  ? R extends { 200: infer A }
    ? Json<A>
    : R extends { 201: infer A }
      ? Json<A>
      : R extends { 202: infer A }
        ? Json<A>
        : undefined
  : never;
type BodyOf<O> = O extends { requestBody?: { content: { "application/json": infer B } } } ? B : undefined;

export type Query = Record<string, string | number | string[] | undefined>;
export interface Asked<B = unknown> {
  path?: Record<string, string>;
  query?: Query;
  body?: B;
  /** On which revision alone it is to happen. */
  match?: { "If-Match": string } | { "If-None-Match": "*" };
  signal?: AbortSignal;
}

/** What the server refused, or that it could not be reached. */
export class ApiError extends Error {
  constructor(
    readonly status: number,
    readonly code: string,
    message: string,
    readonly requestId?: string,
    readonly fields: { path: string; message: string }[] = [],
  ) {
    super(message);
  }
}

/** The header beside which a session cookie counts. */
export const PAGE = { "X-Lantern-Page": "1" };

let signedOut: () => void = () => {};
/** Calls `then` whenever the server knows us no more. */
export function onSignedOut(then: () => void): void {
  signedOut = then;
}

export function address(path: string, asked: Asked): string {
  const filled = path.replace(/\{(\w+)\}/g, (_, name: string) => encodeURIComponent(asked.path?.[name] ?? ""));
  const query = new URLSearchParams();
  for (const [name, value] of Object.entries(asked.query ?? {})) {
    for (const one of Array.isArray(value) ? value : [value]) {
      if (one !== undefined && one !== "") query.append(name, String(one));
    }
  }
  const text = query.toString();
  return text ? `${filled}?${text}` : filled;
}

/** The refusal that a response is. */
export async function refusal(response: Response): Promise<ApiError> {
  const id = response.headers.get("x-request-id") ?? undefined;
  const problem = await response.json().catch(() => ({}));
  const { error, code, requestId, fields } = problem as Partial<Schemas["Problem"]>;
  // What other refusals of this status are about is what was typed, not who is signed in.
  if (response.status === 401 && (code === "unauthorized" || code === undefined)) signedOut();
  return new ApiError(response.status, code ?? "unreadable", error ?? response.statusText, requestId ?? id, fields);
}

async function send(verb: Verb, path: string, asked: Asked): Promise<{ data: unknown; next?: string }> {
  const headers: Record<string, string> = { ...PAGE, ...asked.match, Accept: "application/json" };
  if (verb !== "get") headers["Content-Type"] = "application/json";
  let response: Response;
  try {
    response = await fetch(address(path, asked), {
      method: verb.toUpperCase(),
      headers,
      body: verb === "get" || verb === "delete" ? undefined : JSON.stringify(asked.body ?? {}),
      signal: asked.signal,
      credentials: "same-origin",
    });
  } catch (error) {
    if (error instanceof DOMException && error.name === "AbortError") throw error;
    throw new ApiError(0, "unreachable", "");
  }
  if (!response.ok) throw await refusal(response);
  const text = await response.text();
  return { data: text ? JSON.parse(text) : undefined, next: response.headers.get("x-next-cursor") ?? undefined };
}

/** A file, byte for byte: what was parsed and written again would be another one. */
export async function file<P extends Paths<"get">>(path: P, asked: Asked = {}): Promise<Blob> {
  const answer = await fetch(address(path, asked), { headers: PAGE, credentials: "same-origin", signal: asked.signal }).catch(() => {
    throw new ApiError(0, "unreachable", "");
  });
  if (!answer.ok) throw await refusal(answer);
  return answer.blob();
}

export async function get<P extends Paths<"get">>(path: P, asked: Asked = {}): Promise<Answer<Operation<P, "get">>> {
  return (await send("get", path, asked)).data as Answer<Operation<P, "get">>;
}
/** One page of a list, and where the next one begins. */
export async function page<P extends Paths<"get">>(path: P, asked: Asked = {}) {
  const { data, next } = await send("get", path, asked);
  return { items: data as Answer<Operation<P, "get">>, next };
}
export async function post<P extends Paths<"post">>(path: P, asked: Asked<BodyOf<Operation<P, "post">>> = {}) {
  return (await send("post", path, asked)).data as Answer<Operation<P, "post">>;
}
export async function put<P extends Paths<"put">>(path: P, asked: Asked<BodyOf<Operation<P, "put">>> = {}) {
  return (await send("put", path, asked)).data as Answer<Operation<P, "put">>;
}
export async function patch<P extends Paths<"patch">>(path: P, asked: Asked<BodyOf<Operation<P, "patch">>> = {}) {
  return (await send("patch", path, asked)).data as Answer<Operation<P, "patch">>;
}
export async function remove<P extends Paths<"delete">>(path: P, asked: Asked = {}) {
  await send("delete", path, asked);
}

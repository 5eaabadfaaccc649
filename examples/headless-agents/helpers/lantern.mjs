// @ts-check
/**
 * Durable steps for a program in a box: what was done before is not done again.
 *
 *     import { step, llm, sleep, get, log } from "./lantern.mjs";
 *
 *     const page = await step("fetch", () => get("http://example.com/"));
 *
 * What a step returns is JSON, and is in the run's journal before the program gets it. When the box is lost and the workload may run
 * again (`idempotent: true`), the program is begun afresh and each step that was recorded answers at once. A step that was cut off
 * before it was recorded is done again. Outside of a box nothing is recorded, and everything is done.
 *
 * Node's own modules alone, with types for TypeScript. The spec must say `network: allowlist`; it may list no rules.
 */

import http from "node:http";

const here = process.env.LANTERN_LOCAL_URL;
/** @type {Map<string, number>} */
const counts = new Map();

/** The server did not take it. `code` says why: too_many_steps, steps_full, step_under_way, invalid_body, unavailable; of a model call also what the door says. */
export class LanternError extends Error {
  /** @param {string} code @param {string} message */
  constructor(code, message) {
    super(message);
    this.code = code;
  }
}

/**
 * @param {http.RequestOptions & { url?: string }} options
 * @param {string} [body]
 * @returns {Promise<{ status: number, text: string }>}
 */
function request(options, body) {
  return new Promise((resolve, reject) => {
    const sent = http.request({ agent: false, ...options }, (answer) => {
      /** @type {Buffer[]} */
      const pieces = [];
      answer.on("data", (piece) => pieces.push(piece));
      answer.on("error", reject);
      answer.on("end", () => {
        resolve({ status: answer.statusCode ?? 0, text: Buffer.concat(pieces).toString("utf8") });
      });
    });
    sent.on("error", reject);
    sent.end(body);
  });
}

/** @param {string} path @param {unknown} value @returns {Promise<any>} */
async function ask(path, value) {
  const body = JSON.stringify(value);
  const { hostname, port } = new URL(here ?? "");
  const headers = { "content-type": "application/json", "content-length": Buffer.byteLength(body) };
  const { status, text } = await request({ hostname, port, path, method: "POST", headers }, body);
  const told = JSON.parse(text);
  // A refused model call is worded as its door does.
  const inner = typeof told.error === "object" ? told.error : { code: told.code, message: told.error };
  if (status !== 200) throw new LanternError(inner.code, inner.message);
  return told;
}

/**
 * Writes a line to the workload's log.
 * @param {string} message
 */
export async function log(message) {
  if (here) await ask("/v1/log", { message });
  else console.log(message);
}

/** @param {string} name */
function keyed(name) {
  const nth = (counts.get(name) ?? 0) + 1;
  counts.set(name, nth);
  return `${name}#${nth}`;
}

/**
 * Calls a model once and answers ever after with what it said. Only in a box.
 * @param {string} name
 * @param {Record<string, unknown>} request what /v1/chat/completions is asked
 * @returns {Promise<any>}
 */
export async function llm(name, request) {
  return (await ask("/v1/steps/llm", { key: keyed(name), request })).value;
}

/**
 * Sleeps until a time that is recorded when it is first asked for.
 * @param {string} name
 * @param {number} seconds
 */
export async function sleep(name, seconds) {
  if (here) await ask("/v1/steps/sleep", { key: keyed(name), seconds });
  else await new Promise((resolve) => setTimeout(resolve, seconds * 1000));
}

/**
 * Does work once: what it returned is answered with ever after.
 * @template T
 * @param {string} name
 * @param {() => T | Promise<T>} work
 * @returns {Promise<T>}
 */
export async function step(name, work) {
  const key = keyed(name);
  if (!here) return work();
  const known = await ask("/v1/steps/recall", { key });
  if (known.recorded) return known.value;
  const value = (await work()) ?? null;
  return (await ask("/v1/steps/record", { key, value })).value;
}

/**
 * A page in plain HTTP, by the box's way out, which Node does not take by itself.
 * @param {string} url
 * @returns {Promise<string>}
 */
export async function get(url) {
  const proxy = process.env.http_proxy;
  const to = new URL(proxy ?? url);
  const path = proxy ? url : to.pathname + to.search;
  const { status, text } = await request({ hostname: to.hostname, port: to.port, path, headers: { host: new URL(url).host } });
  if (status !== 200) throw new Error(`${url} answered ${status}: ${text.trim()}`);
  return text;
}

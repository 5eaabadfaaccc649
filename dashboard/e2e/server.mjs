// The real program on a database of its own: started, killed, and started again on the same folder and port.
import { spawn } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";

export const PROGRAM = process.env.LANTERN_PROGRAM;

export class Server {
  /** With more in its environment than a path and a home. */
  constructor(env = {}) {
    this.env = env;
    this.folder = mkdtempSync(join(tmpdir(), "lantern-dashboard-"));
  }

  async start() {
    this.port ??= await freePort();
    this.url = `http://127.0.0.1:${this.port}`;
    const args = ["dev", "-o", "json", "--no-open", "--listen", `127.0.0.1:${this.port}`, "--data-dir", this.folder];
    const env = { PATH: process.env.PATH, HOME: this.folder, LOG_LEVEL: "error", ...this.env };
    this.child = spawn(PROGRAM, args, { env, cwd: this.folder, stdio: ["ignore", "pipe", "inherit"] });
    this.ready = JSON.parse(await firstLine(this.child));
    return this;
  }

  /** As a power cut would. */
  async kill() {
    const gone = new Promise((resolve) => this.child.once("exit", resolve));
    this.child.kill("SIGKILL");
    await gone;
  }

  async end() {
    if (this.child && this.child.exitCode === null && this.child.signalCode === null) await this.kill();
    rmSync(this.folder, { recursive: true, force: true });
  }

  /** Asks the API beside the browser, as a program. */
  async api(method, path, body) {
    this.token ??= (await this.ask("POST", "/auth/login", this.ready.login)).token;
    return this.ask(method, path, body, { Authorization: `Bearer ${this.token}` });
  }

  async ask(method, path, body, headers = {}) {
    const answer = await fetch(this.url + path, { method, headers: { "Content-Type": "application/json", ...headers }, body: body && JSON.stringify(body) });
    const text = await answer.text();
    if (!answer.ok) throw new Error(`${method} ${path}: ${answer.status} ${text}`);
    return text ? JSON.parse(text) : undefined;
  }
}

function firstLine(child) {
  return new Promise((resolve, reject) => {
    let said = "";
    child.stdout.on("data", (piece) => {
      said += piece;
      if (said.includes("\n")) resolve(said.split("\n", 1)[0]);
    });
    child.once("exit", (code) => reject(new Error(`the server ended with ${code} before it was ready`)));
  });
}

function freePort() {
  return new Promise((resolve, reject) => {
    const server = createServer();
    server.once("error", reject);
    server.listen(0, "127.0.0.1", () => {
      const { port } = server.address();
      server.close(() => resolve(port));
    });
  });
}

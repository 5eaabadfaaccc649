// A vendor of models, as a server meets it: chat completions with prices, and the same short answer to everything.
import { createServer } from "node:http";

const chunk = (more) => `data: ${JSON.stringify({ id: "c", object: "chat.completion.chunk", model: "gpt-4o-2024", ...more })}\n\n`;
const ANSWER = [
  chunk({ choices: [{ index: 0, delta: { role: "assistant", content: "Fine." } }] }),
  chunk({ choices: [{ index: 0, delta: {}, finish_reason: "stop" }], usage: { prompt_tokens: 12, completion_tokens: 3 } }),
  "data: [DONE]\n\n",
].join("");

export class Provider {
  calls = 0;

  async start() {
    this.server = createServer((request, response) => {
      request.resume().on("end", () => {
        if (request.url === "/v1/models") return response.setHeader("Content-Type", "application/json").end(JSON.stringify({ object: "list", data: [{ id: "gpt-4o", object: "model" }] }));
        this.calls += 1;
        response.setHeader("Content-Type", "text/event-stream").end(ANSWER);
      });
    });
    await new Promise((resolve) => this.server.listen(0, "127.0.0.1", resolve));
    return this;
  }

  /** The environment that makes a server use it. */
  get env() {
    return { OPENAI_BASE_URL: `http://127.0.0.1:${this.server.address().port}/v1`, OPENAI_API_KEY: "sk-not-a-real-key-0123456789" };
  }

  end() {
    this.server.closeAllConnections();
    return new Promise((resolve) => this.server.close(resolve));
  }
}

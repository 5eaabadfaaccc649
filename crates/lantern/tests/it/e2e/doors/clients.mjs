// The official JavaScript clients against the front doors. Only the base URL and the key are ours.
//
// Arguments: where the clients are installed, which client, the server's address, an API key, and which group of checks. Says
// each check that holds.

import assert from "node:assert/strict";
import { createRequire } from "node:module";
import { pathToFileURL } from "node:url";

const [folder, which, server, key, group] = process.argv.slice(2);
const require = createRequire(pathToFileURL(`${folder}/x.js`));
const held = (name) => console.log(`held: ${which} ${name}`);

async function refused(call, kind) {
  try {
    await call();
  } catch (error) {
    assert.ok(error instanceof kind, `${error}`);
    assert.ok(!`${error}`.includes("sk-upstream"), `${error}`);
    return error;
  }
  assert.fail("nothing refused it");
}

const groups = {
  async openai_basics() {
    const { OpenAI } = require("openai");
    const client = new OpenAI({ baseURL: `${server}/v1`, apiKey: key });
    const messages = [{ role: "user", content: "hi" }];
    const done = await client.chat.completions.create({ model: "gpt-4o", messages });
    assert.equal(done.choices[0].message.content, "Hello from the model");
    assert.equal(done.usage.completion_tokens, 12);
    held("text");

    let text = "";
    for await (const chunk of await client.chat.completions.create({ model: "gpt-4o", messages, stream: true })) {
      assert.equal(chunk.choices.length, 1);
      text += chunk.choices[0].delta.content ?? "";
    }
    assert.equal(text, "Hello from the model");
    held("stream");

    const tools = [{ type: "function", function: { name: "weather", parameters: { type: "object", properties: {} } } }];
    const stream = client.chat.completions.stream({ model: "gpt-4o", messages, tools });
    const call = (await stream.finalChatCompletion()).choices[0].message.tool_calls[0];
    assert.deepEqual([call.function.name, JSON.parse(call.function.arguments)], ["weather", { city: "Oslo" }]);
    held("tools");

    const format = { type: "json_schema", json_schema: { name: "answer", schema: { type: "object" } } };
    const parsed = await client.chat.completions.create({ model: "gpt-4o", messages, response_format: format });
    assert.deepEqual(JSON.parse(parsed.choices[0].message.content), { answer: 42 });
    held("structured output");

    assert.equal((await client.responses.create({ model: "gpt-4o", input: "hi" })).output_text, "Hello from the model");
    const response = await client.responses.stream({ model: "gpt-4o", input: "hi" }).finalResponse();
    assert.equal(response.output_text, "Hello from the model");
    held("responses");

    const once = new OpenAI({ baseURL: `${server}/v1`, apiKey: key, maxRetries: 0 });
    const say = (content, model = "gpt-4o") => () =>
      once.chat.completions.create({ model, messages: [{ role: "user", content }] });
    assert.equal((await refused(say("fail 429"), OpenAI.RateLimitError)).code, "told_to");
    assert.equal((await refused(say("hi", "nowhere/gpt-4o"), OpenAI.NotFoundError)).code, "model_not_found");
    held("errors");
  },

  async openai_quota() {
    const { OpenAI } = require("openai");
    const client = new OpenAI({ baseURL: `${server}/v1`, apiKey: key });
    const call = () => client.chat.completions.create({ model: "gpt-4o", messages: [{ role: "user", content: "hi" }] });
    assert.equal((await refused(call, OpenAI.RateLimitError)).code, "insufficient_quota");
    held("quota");
  },

  async anthropic_basics() {
    const { Anthropic } = require("@anthropic-ai/sdk");
    const client = new Anthropic({ baseURL: server, apiKey: key });
    const ask = { model: "claude-sonnet-4-6", max_tokens: 100, messages: [{ role: "user", content: "hi" }] };
    assert.equal((await client.messages.create(ask)).content[0].text, "Hello from the model");
    held("text");

    const final = await client.messages.stream(ask).finalMessage();
    assert.deepEqual([final.content[0].text, final.stop_reason], ["Hello from the model", "end_turn"]);
    held("stream");

    const tools = [{ name: "weather", input_schema: { type: "object", properties: {} } }];
    const used = await client.messages.stream({ ...ask, tools }).finalMessage();
    assert.deepEqual(used.content[0].input, { city: "Oslo" });
    held("tools");

    assert.equal((await client.messages.countTokens({ model: ask.model, messages: ask.messages })).input_tokens, 17);
    held("count of tokens");

    const once = new Anthropic({ baseURL: server, apiKey: key, maxRetries: 0 });
    const say = (content, model = ask.model) => () =>
      once.messages.create({ ...ask, model, messages: [{ role: "user", content }] });
    await refused(say("fail 429"), Anthropic.RateLimitError);
    await refused(say("hi", "nowhere/claude-sonnet-4-5"), Anthropic.NotFoundError);
    held("errors");
  },

  async anthropic_quota() {
    const { Anthropic } = require("@anthropic-ai/sdk");
    const client = new Anthropic({ baseURL: server, apiKey: key });
    const ask = { model: "claude-sonnet-4-6", max_tokens: 100, messages: [{ role: "user", content: "hi" }] };
    const error = await refused(() => client.messages.create(ask), Anthropic.APIError);
    assert.deepEqual([error.status, error.error.error.type], [402, "billing_error"]);
    held("quota");
  },

  async openai_between() {
    const { OpenAI } = require("openai");
    const client = new OpenAI({ baseURL: `${server}/v1`, apiKey: key, maxRetries: 0 });
    const messages = [{ role: "user", content: "hi" }];
    const tools = [{ type: "function", function: { name: "weather", parameters: { type: "object", properties: {} } } }];
    for (const model of ["claude-sonnet-4-6", "gemini/gemini-2.5-flash", "bedrock/anthropic.claude-v1:0"]) {
      const done = await client.chat.completions.create({ model, messages });
      assert.equal(done.choices[0].message.content, "Hello from the model");
      const stream = client.chat.completions.stream({ model, messages, tools });
      const call = (await stream.finalChatCompletion()).choices[0].message.tool_calls[0];
      assert.deepEqual([call.function.name, JSON.parse(call.function.arguments)], ["weather", { city: "Oslo" }]);
      const response = await client.responses.stream({ model, input: "hi" }).finalResponse();
      assert.equal(response.output_text, "Hello from the model");
      const say = (content) => () => client.chat.completions.create({ model, messages: [{ role: "user", content }] });
      await refused(say("fail 400"), OpenAI.BadRequestError);
      await refused(say("fail 429"), OpenAI.RateLimitError);
      held(model);
    }
  },

  async anthropic_between() {
    const { Anthropic } = require("@anthropic-ai/sdk");
    const client = new Anthropic({ baseURL: server, apiKey: key, maxRetries: 0 });
    const ask = { max_tokens: 100, messages: [{ role: "user", content: "hi" }] };
    const tools = [{ name: "weather", input_schema: { type: "object", properties: {} } }];
    for (const model of ["gpt-4o", "gemini/gemini-2.5-flash"]) {
      const done = await client.messages.create({ ...ask, model });
      assert.equal(done.content[0].text, "Hello from the model");
      const final = await client.messages.stream({ ...ask, model, tools }).finalMessage();
      assert.deepEqual(final.content[0].input, { city: "Oslo" });
      const say = (content) => () => client.messages.create({ ...ask, model, messages: [{ role: "user", content }] });
      await refused(say("fail 400"), Anthropic.BadRequestError);
      await refused(say("fail 429"), Anthropic.RateLimitError);
      held(model);
    }
  },
};

await groups[`${which}_${group}`]();

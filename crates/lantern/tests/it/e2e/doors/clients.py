"""The official Python clients against the front doors. Only the base URL and the key are ours.

Arguments: which client, the server's address, an API key, and which group of checks. Says each check that holds.
"""

import json
import sys

which, server, key, group = sys.argv[1:]


def held(name):
    print(f"held: {which} {name}", flush=True)


def openai_basics():
    import openai
    from pydantic import BaseModel

    client = openai.OpenAI(base_url=f"{server}/v1", api_key=key)
    ask = [{"role": "user", "content": "hi"}]

    done = client.chat.completions.create(model="gpt-4o", messages=ask)
    assert done.choices[0].message.content == "Hello from the model", done
    assert done.usage.completion_tokens == 12 and done.model_extra["odd"] == {"kept": 1.0}
    held("text")

    text, usages = "", 0
    for chunk in client.chat.completions.create(model="gpt-4o", messages=ask, stream=True):
        usages += chunk.usage is not None
        assert chunk.choices, "a chunk that nobody asked for"
        text += chunk.choices[0].delta.content or ""
    assert (text, usages) == ("Hello from the model", 0), (text, usages)
    held("stream")

    options = {"include_usage": True}
    chunks = list(client.chat.completions.create(model="gpt-4o", messages=ask, stream=True, stream_options=options))
    assert chunks[-1].usage.total_tokens == 21 and not chunks[-1].choices
    held("stream with usage")

    tool = {"type": "function", "function": {"name": "weather", "parameters": {"type": "object", "properties": {}}}}
    done = client.chat.completions.create(model="gpt-4o", messages=ask, tools=[tool])
    call = done.choices[0].message.tool_calls[0]
    assert (call.function.name, json.loads(call.function.arguments)) == ("weather", {"city": "Oslo"})
    said = ask + [done.choices[0].message, {"role": "tool", "tool_call_id": call.id, "content": "rain"}]
    done = client.chat.completions.create(model="gpt-4o", messages=said, tools=[tool])
    assert done.choices[0].message.content == "Hello from the model"
    with client.chat.completions.stream(model="gpt-4o", messages=ask, tools=[tool]) as stream:
        stream.until_done()
        call = stream.get_final_completion().choices[0].message.tool_calls[0]
    assert json.loads(call.function.arguments) == {"city": "Oslo"}
    held("tools")

    class Answer(BaseModel):
        answer: int

    done = client.chat.completions.parse(model="gpt-4o", messages=ask, response_format=Answer)
    assert done.choices[0].message.parsed == Answer(answer=42)
    held("structured output")

    done = client.responses.create(model="gpt-4o", input="hi")
    assert done.output_text == "Hello from the model" and done.usage.total_tokens == 21
    with client.responses.stream(model="gpt-4o", input="hi") as stream:
        stream.until_done()
        assert stream.get_final_response().output_text == "Hello from the model"
    held("responses")

    vectors = client.embeddings.create(model="text-embedding-3-small", input="hi", encoding_format="float")
    assert vectors.data[0].embedding == [0.25, -0.5]
    held("embeddings")

    assert "gpt-4o" in [model.id.split("/")[-1] for model in client.models.list()]
    held("models")


def openai_errors():
    import openai

    client = openai.OpenAI(base_url=f"{server}/v1", api_key=key, max_retries=0)

    def refused(kind, client=client, model="gpt-4o", **more):
        ask = [{"role": "user", "content": more.pop("said", "hi")}]
        try:
            client.chat.completions.create(model=model, messages=ask, **more)
        except kind as error:
            assert "sk-upstream" not in str(error), error
            return error
        raise AssertionError(f"no {kind}")

    assert refused(openai.BadRequestError, said="fail 400").code == "told_to"
    assert refused(openai.RateLimitError, said="fail 429").code == "told_to"
    refused(openai.InternalServerError, said="fail 500")
    held("errors of the provider")

    error = refused(openai.NotFoundError, model="nowhere/gpt-4o")
    assert error.code == "model_not_found" and "gpt-4o" in error.message, error
    stranger = openai.OpenAI(base_url=f"{server}/v1", api_key="hlx_live_" + "0" * 32, max_retries=0)
    assert refused(openai.AuthenticationError, client=stranger).code == "invalid_api_key"
    refused(openai.InternalServerError, said="fail 401")
    held("errors of ours")

    again = openai.OpenAI(base_url=f"{server}/v1", api_key=key, max_retries=1)
    refused(openai.RateLimitError, client=again, said="fail 429")
    held("retries")


def openai_quota():
    import openai

    # Retries are on: being out of money is not tried again.
    client = openai.OpenAI(base_url=f"{server}/v1", api_key=key)
    for stream in (False, True):
        try:
            client.chat.completions.create(
                model="gpt-4o", messages=[{"role": "user", "content": "hi"}], stream=stream
            )
        except openai.RateLimitError as error:
            assert (error.code, error.type) == ("insufficient_quota", "insufficient_quota"), error
        else:
            raise AssertionError("nothing refused it")
    held("quota")


def openai_stopped():
    import openai

    client = openai.OpenAI(base_url=f"{server}/v1", api_key=key)
    ask = [{"role": "user", "content": "ramble"}]
    with client.chat.completions.stream(model="gpt-4o", messages=ask, max_completion_tokens=50) as stream:
        stream.until_done()
    # The last choice says why; the client takes it for an answer that reached its length.
    chunks = client.chat.completions.create(model="gpt-4o", messages=ask, max_completion_tokens=50, stream=True)
    reasons = [chunk.choices[0].finish_reason for chunk in chunks if chunk.choices]
    assert reasons[-1] == "length" and len(reasons) > 2, reasons
    held("a stream that is stopped")


def anthropic_basics():
    import anthropic

    client = anthropic.Anthropic(base_url=server, api_key=key)
    ask = dict(model="claude-sonnet-4-6", max_tokens=100, messages=[{"role": "user", "content": "hi"}])

    done = client.messages.create(**ask)
    assert done.content[0].text == "Hello from the model" and done.usage.cache_read_input_tokens == 100
    held("text")

    with client.messages.stream(**ask) as stream:
        text = "".join(stream.text_stream)
        final = stream.get_final_message()
    assert text == "Hello from the model" and final.stop_reason == "end_turn" and final.usage.output_tokens == 15
    held("stream")

    tool = {"name": "weather", "input_schema": {"type": "object", "properties": {"city": {"type": "string"}}}}
    done = client.messages.create(**ask, tools=[tool])
    assert (done.stop_reason, done.content[0].input) == ("tool_use", {"city": "Oslo"})
    with client.messages.stream(**ask, tools=[tool]) as stream:
        assert stream.get_final_message().content[0].input == {"city": "Oslo"}
    held("tools")

    counted = client.messages.count_tokens(model=ask["model"], messages=ask["messages"])
    assert counted.input_tokens == 17
    held("count of tokens")

    bearer = anthropic.Anthropic(base_url=server, auth_token=key)
    assert bearer.messages.create(**ask).content[0].text == "Hello from the model"
    held("bearer token")

    assert "claude-sonnet-4-6" in [model.id.split("/")[-1] for model in client.models.list()]
    held("models")


def anthropic_errors():
    import anthropic

    client = anthropic.Anthropic(base_url=server, api_key=key, max_retries=0)

    def refused(kind, client=client, model="claude-sonnet-4-6", said="hi"):
        try:
            client.messages.create(model=model, max_tokens=100, messages=[{"role": "user", "content": said}])
        except kind as error:
            assert "sk-upstream" not in str(error), error
            return error
        raise AssertionError(f"no {kind}")

    refused(anthropic.BadRequestError, said="fail 400")
    refused(anthropic.RateLimitError, said="fail 429")
    held("errors of the provider")

    error = refused(anthropic.NotFoundError, model="nowhere/claude-sonnet-4-5")
    assert "claude-sonnet-4-6" in error.body["error"]["message"], error.body
    stranger = anthropic.Anthropic(base_url=server, api_key="hlx_live_" + "0" * 32, max_retries=0)
    assert refused(anthropic.AuthenticationError, client=stranger).body["error"]["type"] == "authentication_error"
    held("errors of ours")


def anthropic_quota():
    import anthropic

    client = anthropic.Anthropic(base_url=server, api_key=key)
    try:
        client.messages.create(model="claude-sonnet-4-6", max_tokens=100, messages=[{"role": "user", "content": "hi"}])
    except anthropic.APIStatusError as error:
        assert error.status_code == 402 and error.body["error"]["type"] == "billing_error", error.body
    else:
        raise AssertionError("nothing refused it")
    held("quota")


def anthropic_stopped():
    import anthropic

    client = anthropic.Anthropic(base_url=server, api_key=key)
    ask = dict(model="claude-sonnet-4-6", max_tokens=50, messages=[{"role": "user", "content": "ramble"}])
    with client.messages.stream(**ask) as stream:
        final = stream.get_final_message()
    assert final.stop_reason == "max_tokens" and final.content[0].text.startswith("word after word"), final
    held("a stream that is stopped")


globals()[f"{which}_{group}"]()

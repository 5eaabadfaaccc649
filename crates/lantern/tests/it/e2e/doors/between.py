"""The official Python clients with models of other wires than their own.

Arguments: which client, the server's address, an API key, and the model. Says each check that holds.
"""

import json
import sys

which, server, key, model = sys.argv[1:]
# One pixel.
PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="


def held(name):
    print(f"held: {which} {model} {name}", flush=True)


def chat():
    import openai
    from pydantic import BaseModel

    client = openai.OpenAI(base_url=f"{server}/v1", api_key=key, max_retries=0)
    ask = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "hi"}]

    done = client.chat.completions.create(model=model, messages=ask, temperature=0.5, max_tokens=200)
    assert done.choices[0].message.content == "Hello from the model" and done.choices[0].finish_reason == "stop", done
    assert done.id.startswith("chatcmpl-") and done.usage.completion_tokens > 0, done
    held("text")

    options = {"include_usage": True}
    chunks = list(client.chat.completions.create(model=model, messages=ask, stream=True, stream_options=options))
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices) == "Hello from the model"
    assert len(chunks) > 4 and chunks[-1].usage.completion_tokens > 0 and not chunks[-1].choices, chunks
    quiet = list(client.chat.completions.create(model=model, messages=ask, stream=True))
    assert all(chunk.choices and chunk.usage is None for chunk in quiet), quiet
    held("stream")

    schema = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
    tool = {"type": "function", "function": {"name": "weather", "parameters": schema}}
    done = client.chat.completions.create(model=model, messages=ask, tools=[tool])
    call = done.choices[0].message.tool_calls[0]
    assert done.choices[0].finish_reason == "tool_calls"
    assert (call.function.name, json.loads(call.function.arguments)) == ("weather", {"city": "Oslo"}), call
    # What a model proves of its call comes back with it.
    said = ask + [done.choices[0].message, {"role": "tool", "tool_call_id": call.id, "content": "rain"}]
    done = client.chat.completions.create(model=model, messages=said, tools=[tool])
    assert done.choices[0].message.content == "Hello from the model"
    with client.chat.completions.stream(model=model, messages=ask, tools=[tool]) as stream:
        stream.until_done()
        call = stream.get_final_completion().choices[0].message.tool_calls[0]
    assert json.loads(call.function.arguments) == {"city": "Oslo"}
    held("tools")

    if not model.startswith("bedrock/"):
        class Answer(BaseModel):
            answer: int

        done = client.chat.completions.parse(model=model, messages=ask, response_format=Answer)
        assert done.choices[0].message.parsed == Answer(answer=42)
        held("structured output")

    picture = {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PIXEL}"}}
    parts = [{"type": "text", "text": "what is this?"}, picture]
    done = client.chat.completions.create(model=model, messages=[{"role": "user", "content": parts}])
    assert done.choices[0].message.content == "Hello from the model"
    held("pictures")

    def refused(kind, said="hi", **more):
        try:
            client.chat.completions.create(model=model, messages=[{"role": "user", "content": said}], **more)
        except kind as error:
            assert "sk-upstream" not in str(error), error
            return error
        raise AssertionError(f"no {kind}")

    assert "told to" in refused(openai.BadRequestError, said="fail 400").message
    refused(openai.RateLimitError, said="fail 429")
    refused(openai.InternalServerError, said="fail 500")
    refused(openai.InternalServerError, said="fail 401")
    assert refused(openai.BadRequestError, n=2).param == "n"
    held("errors")


def responses():
    import openai

    client = openai.OpenAI(base_url=f"{server}/v1", api_key=key, max_retries=0)
    done = client.responses.create(model=model, instructions="Be brief.", input="hi")
    assert done.output_text == "Hello from the model" and done.status == "completed", done
    assert done.id.startswith("resp_") and done.usage.output_tokens > 0
    held("text")

    with client.responses.stream(model=model, input="hi") as stream:
        kinds = [event.type for event in stream]
        final = stream.get_final_response()
    assert final.output_text == "Hello from the model" and kinds.count("response.output_text.delta") == 4, kinds
    held("stream")

    tool = {"type": "function", "name": "weather", "parameters": {"type": "object", "properties": {}}, "strict": False}
    done = client.responses.create(model=model, input="hi", tools=[tool])
    call = next(item for item in done.output if item.type == "function_call")
    assert json.loads(call.arguments) == {"city": "Oslo"}
    said = [{"role": "user", "content": "hi"}, *done.output]
    said.append({"type": "function_call_output", "call_id": call.call_id, "output": "rain"})
    assert client.responses.create(model=model, input=said, tools=[tool]).output_text == "Hello from the model"
    held("tools")

    for more in ({"previous_response_id": done.id}, {"tools": [{"type": "web_search"}]}):
        try:
            client.responses.create(model=model, input="hi", **more)
        except openai.BadRequestError as error:
            assert error.param in more and error.type == "invalid_request_error", error
        else:
            raise AssertionError("nothing refused it")
    held("errors")


def messages():
    import anthropic

    client = anthropic.Anthropic(base_url=server, api_key=key, max_retries=0)
    ask = dict(model=model, max_tokens=200, system="Be brief.", messages=[{"role": "user", "content": "hi"}])
    done = client.messages.create(**ask)
    assert done.content[0].text == "Hello from the model" and done.stop_reason == "end_turn", done
    assert done.id.startswith("msg_") and done.usage.output_tokens > 0
    held("text")

    with client.messages.stream(**ask) as stream:
        text = "".join(stream.text_stream)
        final = stream.get_final_message()
    assert text == "Hello from the model" and final.usage.output_tokens > 0, final
    held("stream")

    tool = {"name": "weather", "input_schema": {"type": "object", "properties": {"city": {"type": "string"}}}}
    done = client.messages.create(**ask, tools=[tool])
    assert (done.stop_reason, done.content[-1].input) == ("tool_use", {"city": "Oslo"}), done
    result = {"type": "tool_result", "tool_use_id": done.content[-1].id, "content": "rain"}
    said = [*ask["messages"], {"role": "assistant", "content": done.content}, {"role": "user", "content": [result]}]
    done = client.messages.create(**{**ask, "messages": said}, tools=[tool])
    assert done.content[0].text == "Hello from the model"
    with client.messages.stream(**ask, tools=[tool]) as stream:
        assert stream.get_final_message().content[-1].input == {"city": "Oslo"}
    held("tools")

    source = {"type": "base64", "media_type": "image/png", "data": PIXEL}
    parts = [{"type": "text", "text": "what is this?"}, {"type": "image", "source": source}]
    done = client.messages.create(**{**ask, "messages": [{"role": "user", "content": parts}]})
    assert done.content[0].text == "Hello from the model"
    held("pictures")

    def refused(kind, said):
        try:
            client.messages.create(**{**ask, "messages": [{"role": "user", "content": said}]})
        except kind as error:
            assert "sk-upstream" not in str(error), error
            return error
        raise AssertionError(f"no {kind}")

    assert refused(anthropic.BadRequestError, "fail 400").body["error"]["type"] == "invalid_request_error"
    assert refused(anthropic.RateLimitError, "fail 429").body["error"]["type"] == "rate_limit_error"
    refused(anthropic.InternalServerError, "fail 500")
    held("errors")


globals()[which]()

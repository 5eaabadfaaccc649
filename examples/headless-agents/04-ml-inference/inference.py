"""Sorts texts by their mood, one model call each, and sums up. Input: {"texts": [...], "model": "chat-small"}."""

import json
import os
import sys
import urllib.request

from lantern import llm, log


def mood(model, text):
    """A step: made once, and its answer is recorded."""
    words = "Is this text glad, sad or neither? Answer with one word.\n\n" + text
    answer = llm("mood", {"model": model, "max_tokens": 10, "messages": [{"role": "user", "content": words}]})
    return answer["choices"][0]["message"]["content"].strip().lower()


def summed_up(model, moods):
    """A plain call, as any client makes it: streamed, and made again when the program is begun again."""
    words = "Sum up in one sentence: " + ", ".join(moods)
    body = {"model": model, "max_tokens": 60, "stream": True, "messages": [{"role": "user", "content": words}]}
    request = urllib.request.Request(
        os.environ["OPENAI_BASE_URL"] + "/chat/completions",
        json.dumps(body).encode(),
        {"content-type": "application/json", "authorization": "Bearer " + os.environ["OPENAI_API_KEY"]},
    )
    said = []
    with urllib.request.urlopen(request) as answer:
        for line in answer:
            piece = line.decode().strip().removeprefix("data: ")
            if piece and piece != "[DONE]":
                for choice in json.loads(piece).get("choices", []):
                    said.append(choice.get("delta", {}).get("content") or "")
    return "".join(said)


def main():
    asked = json.load(sys.stdin) or {}
    model = asked.get("model", "chat-small")
    moods = []
    for text in asked.get("texts", []):
        moods.append(mood(model, text))
        log(f"{moods[-1]}: {text[:40]}")
    print(summed_up(model, moods))


main()

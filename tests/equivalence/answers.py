"""What the model says: a function of the request alone, so that two libraries that ask the same are told the same.

`vary` draws from the request's own words and its `seed`; two rollouts that asked the same things are told the same.
"""

from __future__ import annotations

import hashlib
import json
import re
from typing import Any

from tests.support.openai_server import Reply, completion, text

BOXED = {
    "3/4 - 1/4": [r"\boxed{\frac{1}{2}}", r"\boxed{0.5}", r"It is \boxed{\frac{2}{4}}", r"\boxed{1}", "one half"],
    "(x+1)^2": [r"\boxed{x^2+2x+1}", r"\boxed{(x+1)(x+1)}", r"\boxed{1 + x^2 + 2x}", r"\boxed{x^2+1}", r"\boxed{"],
    "2x = 8": [r"\boxed{4}", r"\boxed{x=4}", r"<think>\boxed{5}</think>\boxed{4}", r"\boxed{4} or \boxed{16}", "4"],
    "x^2 = 1": [r"\boxed{\{1,-1\}}", r"\boxed{\pm 1}", r"\boxed{1, -1}", r"\boxed{1}", r"\boxed{\text{none}}"],
    "kilogram": [
        r"\boxed{1000}",
        r"\boxed{1{,}000}",
        r"\boxed{10^3}",
        r"\boxed{100}",
        "We know that it is a thousand, yes.",
    ],
    "power of 2": [r"\boxed{100}", r"\boxed{10 \cdot 10}", r"\boxed{10^{10^{10}}}", r"\boxed{}", r"\boxed{1e2}"],
}
KNOWN = {"largest": "Jupiter", "Faust": "Goethe", "France": "Paris"}
TOOLS = ("add", "look_up", "fly")
GUESSES = ("slate", "crown", "crane", "train", "brane", "xx")


def answer(request: dict[str, Any]) -> Reply:
    """The model's, or the judge's."""
    messages = request["messages"]
    if request["model"] == "judge":
        return _verdict(_content(messages[-1]))
    if request.get("tools"):
        return _tool_user(request, messages)
    asked = _content(messages[-1])
    for part, said in BOXED.items():
        if part in asked:
            return text(said[vary(request) % len(said)])
    for part, known in KNOWN.items():
        if part in asked:
            name = known if vary(request) % 3 else "Nobody"
            forms = (
                "<reason>so</reason>\n<answer>{}</answer>",
                "<answer>{}</answer>",
                "{}",
                "Well: <answer>{} </answer>",
            )
            return text(forms[vary(request, "form") % len(forms)].format(name))
    guess = GUESSES[vary(request) % len(GUESSES)]
    forms = (
        "<think>hm</think>\n<guess>[{}]</guess>",
        "<guess>[{}]</guess>",
        "I say [{}]",
        "<think>hm</think><guess>{}</guess>",
    )
    return text(forms[vary(request, "form") % len(forms)].format(guess))


def vary(request: dict[str, Any], salt: str = "") -> int:
    """A number drawn from what was asked and from the model's own words so far; not from what an environment said, whose
    words are each library's own.
    """
    spoken = [(message["role"], _content(message)) for message in request["messages"] if message["role"] == "assistant"]
    opening = [_content(message)[:40] for message in request["messages"] if message["role"] == "user"][:1]
    words = json.dumps([spoken, opening, len(request["messages"]), request.get("seed"), salt])
    return int.from_bytes(hashlib.sha256(words.encode()).digest()[:6], "big")


def _content(message: dict[str, Any]) -> str:
    content = message.get("content") or ""
    return content if isinstance(content, str) else "".join(part.get("text", "") for part in content)


def _verdict(asked: str) -> Reply:
    known, response = (re.search(rf"<{tag}>(.*?)</{tag}>", asked, re.DOTALL)[1] for tag in ("known", "response"))
    return text("Yes." if known in response else "No.")


def _tool_user(request: dict[str, Any], messages: list[dict[str, Any]]) -> Reply:
    """Calls tools, rightly and wrongly, until it has been told something or has had enough."""
    told = [_content(message) for message in messages if message["role"] == "tool"]
    choice = vary(request) % 7
    if told and choice < 4:
        return text(f"It is {told[-1]}.")
    asked = next(_content(message) for message in messages if message["role"] == "user")
    numbers = [int(number) for number in re.findall(r"\d+", asked)]
    if numbers:
        name, arguments = "add", {"a": numbers[0], "b": numbers[1]}
    else:
        name, arguments = "look_up", {"word": asked.split()[-1]}
    calls = [(name, json.dumps(arguments))]
    if choice == 4:
        calls = [(name, "{not json")]
    elif choice == 5:
        calls = [("fly", "{}"), *calls]
    elif choice == 6:
        calls = [(name, json.dumps({**arguments, "wrong": 1})), *calls, *calls]
    shaped = [
        {"id": f"call_{len(messages)}_{at}", "type": "function", "function": {"name": called, "arguments": given}}
        for at, (called, given) in enumerate(calls)
    ]
    return completion({"content": None, "tool_calls": shaped}, "tool_calls")

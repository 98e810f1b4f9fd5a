"""Both contracts through the real OpenAI-compatible client, over the real wire."""

from __future__ import annotations

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest


class Model(BaseHTTPRequestHandler):
    """Plays CartPole by leaning right, and calls the first tool it is offered until a tool has answered three times."""

    seen: list[dict] = []

    def log_message(self, *args: object) -> None:
        pass

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        type(self).seen.append({"path": self.path, "key": self.headers["Authorization"], **body})
        message: dict = {"role": "assistant", "content": '{"action": "1"}'}
        if body.get("tools"):
            answered = sum(message["role"] == "tool" for message in body["messages"])
            message["content"] = "done"
            if answered < 3:
                tool = body["tools"][0]["function"]
                arguments = dict.fromkeys(tool["parameters"].get("required", []), "hello")
                call = {
                    "id": f"call_{answered}",
                    "type": "function",
                    "function": {"name": tool["name"], "arguments": json.dumps(arguments)},
                }
                message = {"role": "assistant", "content": None, "tool_calls": [call]}
        reply = {
            "id": "x",
            "object": "chat.completion",
            "created": 0,
            "model": body["model"],
            "choices": [
                {"index": 0, "message": message, "finish_reason": "tool_calls" if "tool_calls" in message else "stop"}
            ],
            "usage": {"prompt_tokens": 7, "completion_tokens": 3, "total_tokens": 10},
        }
        data = json.dumps(reply).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)


@pytest.fixture
def model():
    Model.seen = []
    server = ThreadingHTTPServer(("127.0.0.1", 0), Model)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}/v1"
    server.shutdown()
    thread.join()
    server.server_close()


def run(machine, published, name: str, model: str) -> list[dict]:
    machine.run(
        "prime", "eval", "run", name, "-m", "a-model", "--base-url", model, "-n", "2", "-r", "1", "-o", f"out/real-{name}",
        cwd=machine.base, VIRTUAL_ENV=str(published), OPENAI_API_KEY="sk-test",
    )  # fmt: skip
    (results,) = (machine.base / f"out/real-{name}").rglob("results.jsonl")
    return [json.loads(line) for line in results.read_text().splitlines()]


def test_gym(machine, published, model):
    rows = run(machine, published, "openenv-cartpole", model)
    # Always leaning to one side falls over after eight to ten steps, and each step is worth 1.
    assert [6 <= row["reward"] <= 12 for row in rows] == [True, True]
    assert len(Model.seen) == sum(int(row["reward"]) for row in rows), "one model call for each step, none after done"
    assert {call["key"] for call in Model.seen} == {"Bearer sk-test"} and {call["model"] for call in Model.seen} == {
        "a-model"
    }
    assert all(row["token_usage"]["output_tokens"] == 3 * row["reward"] for row in rows)


def test_mcp(machine, published, model):
    rows = run(machine, published, "openenv-echo", model)
    assert len(rows) == 2 and all(row["error"] is None for row in rows)
    assert all(call["tools"] for call in Model.seen)
    for row in rows:
        assert [message["role"] for message in row["completion"]].count("tool") >= 1
        assert "hello" in json.dumps([message for message in row["completion"] if message["role"] == "tool"])

"""Higher or lower, with nothing but the standard library: POST /reset and /step, one episode at a time."""

import json
import random
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

ACTION = {
    "type": "object",
    "properties": {"guess": {"type": "integer", "minimum": 0, "maximum": 9}},
    "required": ["guess"],
}
OBSERVATION = {"type": "object", "properties": {"text": {"type": "string"}}, "required": ["text"]}
episode = {"secret": 0, "left": 0}


def reset(body):
    rng = random.Random(body.get("seed", 0))
    episode.update(secret=rng.randrange(10), left=4)
    text = f"The digit is not {(episode['secret'] + rng.randint(1, 9)) % 10}."
    return 200, {"observation": {"text": text}, "reward": None, "done": False}


def step(body):
    guess = body.get("guess")
    if type(guess) is not int or not 0 <= guess <= 9:
        return 422, {"detail": "guess must be a whole number from 0 to 9"}
    if not episode["left"]:
        return 409, {"detail": "No episode is running: POST /reset first."}
    off = abs(guess - episode["secret"])
    episode["left"] = 0 if off == 0 else episode["left"] - 1
    return 200, {"observation": {"text": f"Off by {off}."}, "reward": 1 - off / 10, "done": not episode["left"]}


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        schema = {"action": ACTION, "observation": OBSERVATION}
        answers = {"/health": (200, {"status": "healthy"}), "/schema": (200, schema)}
        self.answer(*answers.get(self.path, (404, {"detail": "not here"})))

    def do_POST(self):
        text = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        try:
            body = json.loads(text or "{}")
            assert isinstance(body, dict)
        except (ValueError, AssertionError, RecursionError):
            self.answer(422, {"detail": "an action is a JSON object"})
            return
        route = {"/reset": reset, "/step": step}.get(self.path.partition("?")[0])
        self.answer(*(route(body) if route else (404, {"detail": "not here"})))

    def answer(self, status, content):
        data = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_):
        pass


ThreadingHTTPServer.daemon_threads = True
ThreadingHTTPServer(("0.0.0.0", int(sys.argv[sys.argv.index("--port") + 1])), Handler).serve_forever()

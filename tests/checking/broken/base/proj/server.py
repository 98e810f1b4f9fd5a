"""The game as an OpenEnv server: a session is a WebSocket on /ws."""

import asyncio
import json

import game
from fastapi import FastAPI, WebSocket, WebSocketDisconnect
from pydantic import ValidationError

app = FastAPI()


@app.get("/health")
def health():
    return {"status": "healthy"}


@app.get("/schema")
def schema():
    return {"action": game.ACTION_SCHEMA, "observation": game.Observation.model_json_schema()}


def error(code, message, **more):
    return {"type": "error", "data": {"message": message, "code": code, **more}}


def observed(observation, reward, done):
    return {"type": "observation", "data": {"observation": observation, "reward": reward, "done": done}}


class Session:
    def __init__(self):
        self.game, self.playing = game.Game(), False

    def answer(self, text):
        """The answer to a frame; None ends the session."""
        try:
            message = json.loads(text)
        except (ValueError, RecursionError):
            return error("INVALID_JSON", "This is not JSON.")
        data = message.get("data", {})
        if message["type"] == "reset":
            self.playing = True
            return observed(self.game.reset(data.get("seed", 0)), None, False)
        if message["type"] == "step":
            try:
                action = game.read(data)
            except ValidationError as problem:
                return error(
                    "VALIDATION_ERROR", "Invalid action", errors=problem.errors(include_url=False, include_input=False)
                )
            if not self.playing:
                return error("EXECUTION_ERROR", "The episode is over: reset first.")
            try:
                observation, reward, done = self.game.step(action)
            except Exception as problem:
                return error("EXECUTION_ERROR", f"{type(problem).__name__}: {problem}")
            self.playing = not done
            return observed(observation, reward, done)
        if message["type"] == "close":
            return None
        return error("UNKNOWN_TYPE", f"Unknown message type: {message['type']}")


@app.websocket("/ws")
async def serve(socket: WebSocket):
    await socket.accept()
    try:
        session = Session()
    except Exception as problem:
        await socket.send_text(json.dumps(error("FACTORY_ERROR", f"{type(problem).__name__}: {problem}")))
        await socket.close()
        return
    try:
        while (answer := await asyncio.to_thread(session.answer, await socket.receive_text())) is not None:
            await socket.send_text(json.dumps(answer))
        await socket.close()
    except WebSocketDisconnect:
        pass
    finally:
        session.game.close()

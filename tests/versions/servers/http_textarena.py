"""TextArena's games behind plain HTTP. Arguments of a reset come in its body."""

from typing import Any

from fastapi import Body, FastAPI
from server.games import MOVES, Game

app = FastAPI()
game = Game("Mastermind-v0", 0)


@app.get("/health")
def health():
    return {"status": "ok"}


@app.get("/schema")
def schema():
    message = {"type": "string", "examples": list(MOVES)}
    action = {"type": "object", "properties": {"message": message}, "required": ["message"]}
    return {"observation": {"type": "object"}, "action": action}


@app.post("/reset")
def reset(seed: int = 0, given: dict[str, Any] = Body(default_factory=dict)):
    global game
    game = Game(given.get("game", "Mastermind-v0"), seed, given.get("words") or ())
    told = game.begin()
    return {"observation": {"text": told.text}, "reward": told.reward, "done": told.done}


@app.post("/step")
def step(action: dict[str, Any]):
    told = game.play(action["message"])
    return {"observation": {"text": told.text}, "reward": told.reward, "done": told.done}

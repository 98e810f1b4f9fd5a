"""The TextArena server: many sessions at once, each with a game of its own."""

import os

from openenv.core.env_server.http_server import create_app

from server.textarena_environment import GameObservation, Move, TextArenaEnvironment

app = create_app(
    TextArenaEnvironment,
    Move,
    GameObservation,
    env_name="openenv_textarena",
    max_concurrent_envs=int(os.environ.get("MAX_CONCURRENT_ENVS", "64")),
)

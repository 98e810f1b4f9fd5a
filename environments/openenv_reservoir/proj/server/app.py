"""The reservoir server: many sessions at once, each with a year of its own."""

import os

from models import Month, Release
from openenv.core.env_server.http_server import create_app

from server.reservoir_environment import ReservoirEnvironment

app = create_app(
    ReservoirEnvironment,
    Release,
    Month,
    env_name="openenv_reservoir",
    max_concurrent_envs=int(os.environ.get("MAX_CONCURRENT_ENVS", "64")),
)

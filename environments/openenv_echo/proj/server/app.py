"""The echo server: many sessions at once, each with a phrase of its own."""

import os

from openenv.core.env_server.http_server import create_app
from openenv.core.env_server.mcp_types import CallToolAction, CallToolObservation

from server.echo_environment import EchoEnvironment

app = create_app(
    EchoEnvironment,
    CallToolAction,
    CallToolObservation,
    env_name="openenv_echo",
    max_concurrent_envs=int(os.environ.get("MAX_CONCURRENT_ENVS", "8")),
)

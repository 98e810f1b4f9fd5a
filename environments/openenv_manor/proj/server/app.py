"""The manor server: many sessions at once, each with a case of its own."""

import os

from openenv.core.env_server.http_server import create_app
from openenv.core.env_server.mcp_types import CallToolAction, CallToolObservation

from server.manor_environment import ManorEnvironment

app = create_app(
    ManorEnvironment,
    CallToolAction,
    CallToolObservation,
    env_name="openenv_manor",
    max_concurrent_envs=int(os.environ.get("MAX_CONCURRENT_ENVS", "64")),
)

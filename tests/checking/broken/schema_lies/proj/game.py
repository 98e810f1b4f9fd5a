"""Broken: the schema allows 0 to 99, and the server takes 0 to 9."""

from sound_game import *  # noqa: F403
from sound_game import ACTION_SCHEMA as SOUND

ACTION_SCHEMA = {**SOUND, "properties": {"guess": {"type": "integer", "minimum": 0, "maximum": 99}}}

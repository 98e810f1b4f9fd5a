"""Broken: an action without a guess ends the process."""

import os

from sound_game import *  # noqa: F403
from sound_game import read as sound_read


def read(data):
    if not isinstance(data, dict) or "guess" not in data:
        os._exit(3)
    return sound_read(data)

"""Broken: an action of more than a megabyte ends the process, as a kernel out of memory would."""

import json
import os

from sound_game import *  # noqa: F403
from sound_game import read as sound_read


def read(data):
    if len(json.dumps(data)) > 1_000_000:
        os._exit(137)
    return sound_read(data)

"""Broken: every session starts a program, and closing the session does not end it."""

import subprocess

from sound_game import *  # noqa: F403
from sound_game import Game as Sound


class Game(Sound):
    def __init__(self):
        self.engine = subprocess.Popen(["sleep", "600"])

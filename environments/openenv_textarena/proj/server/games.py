"""TextArena's games, without a server around them: one text in, what the game says out."""

from __future__ import annotations

import functools
import random
import threading
from collections.abc import Callable, Sequence
from typing import NamedTuple

import nltk

# TextArena fetches NLTK's word lists when its word games are imported. What is played here needs none of them.
nltk.download = lambda *args, **kwargs: False

import textarena as ta  # noqa: E402
from textarena.envs.utils.word_lists import EnglishDictionary  # noqa: E402
from textarena.envs.Wordle.env import WordleEnv  # noqa: E402

MOVES = ("[1 2 3 4]", "[2 1 4 3]", "[3 4 5 6]", "[4 6 1 5]", "[5 3 6 2]", "[6 5 2 1]", "[1 4 6 3]", "[5 2 3 1]")
"""Moves of the first game, Mastermind, as examples."""

# TextArena draws from Python's one shared random generator, and sessions are threads.
_DRAWING = threading.Lock()


class Told(NamedTuple):
    """What the game said last, the reward for it, whether it is over, and how many moves counted so far."""

    text: str
    reward: float | None
    done: bool
    moves: int


class Wordle(WordleEnv):
    """TextArena's Wordle with the secret words given, instead of NLTK's. Any English word may be guessed."""

    def __init__(self, words: Sequence[str], num_guesses: int = 6) -> None:
        self.word_list = sorted({word.strip().lower() for word in words} - {""})
        lengths = {len(word) for word in self.word_list}
        if len(lengths) != 1 or not all(word.isalpha() for word in self.word_list):
            raise ValueError("Wordle-v0 needs `words`: at least one, of letters only, all of one length.")
        self.word_length, self.num_guesses = lengths.pop(), num_guesses

    def _check_word(self, word: str) -> bool:
        return word in self.word_list or _dictionary().is_english_word(word)


GAMES: dict[str, Callable[[Sequence[str]], ta.Env]] = {
    "Mastermind-v0": lambda words: ta.make("Mastermind-v0-raw", max_turns=10),
    "GuessTheNumber-v0": lambda words: ta.make("GuessTheNumber-v0-raw", max_number=100, max_turns=7),
    "Wordle-v0": Wordle,
}


class Game:
    """One game of one player. The same name, seed and words make the same game."""

    def __init__(self, name: str, seed: int | None, words: Sequence[str] = ()) -> None:
        if name not in GAMES:
            raise ValueError(f"There is no game {name!r} here, only {', '.join(GAMES)}.")
        with _DRAWING:
            self._env = ta.wrappers.ActionFormattingWrapper(GAMES[name](words))
            if seed is None:
                random.seed()
            self._env.reset(num_players=1, seed=seed)
        self._over = False

    def begin(self) -> Told:
        """The rules."""
        return Told(self._news(), None, False, 0)

    def play(self, message: str) -> Told:
        """One move: what is in square brackets, else all of the message. The reward is TextArena's, at the end."""
        if self._over:
            raise ValueError("The game is over.")
        self._over, _ = self._env.step(message)
        text, reward = self._news(), 0.0
        if self._over:
            rewards, info = self._env.close()
            reward = float(rewards[0])
            text = f"{text}\n{info[0].get('reason', '')}".strip()
        return Told(text, reward, self._over, self._env.state.turn)

    def _news(self) -> str:
        _, messages = self._env.get_observation()
        echoed = ta.ObservationType.PLAYER_ACTION
        return "\n".join(message.strip() for _, message, kind in messages if kind is not echoed)


@functools.cache
def _dictionary() -> EnglishDictionary:
    """TextArena's own word lists, British and American."""
    return EnglishDictionary(keep_proper_nouns=False, include_nltk=False)

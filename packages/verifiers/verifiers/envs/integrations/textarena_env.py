"""TextArenaEnv: the games of TextArena for one player.

TextArena draws from Python's one random generator, and fetches NLTK's word lists when its word games are imported. Here
each game has random numbers of its own, so that a seed repeats exactly whatever runs beside it, and nothing is fetched.
"""

from __future__ import annotations

import asyncio
import contextlib
import copy
import random
import sys
import threading
import time
from collections.abc import Callable, Generator
from typing import Any

from verifiers.data import RowTable
from verifiers.decorators import cleanup
from verifiers.envs.multiturn_env import MultiTurnEnv
from verifiers.parsers.parser import Parser
from verifiers.parsers.xml_parser import XMLParser
from verifiers.rubrics.rubric import Rubric
from verifiers.types import Messages, Response, State, TimeSpan, UserMessage
from verifiers.utils.optional import require

REQUIREMENT = ("TextArenaEnv", "textarena>=0.7,<0.8", "textarena")
SECRETS = ("secret_word", "target_word", "secret_code", "game_number")
"""Where games keep what is to be found out."""
_SHARED = threading.RLock()
"""Held while Python's random generator, or `nltk.download`, is not what others expect."""


def textarena_reward(state: State) -> float:
    """What TextArena gives for the game; 0.0 for one that was not played to its end."""
    return float(state.get("ta_reward") or 0.0)


class TextArenaEnv(MultiTurnEnv):
    """Each reply is a move, made at once; the game's last word is `state["final_env_response"]`.

    game: a name of TextArena's for one player. Word games use NLTK's lists (`words`, `averaged_perceptron_tagger_eng`) where
        they are installed; without them Wordle's secrets are words of TextArena's own dictionaries, and others say what
        to install.
    num_train_examples, num_eval_examples, seed: rows hold the seeds seed, seed+1, …: first train, then eval. A row's
        `answer` is what is to be found out, known once the rollout has begun.
    parser: finds the move in a reply; default the tag <guess>. feedback_fn: from what the game shows (its default form
        has all of the game so far) to what the model sees of it. system_prompt: none by default, so say there how to answer.
    rubric: default `textarena_reward`, TextArena's own, which is a metric in any case.

    Raises ImportError without the library, ValueError for a game that it does not have.
    """

    def __init__(
        self,
        game: str = "Wordle-v0",
        num_train_examples: int = 1000,
        num_eval_examples: int = 0,
        system_prompt: str | None = None,
        parser: Parser | None = None,
        rubric: Rubric | None = None,
        feedback_fn: Callable[[str], str] = lambda observation: observation,
        seed: int = 0,
        **kwargs: Any,
    ) -> None:
        known = require("textarena.envs.registration", *REQUIREMENT).ENV_REGISTRY
        if game not in known:
            raise ValueError(f"TextArena has no game {game!r}. Games are named like {', '.join(sorted(known)[:5])}.")
        if num_train_examples < 0 or num_eval_examples < 0 or num_train_examples + num_eval_examples == 0:
            raise ValueError("TextArenaEnv needs num_train_examples or num_eval_examples above 0, and neither below.")
        self.game, self.feedback_fn = game, feedback_fn
        self._made: Any = None
        train, held_out = seed + num_train_examples, seed + num_train_examples + num_eval_examples
        super().__init__(
            dataset=(lambda: _rows(seed, train)) if num_train_examples else None,
            eval_dataset=(lambda: _rows(train, held_out)) if num_eval_examples else None,
            system_prompt=system_prompt,
            parser=parser or XMLParser(["think", "guess"], answer_field="guess"),
            rubric=rubric or Rubric(funcs=[textarena_reward]),
            **kwargs,
        )
        if rubric is not None:
            self.add_rubric(Rubric(funcs=[textarena_reward], weights=[0.0]))

    def _new_game(self) -> Any:
        """A game that nobody plays yet. Its dictionaries take a second to read, so they are read once."""
        with _SHARED:
            if self._made is None:
                self._made = _made(self.game)
            shared = {id(part): part for part in vars(_inner(self._made)).values() if _is_dictionary(part)}
            return copy.deepcopy(self._made, shared)

    async def setup_state(self, state: State, **kwargs: Any) -> State:
        """Begin the game of the row's seed."""
        await super().setup_state(state)
        seed = int(state["info"].get("seed", state["example_id"]))
        game = await asyncio.to_thread(self._new_game)
        state["ta_env"], state["ta_dice"], state["ta_reward"] = game, Dice(seed), None
        with state["ta_dice"].thrown():
            try:
                game.reset(num_players=1, seed=seed)
            except AssertionError as error:
                raise ValueError(
                    f"TextArenaEnv plays games for one player, which {self.game} is not: {error}"
                ) from None
        secrets = getattr(_inner(game).state, "game_state", None) or {}
        state["answer"] = str(next((secrets[name] for name in SECRETS if name in secrets), ""))
        state["prompt"] = [*state["prompt"], UserMessage(self._shown(game))]
        return state

    def _shown(self, game: Any) -> str:
        _, observation = game.get_observation()
        if not isinstance(observation, str):  # a game "-raw": (from, text, kind)
            observation = "\n".join(str(part[1]) for part in observation)
        return self.feedback_fn(observation)

    async def add_model_response(self, state: State, prompt_messages: Messages, response: Response) -> None:
        """Make the move at once, so that the last one within max_turns counts like every other."""
        await super().add_model_response(state, prompt_messages, response)
        game = state["ta_env"]
        span = TimeSpan(start=time.time())
        state["timing"].env.spans.append(span)
        try:
            with state["ta_dice"].thrown():
                over, _ = game.step(str(self.parser.parse_answer([response.message]) or ""))
        finally:
            span.end = time.time()
        if not over:
            state["ta_next"] = [UserMessage(self._shown(game))]
            return
        rewards, told = game.close()
        state["ta_reward"] = float(rewards[0])
        state["final_env_response"] = [UserMessage(str(told[0].get("reason") or self._shown(game)))]

    async def env_response(self, messages: Messages, state: State, **kwargs: Any) -> Messages:
        """What came of the move that was already made."""
        return state.pop("ta_next", [])

    @cleanup(priority=200)
    async def keep_last_observation(self, state: State) -> None:
        """What the last move has shown belongs to the conversation although no model call follows."""
        shown = state.pop("ta_next", None)
        if shown and state.get("final_env_response") is None:
            state["final_env_response"] = shown


class Dice:
    """The random numbers of one game, Python's and NumPy's, from its seed on."""

    def __init__(self, seed: int) -> None:
        numpy = sys.modules.get("numpy")
        self._python = random.Random(seed).getstate()
        self._numpy = None if numpy is None else numpy.random.RandomState(seed % 2**32).get_state()

    @contextlib.contextmanager
    def thrown(self) -> Generator[None]:
        """They are the ones in force; afterwards those are again that were before."""
        numpy = sys.modules.get("numpy") if self._numpy is not None else None
        with _SHARED:
            before = random.getstate(), numpy and numpy.random.get_state()
            random.setstate(self._python)
            if numpy:
                numpy.random.set_state(self._numpy)
            try:
                yield
            finally:
                self._python = random.getstate()
                random.setstate(before[0])
                if numpy:
                    self._numpy = numpy.random.get_state()
                    numpy.random.set_state(before[1])


@contextlib.contextmanager
def nothing_fetched() -> Generator[None]:
    """NLTK downloads nothing meanwhile; what it has not got is a LookupError then."""
    with _SHARED:
        nltk: Any = require("nltk", *REQUIREMENT)
        download, nltk.download = nltk.download, lambda *_, **__: False
        try:
            yield
        finally:
            nltk.download = download


def _made(name: str) -> Any:
    with Dice(0).thrown(), nothing_fetched():
        textarena = require("textarena", *REQUIREMENT)
        try:
            return textarena.make(name)
        except LookupError as error:
            spec = textarena.envs.registration.ENV_REGISTRY[name]
            if not str(spec.entry_point).endswith(":WordleEnv"):
                raise RuntimeError(
                    f"TextArena's {name} needs word lists of NLTK that are not on this machine. Install them with: "
                    "python -m nltk.downloader words averaged_perceptron_tagger_eng"
                ) from error
            return _wordle(spec, name)


def _wordle(spec: Any, name: str) -> Any:
    """Wordle with secrets from TextArena's own dictionaries: what both American and British English have."""
    import logging

    from textarena.envs.utils.word_lists import EnglishDictionary  # ty: ignore[import-not-found]
    from textarena.envs.Wordle.env import WordleEnv  # ty: ignore[import-not-found]

    logging.getLogger("verifiers.TextArenaEnv").warning(
        "NLTK's word lists are not on this machine, so the secrets of %s are words of TextArena's own dictionaries. For "
        "NLTK's, run: python -m nltk.downloader words averaged_perceptron_tagger_eng",
        name,
    )
    dictionary = EnglishDictionary(keep_proper_nouns=False, include_nltk=False)

    class Wordle(WordleEnv):
        def __init__(self, word_length: int = 5, num_guesses: int = 6, hardcore: bool = False) -> None:
            self.word_length, self.num_guesses, self.dictionary = word_length, num_guesses, dictionary
            both = dictionary.us_words & dictionary.uk_words
            self.word_list = sorted(
                word for word in both if len(word) == word_length and word.isascii() and word.isalpha()
            )

    game: Any = Wordle(**spec.kwargs)
    for wrapper in spec.default_wrappers or ():
        game = wrapper(game)
    return game


def _inner(game: Any) -> Any:
    """The game itself, without the wrappers around it."""
    while "env" in vars(game):
        game = game.env
    return game


def _is_dictionary(part: Any) -> bool:
    return type(part).__name__ == "EnglishDictionary"


def _rows(start: int, end: int) -> RowTable:
    return RowTable({"info": {"seed": seed}, "answer": ""} for seed in range(start, end))

"""TextArena's games for one player, in chat: Mastermind, Guess The Number, and Wordle with a word list of yours."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import verifiers as vf
from verifiers.envs.integrations.openenv_env import OpenEnvEnv

GAMES = ("Mastermind-v0", "GuessTheNumber-v0", "Wordle-v0")

SYSTEM_PROMPT = """You play a text game. The first message holds its rules; after each of your moves you are told what came of it.

Think as long as you like, then end your answer with one move in square brackets, in the format that the game asks for. \
Only the first square brackets of an answer count, so write no others."""

WORDS = """
about actor apple baker beach bread brick brush cabin chair chalk cheek cliff clock cloud coast couch crane crown dance
delta drain dream drift earth field flame flour fruit glass glove grain grape green heart honey horse house judge juice
knife lemon light maple metal money month mouse music night north ocean olive onion paint paper pearl piano plant plate
pride queen radio river robin round salad scale sheep shelf shirt shore skirt sleep smile smoke snail south spice spoon
sugar sword table thorn tiger toast torch tower train uncle value voice wagon water whale wheel wheat witch woman world
"""


def render(observation: dict[str, Any], **kwargs: Any) -> list[dict[str, str]]:
    """What the game says, as the user's message."""
    return [{"role": "user", "content": observation["text"] or "(the game says nothing)"}]


def load_environment(
    game: str = "Mastermind-v0",
    words: Sequence[str] | str | None = None,
    num_train_examples: int = 100,
    num_eval_examples: int = 50,
    seed: int = 0,
    max_turns: int = 24,
    **kwargs: Any,
) -> vf.Environment:
    """Build the environment; further arguments go to OpenEnvEnv.

    `words`: Wordle's secret words, a list or a text file with one a line; default: a hundred of this module.
    Raises ValueError, one sentence.
    """
    if game not in GAMES:
        raise ValueError(f"game must be one of {', '.join(GAMES)}, not {game!r}.")
    if words is not None and game != "Wordle-v0":
        raise ValueError(f"words is for Wordle-v0; {game} has none.")
    arguments: dict[str, Any] = {"game": game}
    if game == "Wordle-v0":
        arguments["words"] = secret_words(WORDS.split() if words is None else words)
    return OpenEnvEnv(
        openenv_project="./proj",
        prompt_renderer=render,
        reset_arguments=arguments,
        num_train_examples=num_train_examples,
        num_eval_examples=num_eval_examples,
        seed=seed,
        max_turns=max_turns,
        system_prompt=SYSTEM_PROMPT,
        **kwargs,
    )


def secret_words(words: Sequence[str] | str) -> list[str]:
    """The words of a list, or of the file that a string names: letters only, all of one length, each once, in order of
    the alphabet. Raises ValueError, one sentence."""
    if isinstance(words, str):
        try:
            words = Path(words).expanduser().read_text(encoding="utf-8").split()
        except (OSError, UnicodeDecodeError) as error:
            raise ValueError(f"words names the file {words}, which cannot be read: {error}.") from error
    found = sorted({word.strip().lower() for word in words} - {""})
    odd = next((word for word in found if not word.isalpha() or len(word) != len(found[0])), None)
    if not found or odd is not None:
        told = "there are none" if odd is None else f"{odd!r} differs from {found[0]!r}"
        raise ValueError(f"words must be words of letters only, all of one length; {told}.")
    return found

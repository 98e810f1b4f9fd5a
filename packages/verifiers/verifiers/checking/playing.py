"""Episodes that are played to look at a server: moves drawn from the schema, and everything that was answered."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from random import Random
from typing import Any, Literal

from verifiers.openenv.errors import ActionRejected
from verifiers.openenv.session import Session
from verifiers.openenv.wire import JSON, StepResult, ToolSpec
from verifiers.utils.json_schema import first, sample

Policy = Literal["first", "random"]
# What differs between two runs of the same episode and says nothing about it.
IDENTITIES = frozenset({"metadata", "episode_id", "session_id", "request_id"})
REFUSED = frozenset({"VALIDATION_ERROR", "HTTP_400", "HTTP_422"})
WORDS = 200


@dataclass(frozen=True, slots=True)
class Moves:
    """What can be done in an environment: its action schema, or its tools where it is an MCP one."""

    contract: str
    schema: JSON
    tools: Sequence[ToolSpec] = ()

    def choose(self, policy: Policy, rng: Random, words: Sequence[str]) -> JSON:
        """A valid action. Raises ValueError when the schema allows none, or none that can be found."""
        if self.contract == "mcp" and self.tools:
            tool = self.tools[0] if policy == "first" else rng.choice(list(self.tools))
            schema = {"type": "object", **tool.parameters}
            arguments = first(schema) if policy == "first" else sample(schema, rng, words)
            return {"type": "call_tool", "tool_name": tool.name, "arguments": arguments}
        action = first(self.schema) if policy == "first" else sample(self.schema, rng, words)
        return action if isinstance(action, dict) else {"action": action}


@dataclass(frozen=True, slots=True)
class Moment:
    """One answer: what was observed, the reward as sent, whether it is over; or the code and the text of a refusal."""

    observation: Any = None
    reward: float | None = None
    done: bool = False
    code: str | None = None
    text: str = ""

    @classmethod
    def of(cls, result: StepResult) -> Moment:
        """The moment that a result of reset or step is."""
        return cls(result.observation, result.reward, result.done)

    def told(self) -> str:
        """What has to be the same when the same is played again, as JSON."""
        return json.dumps([plain(self.observation), self.reward, self.done, self.code], sort_keys=True)


@dataclass(slots=True)
class Episode:
    """One episode as it went: `moments[0]` is the answer to reset, `moments[n]` to `actions[n - 1]`; `seconds` of each
    step.
    """

    seed: int
    moments: list[Moment]
    actions: list[JSON] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)

    @property
    def done(self) -> bool:
        """Whether it came to its end."""
        return self.moments[-1].done

    @property
    def rewards(self) -> list[float]:
        """The rewards of all steps, without those that were null."""
        return [float(moment.reward) for moment in self.moments[1:] if moment.reward is not None]

    def parts_from(self, other: Episode) -> int | None:
        """The number of the first moment that differs from the other episode's; None when none does."""
        for number, (mine, its) in enumerate(zip(self.moments, other.moments, strict=False)):
            if mine.told() != its.told():
                return number
        return None if len(self.moments) == len(other.moments) else min(len(self.moments), len(other.moments))


def plain(value: Any) -> Any:
    """An observation without what names this run of it (ids, metadata)."""
    if isinstance(value, Mapping):
        return {name: plain(part) for name, part in value.items() if name not in IDENTITIES}
    if isinstance(value, list):
        return [plain(part) for part in value]
    return value


def words_of(observation: Any) -> list[str]:
    """The words that an observation holds, each once, for random moves to be made of."""
    found = re.findall(r"[^\W_]+", " ".join(_texts(observation))[:20_000])
    return list(dict.fromkeys(found))[:WORDS]


def _texts(value: Any) -> list[str]:
    if isinstance(value, str):
        return [value]
    parts = list(value.values()) if isinstance(value, Mapping) else value if isinstance(value, list) else []
    return [text for part in parts for text in _texts(part)]


async def take(session: Session, episode: Episode, action: JSON, timeout: float) -> Moment:
    """One step; a refusal is a moment, too. Raises: SessionLost."""
    began = time.monotonic()
    try:
        moment = Moment.of(await session.step(action, timeout))
    except ActionRejected as error:
        moment = Moment(code=error.code, text=str(error), observation=None)
    episode.seconds.append(time.monotonic() - began)
    episode.actions.append(action)
    episode.moments.append(moment)
    return moment


async def play(
    session: Session, episode: Episode, moves: Moves, policy: Policy, steps: int, timeout: float, until: float
) -> Episode:
    """Go on with an episode for so many steps, until it is over or the clock (`time.monotonic`) says `until`.

    Raises: SessionLost, ValueError (no action can be drawn).
    """
    words = words_of(episode.moments[-1].observation)
    for number in range(steps):
        if episode.done or time.monotonic() > until:
            break
        action = moves.choose(policy, Random(f"{episode.seed}:{policy}:{number}"), words)
        moment = await take(session, episode, action, timeout)
        words = words_of(moment.observation) or words
    return episode


async def replay(session: Session, episode: Episode, actions: Sequence[JSON], timeout: float) -> Episode:
    """Take the same actions again, to the end of the list or of the episode. Raises: SessionLost."""
    for action in actions:
        if episode.done:
            break
        await take(session, episode, action, timeout)
    return episode

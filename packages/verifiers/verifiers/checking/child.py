"""The program that loads an environment in its own interpreter and plays it there; started by `loading`.

Run by its path, so that any interpreter with a `verifiers` will do: `python -P child.py TASK.json EVENTS.jsonl`. Each
thing that is learnt is one line of EVENTS, written at once: what the environment prints cannot be mistaken for it, and a
child that is ended has still told what it knew.
"""

from __future__ import annotations

import asyncio
import importlib
import inspect
import json
import logging
import sys
import traceback
from pathlib import Path
from typing import Any


class Teller:
    """Writes events."""

    def __init__(self, path: str) -> None:
        self._path = Path(path)

    def __call__(self, event: str, **details: Any) -> None:
        with self._path.open("a", encoding="utf-8") as file:
            file.write(json.dumps({"event": event, **details}, default=str) + "\n")


class Complaints(logging.Handler):
    """Tells of reward functions that raise: the rubric logs that, and scores 0."""

    def __init__(self, tell: Teller) -> None:
        super().__init__(logging.ERROR)
        self._tell = tell

    def emit(self, record: logging.LogRecord) -> None:
        """Pass an error of the rubric on."""
        if "reward function" in str(record.msg):
            self._tell("rubric", error=record.getMessage())


def main() -> int:
    """Do what the task says."""
    task = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    tell = Teller(sys.argv[2])
    try:
        import verifiers
        from verifiers.evaluation import policies
    except ImportError as error:
        tell("no verifiers", error=str(error))
        return 1
    del verifiers, policies
    if task["folder"]:
        sys.path.insert(0, task["folder"])
    env = load(task, tell)
    if env is None:
        return 1
    rows = describe(env, tell)
    if task["play"] and rows:
        logging.getLogger("verifiers").addHandler(Complaints(tell))
        asyncio.run(play(env, rows, task, tell))
    return 0


def load(task: dict[str, Any], tell: Teller) -> Any:
    """The environment, or None when that went wrong."""
    from verifiers.envs.environment import Environment

    try:
        module = importlib.import_module(task["module"])
        entry = module.load_environment
        arguments: dict[str, Any] = {}
        url = task["server_url"]
        if url:
            parameters = inspect.signature(entry).parameters
            if "server_url" in parameters or any(part.kind is part.VAR_KEYWORD for part in parameters.values()):
                arguments["server_url"] = url
        env = entry(**arguments)
        if not isinstance(env, Environment):
            raise TypeError(f"load_environment returned {type(env).__name__}, not an environment")
        if url and "server_url" not in arguments:
            env.set_server_url(url)
    except BaseException as error:
        if isinstance(error, KeyboardInterrupt):
            raise
        place = next(
            (frame for frame in reversed(traceback.extract_tb(error.__traceback__)) if _own(frame.filename, task)), None
        )
        tell(
            "failed",
            type=type(error).__name__,
            error=str(error),
            where=f"{Path(place.filename).name}, line {place.lineno}" if place else None,
            keys=list(getattr(error, "keys", []) or []) if type(error).__name__ == "MissingKeyError" else None,
        )
        return None
    tell("loaded", type=type(env).__name__, max_turns=getattr(env, "max_turns", None))
    return env


def _own(filename: str, task: dict[str, Any]) -> bool:
    return bool(task["folder"]) and filename.startswith(task["folder"])


def describe(env: Any, tell: Teller) -> list[dict[str, Any]]:
    """Say how many rows there are and which have nothing for the model; the rows to play."""
    tables = {}
    for name, get in (("train", env.get_dataset), ("eval", env.get_eval_dataset)):
        try:
            tables[name] = get()
        except Exception as error:
            tell("no rows", table=name, error=f"{type(error).__name__}: {error}")
    rows: list[dict[str, Any]] = []
    for name, table in tables.items():
        count, empty, answers = 0, [], 0
        for row in table:
            if count == 2000:
                break
            # A row that names a seed gets its prompt from the server.
            info = row.get("info")
            seeded = isinstance(info, dict) and "seed" in info
            if not seeded and not _says(row.get("prompt")):
                empty.append(count)
            answers += row.get("answer") not in (None, "")
            if name == "eval" or "eval" not in tables:
                rows.append(dict(row))
            count += 1
        tell("rows", table=name, count=count, empty=empty[:5], answers=answers, seeded=count > 0 and seeded)
    return rows


def _says(prompt: Any) -> bool:
    if isinstance(prompt, str):
        return bool(prompt.strip())
    if not isinstance(prompt, list):
        return False
    return any(message.get("role") != "system" and message.get("content") not in (None, "", []) for message in prompt)


async def play(env: Any, rows: list[dict[str, Any]], task: dict[str, Any], tell: Teller) -> None:
    """A few rollouts of each baseline, one after another, each scored."""
    from verifiers.evaluation.policies import EchoPolicy, FirstPolicy, Policy, RandomPolicy
    from verifiers.types import AssistantMessage

    class Knowing(Policy):
        """Says the row's own answer, in the form that the parser reads."""

        def __init__(self, answer: str) -> None:
            super().__init__()
            self._answer = answer

        def answer(self, prompt: Any, tools: Any, action_schema: Any, rng: Any) -> AssistantMessage:
            parser: Any = getattr(env, "parser", None)
            field = getattr(parser, "answer_field", None)
            if field:
                try:
                    return AssistantMessage(parser.format(**{field: self._answer}))
                except (AttributeError, KeyError, TypeError, ValueError):
                    pass
            return AssistantMessage(self._answer)

    server = bool(task["server_url"])
    for number, row in enumerate(rows[: task["rollouts"]]):
        policies: dict[str, Any] = {"first": FirstPolicy(), "random": RandomPolicy()}
        if not server:
            policies["echo"] = EchoPolicy()
            if row.get("answer") not in (None, ""):
                policies["answer"] = Knowing(str(row["answer"]))
        for name, policy in policies.items():
            error = None
            state: Any = {}
            try:
                state = await env.rollout({**row, "rollout_index": number}, policy, "baseline")
                error = state.get("error")
                if error is None:
                    await env.score([state])
                    error = state.get("error")
            except Exception as raised:
                error = raised
            kinds = [kind.__name__ for kind in type(error).__mro__] if error is not None else []
            tell(
                "rollout",
                policy=name,
                row=number,
                reward=state.get("reward") if error is None else None,
                turns=len(state.get("trajectory") or ()),
                kinds=kinds,
                error=None if error is None else str(error),
            )
    await env._teardown()


if __name__ == "__main__":
    sys.exit(main())

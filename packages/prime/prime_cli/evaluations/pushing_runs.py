"""`prime eval run --push`: what has just been played goes to the Hub, and the address of each is told."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from prime_cli.output import Output

if TYPE_CHECKING:
    from verifiers.cli.eval_arguments import Arguments


def push_runs(told: Sequence[dict[str, Any]], asked: Sequence[Arguments], out: Output, quiet: bool) -> bool:
    """Push each run that has results; whether all of them could be. What came of it is added to `told`: evaluation_id and
    viewer_url, or push_error. quiet: stdout is for JSON.
    """
    good = True
    for one, arguments in zip(told, asked, strict=True):
        folder, name = one.get("results_path"), one.get("env_id")
        if folder is None:
            continue
        if not one.get("num_rollouts"):
            out.note(f"{name}: nothing was played to its end, so nothing was pushed.")
            continue
        try:
            one |= _push(Path(folder), arguments, out)
        except Exception as error:  # whatever it is, the run is there and the others are pushed
            good = False
            one["push_error"] = _failed(name, folder, error, out)
            continue
        say = out.note if quiet else out.success
        say(f"Pushed {name}: {one['viewer_url']}")
    return good


def _push(folder: Path, arguments: Arguments, out: Output) -> dict[str, Any]:
    from prime_cli.evaluations.push import PushOptions, push_run

    pushed = push_run(folder, PushOptions(environment=_named(arguments.env_id)), out)
    return {"evaluation_id": pushed.evaluation_id, "viewer_url": pushed.url}


def _named(env_id: str) -> str | None:
    """OWNER/NAME where the command line has said it; what a run keeps is the name alone."""
    owner, slash, name = env_id.partition("@")[0].partition("/")
    return env_id if slash and owner.strip(".") and "/" not in name and not Path(env_id).exists() else None


def _failed(name: Any, folder: str, error: Exception, out: Output) -> str:
    from prime_cli.errors import explain

    known = explain(error)
    sentence = known.sentence if known else f"{type(error).__name__}: {error}"
    later = f"The run itself is safe in {folder}; push it later with: prime eval push {folder}"
    out.error(f"{name} could not be pushed: {sentence}", f"{known.hint}\n{later}" if known and known.hint else later)
    return sentence


def not_pushed(told: Sequence[Mapping[str, Any]], out: Output) -> None:
    """What a signal has ended is not pushed; how it is later."""
    for one in told:
        if one.get("results_path") is not None:
            out.note(f"Not pushed, since it was interrupted: prime eval push {one['results_path']}")

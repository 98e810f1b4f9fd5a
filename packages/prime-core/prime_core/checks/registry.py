"""Every check there is: its id, its group, one line, and a page of explanation.

The pages are `pages/ID.md`; `prime env check --explain ID` prints them and docs/checks is generated from them
(script/check-pages).
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib.resources import files

GROUPS = ("package", "image", "contract", "episodes", "hostile", "reward", "renderer", "resources")


@dataclass(frozen=True, slots=True)
class Check:
    """`title` says what is right when it passes. `quick`: needs neither a server nor the environment's code running.
    `worst` is "fail", or "warn" for what is advice.
    """

    id: str
    group: str
    title: str
    quick: bool = False
    worst: str = "fail"

    @property
    def explanation(self) -> str:
        """The page: what is checked and how, why it matters, how to mend it, an example (Markdown)."""
        return (files("prime_core.checks") / "pages" / f"{self.id}.md").read_text(encoding="utf-8")


def _quick(id: str, title: str, worst: str = "fail") -> Check:
    return Check(id, "package", title, True, worst)


_ALL = (
    _quick("metadata-invalid", "pyproject.toml names the environment, its version and what it is about"),
    _quick("version-not-semantic", "the version is MAJOR.MINOR.PATCH", "warn"),
    _quick("version-mismatch", "every place that names the version says the same"),
    _quick("tags-missing", "tags say what kind of environment it is", "warn"),
    _quick("readme-missing", "there is a README.md"),
    _quick("example-missing", "the README shows how to run it", "warn"),
    _quick("entry-missing", "there is a load_environment, and the code can be parsed"),
    _quick("arguments-undocumented", "the README names every argument of load_environment", "warn"),
    _quick("dependencies-unbounded", "every dependency says which versions it means", "warn"),
    _quick("lock-outdated", "a lock file names what is required", "warn"),
    Check("load-fails", "package", "load_environment gives an environment, in its own interpreter"),
    Check("rows-invalid", "package", "the data sets have rows, each with something to say to the model"),
    Check("image-not-built", "image", "the image of proj/ is there, or can be built"),
    Check("server-not-healthy", "image", "the server becomes healthy in time"),
    Check("port-mismatch", "image", "the server listens on the port where it is looked for"),
    Check("loopback-only", "image", "the server listens on every interface"),
    Check("factory-fails", "image", "an episode can be begun, not only /health answers"),
    Check("schema-invalid", "contract", "/schema holds valid JSON Schemas"),
    Check("contract-mismatch", "contract", "the server speaks the contract that the project declares"),
    Check("tools-unusable", "contract", "the tools of an MCP environment are listed and can be called"),
    Check("schema-lies", "contract", "the server takes the actions that its schema allows"),
    Check("observation-unlike-schema", "contract", "observations are as their schema says", worst="warn"),
    Check("step-hangs", "episodes", "every step is answered in time"),
    Check("session-lost", "episodes", "no valid action ends the session or the server"),
    Check("action-errors", "episodes", "a valid action is answered by an observation, not by an error"),
    Check("seed-ignored", "episodes", "the same seed gives the same first observation"),
    Check("seed-half-used", "episodes", "the same seed and the same actions give the same episode"),
    Check("seeds-alike", "episodes", "different seeds give different episodes", worst="warn"),
    Check("sessions-share-state", "episodes", "two sessions at once do not disturb each other"),
    Check("reset-leaks", "episodes", "a reset in the middle of an episode begins a new one"),
    Check("step-after-done", "episodes", "a step after the end is refused or answered, and changes nothing"),
    Check("episode-endless", "episodes", "an episode ends by itself", worst="warn"),
    Check("malformed-action", "hostile", "the server survives actions that are no actions"),
    Check("oversize-action", "hostile", "the server survives an action of several megabytes"),
    Check("session-cut", "hostile", "the server survives sessions that are cut off"),
    Check("reward-not-finite", "reward", "every reward is a finite number"),
    Check("reward-out-of-range", "reward", "rewards lie in the declared range"),
    Check("reward-constant", "reward", "the reward tells good play from bad"),
    Check("renderer-reset", "renderer", "the renderer turns the first observation into messages"),
    Check("renderer-step", "renderer", "the renderer turns every later observation into messages"),
    Check("rollout-fails", "renderer", "whole rollouts are played and scored"),
    Check("processes-left", "resources", "no process is left when a session is closed"),
    Check("memory-leak", "resources", "memory does not grow with the sessions that were played"),
    Check("needs-network", "resources", "it plays without a network, unless it says that it needs one"),
    Check("step-slow", "resources", "steps are fast enough to train on", worst="warn"),
)

CHECKS: dict[str, Check] = {check.id: check for check in _ALL}


class UnknownCheck(ValueError):
    """There is no check of that id; the sentence names near ones."""


def find(id: str) -> Check:
    """The check of an id. Raises UnknownCheck."""
    if id in CHECKS:
        return CHECKS[id]
    from difflib import get_close_matches

    near = get_close_matches(id, CHECKS, 1, 0.5)
    meant = f" Did you mean {near[0]}?" if near else ""
    raise UnknownCheck(f"There is no check '{id}'.{meant} They are: {', '.join(CHECKS)}.")

"""A Hub with something on every page, as a small group of people would have it after some weeks."""

from __future__ import annotations

from dataclasses import dataclass, field

import httpx

from tests.browser.evaluated import evaluate
from tests.conftest import RunningHub
from tests.hub.checking import CODE as CHECKED
from tests.hub.checking import check, push_checkable
from tests.hub.images import begin, build, context, create, wait
from tests.hub.pushing import push, put

README = b"""# Wordle

Guess a five-letter word in six tries. After each guess the environment says which letters are right.

## Scores

| result | reward |
| --- | ---: |
| guessed in one | 1.0 |
| guessed in six | 0.5 |
| not guessed | 0.0 |

```python
import verifiers as vf

env = vf.load_environment("wordle", words="common")
```

> [!NOTE]
> Words are from a list that is part of the source; none of them is offensive.[^list]

- [x] English
- [ ] Other languages

[^list]: Checked by two people who speak the language.
"""
CODE = b'''"""Wordle as an environment."""

import random

WORDS = ["crane", "slate", "audio", "pious"]


def load_environment(words: str = "common", seed: int | None = None):
    """A game for each word. `words` is `common` or `all`."""
    chance = random.Random(seed)
    return [chance.choice(WORDS) for _ in range(100)]  # shuffled
'''
LIST: list[tuple[str, str, list[str]]] = [
    (
        "gsm8k-tools",
        "Grade-school mathematics with a calculator as a tool",
        ["math", "tool-use", "train", "single-turn"],
    ),
    ("codegolf", "Write the shortest Python program that prints the text", ["coding", "hard", "eval"]),
    ("web-forms", "Fill in web forms from an instruction, scored by what was sent", ["web", "multi-turn", "benchmark"]),
    ("cartpole", "Balance a pole on a cart: the classic control task as an OpenEnv server", ["games", "train"]),
    ("logic-puzzles", "Knights, knaves and zebras: deduction puzzles of three difficulties", ["reasoning", "medium"]),
    (
        "long-books",
        "Questions about whole books, with the page that answers each of them",
        ["reasoning", "hard", "eval"],
    ),
]


@dataclass
class Content:
    """Whose pages they are, an API key of theirs, and what stands in addresses."""

    owner: str
    key: str
    ids: dict[str, str] = field(default_factory=dict)

    def pages(self) -> dict[str, str]:
        """Every page, by a short name."""
        wordle = f"/dashboard/environments/{self.owner}/wordle"
        return {
            "home": "/",
            "search": "/?q=guess&tag=games",
            "nothing": "/?q=zzzz",
            "meant": "/?q=wordlee&tag=games",
            "readme": "/?q=offensive",
            "environment": wordle,
            "files": f"{wordle}/files",
            "file": f"{wordle}/files/wordle.py",
            "versions": f"{wordle}/versions",
            "changes": f"{wordle}/changes?from=0.1.0&to=0.2.0",
            "check": f"/dashboard/environments/{self.owner}/echoing/check",
            "unchecked": f"{wordle}/check",
            "explained": "/dashboard/checks/seed-ignored",
            "usage": f"{wordle}/usage",
            "environment-evaluations": f"{wordle}/evaluations",
            "evaluations": "/dashboard/evaluations",
            "evaluation": f"/dashboard/evaluations/{self.ids['second']}",
            "evaluation-running": f"/dashboard/evaluations/{self.ids['running']}",
            "rollout": f"/dashboard/evaluations/{self.ids['second']}/rollouts/{self.ids['rollout']}",
            "comparison": f"/dashboard/evaluations/compare?first={self.ids['first']}&second={self.ids['second']}",
            "comparison-choice": "/dashboard/evaluations/compare",
            "settings": f"{wordle}/settings",
            "environment-secrets": f"{wordle}/secrets",
            "start": "/dashboard/start",
            "owner": f"/dashboard/owners/{self.owner}",
            "account": "/dashboard/account",
            "tokens": "/dashboard/tokens",
            "teams": "/dashboard/teams",
            "team": f"/dashboard/teams/{self.ids['team']}",
            "secrets": "/dashboard/secrets",
            "images": "/dashboard/images",
            "build": f"/dashboard/builds/{self.ids['failed']}",
            "sandboxes": "/dashboard/sandboxes",
            "sandbox": f"/dashboard/sandboxes/{self.ids['sandbox']}",
            "missing": "/dashboard/environments/nobody/nothing",
        }


SIGNED_OUT = {"sign-in": "/dashboard/sign-in", "sign-up": "/dashboard/sign-up"}


def fill(hub: RunningHub, owner: str = "mira") -> Content:
    """Make it."""
    content = Content(owner, hub.add_user(owner))
    api = hub.client(content.key)
    for name, description, tags in LIST:
        push(api, name, metadata={"description": description, "tags": tags})
    about = {"description": "Guess a five-letter word in six tries", "tags": ["games", "multi-turn", "eval", "easy"]}
    older = {"README.md": README.replace(b"six tries", b"five tries"), "words.txt": b"crane\nslate\n"}
    newer = {"README.md": README, "wordle.py": CODE, "data/words.txt": b"crane\n"}
    push(api, "wordle", "0.1.0", metadata=about, files=older)
    push(api, "wordle", "0.2.0", metadata=about, files=newer)
    push(api, "unfinished", metadata={"description": "Not for everybody yet", "tags": ["math"]}, visibility="PRIVATE")
    found = api.get(f"/environmentshub/{owner}/wordle/@latest").json()["data"]
    for _ in range(7):
        api.get(found["wheel_url"]).raise_for_status()
    api.put(f"/environmentshub/{owner}/wordle/star").raise_for_status()
    secret = {"name": "JUDGE_KEY", "value": "not-shown", "description": "The judge model's key"}
    api.post("/secrets/", json=secret).raise_for_status()
    base = f"/environmentshub/{found['id']}"
    api.post(f"{base}/variables", json={"name": "LANGUAGE", "value": "en"}).raise_for_status()
    api.post(f"{base}/secrets", json={"name": "WORDS_KEY", "value": "not-shown"}).raise_for_status()
    content.ids |= evaluate(api, owner)
    content.ids["team"] = api.post("/teams", json={"slug": "puzzlers", "name": "The Puzzlers"}).json()["data"]["slug"]
    hub.wait_for_runner()
    build(api, "wordle-server")
    content.ids["failed"] = _failed(api)
    push_checkable(api, "echoing", CHECKED.replace("return 1.0 if", "raise ValueError('no word')\n    return 1.0 if"))
    assert check(api, owner, "echoing")["problems"]
    content.ids["sandbox"] = create(api, "wordle-server:latest", name="wordle-1")["id"]
    return content


def _failed(api: httpx.Client) -> str:
    begun = begin(api, "broken-server")
    put(begun["upload_url"], context(Dockerfile="FROM python:3.11-slim\nCOPY missing.py .\n"))
    api.post(f"/images/build/{begun['build_id']}/start", json={"context_uploaded": True}).raise_for_status()
    wait(api, begun["build_id"])
    return begun["build_id"]

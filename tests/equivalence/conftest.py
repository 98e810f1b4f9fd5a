"""The same environments under the official library, really installed, and under ours.

A lane of its own, `script/test tests/equivalence`: these tests run only where this folder, or a file of it, is named. Both
play as programs in Python environments of their own, made once and kept in the tests' cache; a model server of the tests' own
answers both.
"""

from __future__ import annotations

import json
import os
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import pytest

from tests.official.conftest import python_with
from tests.support.lanes import ignored_unless_named

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
# A fresh install of it does not work with what has appeared since.
OFFICIAL = ("verifiers==0.1.14", "anthropic<1", "mcp<2", "openai<3", "textarena==0.7.4", "nltk<4")
EXTRAS = ("math", "datasets", "textarena")
OURS = ("verifiers", "prime-core", "prime-evals")
WORD = "crane"
"""The only word there is to guess, so that both libraries draw the same one."""
SECONDS = 500


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    return ignored_unless_named(HERE, config)


@pytest.hookimpl(tryfirst=True)  # before the groups are read
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if Path(item.path).is_relative_to(HERE):
            item.add_marker(pytest.mark.index)
            item.add_marker(pytest.mark.slow)
            item.add_marker(pytest.mark.timeout(2 * SECONDS + 100))
            # What was played by one test is looked at by the others.
            item.add_marker(pytest.mark.xdist_group(item.path.stem))


def our_python() -> Path:
    """The Python of an environment with what our library needs, with its extras; our own code comes by PYTHONPATH."""
    needed: list[str] = []
    for name in OURS:
        project = tomllib.loads((ROOT / "packages" / name / "pyproject.toml").read_text(encoding="utf-8"))["project"]
        optional = project.get("optional-dependencies", {})
        needed += project["dependencies"] + [line for extra in EXTRAS for line in optional.get(extra, ())]
    return python_with(*sorted({line for line in needed if not line.startswith("prime-")}))


def word_lists(folder: Path) -> Path:
    """NLTK's data as far as Wordle reads it: one word, and that it is a noun."""
    words = folder / "corpora" / "words"
    words.mkdir(parents=True)
    for name in ("en", "en-basic"):
        (words / name).write_text(f"{WORD}\n")
    (words / "README").write_text("")
    tagger = folder / "taggers" / "averaged_perceptron_tagger_eng"
    tagger.mkdir(parents=True)
    parts: dict[str, Any] = {"weights": {}, "tagdict": {WORD: "NN"}, "classes": ["NN"]}
    for part, value in parts.items():
        (tagger / f"averaged_perceptron_tagger_eng.{part}.json").write_text(json.dumps(value))
    return folder


def run(python: Path, script: Path, *arguments: str, home: Path, **variables: str) -> str:
    """What a program printed, as a person with nothing configured would run it."""
    env = {"PATH": os.environ["PATH"], "HOME": str(home), "HF_HUB_OFFLINE": "1", "NO_COLOR": "1", **variables}
    done = subprocess.run(
        [str(python), str(script), *arguments],
        env=env,
        cwd=home,
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-6000:]
    return done.stdout


def our_path() -> str:
    """PYTHONPATH with our packages as they stand."""
    return os.pathsep.join(str(ROOT / "packages" / name) for name in OURS)

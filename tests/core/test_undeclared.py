"""What environments use without requiring it is installed with them."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from prime_core.api import APIClient
from prime_core.connection import Connection
from prime_core.installing import install_from_hub, install_local
from prime_core.undeclared import undeclared
from prime_core.wheel import build_wheel
from tests.core.conftest import Venv
from tests.core.support import make_environment, make_wheel, publish

PLAIN = ("verifiers>=0.1.10",)
CODE = """
import verifiers as vf


def load_environment():
    return "loaded"
"""


def wheel_of(folder: Path, code: str, requires: tuple[str, ...] = PLAIN) -> list[str]:
    env = make_environment(folder, "looked-at", dependencies=requires)
    (env / "looked_at.py").write_text(CODE + code)
    wheel = build_wheel(env, folder / "dist")
    return undeclared(wheel.path, wheel.metadata["requires_dist"])


@pytest.mark.parametrize(
    ("code", "wanted"),
    [
        ("from datasets import Dataset", ["verifiers[datasets]"]),
        ("import numpy as np", ["numpy"]),
        ("def f():\n    import sympy.parsing", ["sympy"]),
        ("rubric = lambda: vf.MathRubric()", ["verifiers[math]"]),
        ("from verifiers import MathRubric as Mine", ["verifiers[math]"]),
        ("from verifiers.rubrics.math_rubric import MathRubric", ["verifiers[math]"]),
        ("from verifiers.utils.data_utils import load_example_dataset", ["verifiers[datasets]"]),
        ("from verifiers.envs.integrations.textarena_env import TextArenaEnv", ["verifiers[textarena]"]),
        ("class Mine(vf.SandboxEnv): ...", ["verifiers[sandbox]"]),
        ("import math_verify, requests", ["requests", "verifiers[math]"]),
        ("import json, openai, left_pad", []),
        ("try:\n    import numpy\nexcept ImportError:\n    numpy = None", []),
        ("from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import numpy", []),
        ("try:\n    import numpy\nexcept* ImportError:\n    numpy = None", []),
        ("import contextlib\nwith contextlib.suppress(ImportError):\n    import numpy", []),
        ("with open('x'):\n    import numpy", ["numpy"]),
        ("import verifiers.rubrics.math_rubric as m\nm.MathRubric()", ["verifiers[math]"]),
        ("import looked_at.x\nimport looked_at", []),
        ("from .datasets import x\nother = object()\nprint(other.MathRubric)", []),
    ],
)
def test_what_the_code_uses(tmp_path: Path, code: str, wanted: list[str]) -> None:
    assert wheel_of(tmp_path, code) == wanted


@pytest.mark.parametrize(
    ("code", "requires"),
    [
        ("import numpy", ("left-pad",)),
        ("import numpy", (*PLAIN, "numpy>=1.2")),
        ("import nest_asyncio", (*PLAIN, "nest_asyncio")),
        ("import datasets", ("verifiers[datasets]",)),
        ("import datasets", (*PLAIN, "datasets>=3")),
        ("vf.MathRubric", (*PLAIN, "math-verify")),
        ("vf.OpenEnvEnv", ("verifiers[openenv]>=0.1.10",)),
        ("vf.TextArenaEnv", ("verifiers[ta]",)),
        ("vf.MathRubric", ("verifiers[all]",)),
        ("this is no Python", PLAIN),
    ],
)
def test_what_is_required_already_or_not_ours_to_say(tmp_path: Path, code: str, requires: tuple[str, ...]) -> None:
    assert wheel_of(tmp_path, code, requires) == []


@pytest.mark.parametrize(
    ("requires", "wanted"),
    [
        (("datasets>=3; extra == 'train'",), ["verifiers[datasets]"]),
        (("datasets>=3; python_version >= '3'",), []),
    ],
)
def test_what_an_extra_requires_is_not_there(tmp_path: Path, requires: tuple[str, ...], wanted: list[str]) -> None:
    wheel = build_wheel(make_environment(tmp_path, "served", dependencies=PLAIN), tmp_path / "dist").path
    from zipfile import ZipFile

    with ZipFile(wheel, "a") as archive:
        archive.writestr("served/more.py", "import datasets")
    assert undeclared(wheel, (*PLAIN, *requires)) == wanted


def test_a_module_that_the_wheel_has_itself_is_no_requirement(tmp_path: Path) -> None:
    wheel = build_wheel(make_environment(tmp_path, "served", dependencies=PLAIN), tmp_path / "dist").path
    from zipfile import ZipFile

    with ZipFile(wheel, "a") as archive:
        archive.writestr("agents/__init__.py", "import numpy")
        archive.writestr("regex.py", "")
        archive.writestr("served/more.py", "import regex\nfrom agents.x import Y")
    assert undeclared(wheel, PLAIN) == ["numpy"]


def test_the_servers_project_has_requirements_of_its_own(tmp_path: Path) -> None:
    env = make_environment(tmp_path, "served", dependencies=PLAIN)
    made = build_wheel(env, tmp_path / "dist").path
    from zipfile import ZipFile

    with ZipFile(made, "a") as archive:
        archive.writestr("served/proj/server.py", "import numpy")
        archive.writestr("served/more.py", "import requests")
    assert undeclared(made, PLAIN) == ["requests"]


def test_it_is_installed_with_the_environment(
    tmp_path: Path, connection: Connection, client: APIClient, venv: Venv
) -> None:
    make_wheel(tmp_path / "index", "requests", "2.0")
    env = make_environment(tmp_path, "relying", dependencies=PLAIN)
    (env / "relying.py").write_text(CODE + "import requests\n")
    report = install_from_hub(connection, [publish(client, env)], venv.python)
    assert {change.name for change in report.changes} >= {"relying", "requests", "verifiers"}
    program = "import relying; print(relying.load_environment())"
    done = subprocess.run([venv.python, "-I", "-c", program], check=True, capture_output=True, text=True)
    assert done.stdout == "loaded\n"


def test_a_local_one_is_looked_at_before_it_becomes_a_link(tmp_path: Path, venv: Venv) -> None:
    make_wheel(tmp_path / "index", "requests", "2.0")
    env = make_environment(tmp_path, "nearby", dependencies=PLAIN)
    (env / "nearby.py").write_text(CODE + "import requests\n")
    report = install_local(env, venv.python)
    assert {change.name for change in report.changes} >= {"nearby", "requests"}
    assert install_local(env, venv.python).changes == []

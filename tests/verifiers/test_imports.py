"""`import verifiers` is free, and every public name is there."""

import subprocess
import sys

import pytest

import verifiers as vf

HEAVY = ["datasets", "openai", "httpx", "pydantic", "rich", "numpy", "fastapi", "websockets"]


@pytest.mark.parametrize(
    "statement",
    [
        "import verifiers as vf",
        "import verifiers as vf; vf.SingleTurnEnv(dataset=[{'question': 'q'}], rubric=vf.Rubric()); vf.ToolEnv",
        "import verifiers as vf; vf.StatefulToolEnv, vf.GymEnv, vf.MCPEnv, vf.TextArenaEnv, vf.ReasoningGymEnv",
        "from verifiers.evaluation.policies import RandomPolicy; import verifiers.evaluation.runner",
    ],
)
def test_nothing_heavy_is_imported(statement):
    code = f"{statement}\nimport sys\nprint([name for name in {HEAVY!r} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("name", vf.__all__)
def test_every_public_name_loads(name):
    assert getattr(vf, name) is not None
    assert name in dir(vf)


def test_a_missing_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match=r"^module 'verifiers' has no attribute 'Nonsense'$"):
        vf.Nonsense  # noqa: B018

"""Ten rounds of SIGKILL on each runtime; `script/bench soak` plays a hundred."""

import os
from pathlib import Path

import pytest

from tests.conftest import HubFactory
from tests.soak.rounds import Soak

ROUNDS = 10
SEED = 4


@pytest.mark.timeout(900)
@pytest.mark.parametrize("runtime", ["process", "bubblewrap", "docker", "podman"])
def test_nothing_is_left(start_hub: HubFactory, runtime: str, tmp_path: Path) -> None:
    options, engine = ["--runtime", runtime], None
    if runtime in ("docker", "podman"):
        engine = os.environ.get(f"PRIME_TEST_{runtime.upper()}")
        if not engine:
            pytest.skip(f"PRIME_TEST_{runtime.upper()} names no engine; 'script/engines' starts one")
        options += ["--runtime-option", f"engine={engine}"]
    hub = start_hub(*options)
    soak = Soak(hub, tmp_path, SEED, runtime, engine)
    played = [soak.round() for _ in range(ROUNDS)]
    assert {item.victim for item in played} == {"evaluator", "hub", "runner"}
    hub.close()
    assert not soak.left_at_the_end()

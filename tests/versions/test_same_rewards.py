"""The same game has the same rewards for the same seeds on every version and dialect, played by the same policy."""

from __future__ import annotations

import importlib
import json

import pytest

from tests.versions.conftest import ENVIRONMENTS, VERSIONS
from verifiers.evaluation.policies import RandomPolicy

SEEDS = 12
ROLLOUTS = 2


async def rewards(env) -> list[float]:
    """One after another, so that a server of one episode at a time will do."""
    found = []
    for row in env.get_eval_dataset():
        for rollout in range(ROLLOUTS):
            state = await env.rollout({**row, "rollout_index": rollout}, RandomPolicy(), "baseline/random")
            await env.score([state])
            assert state["error"] is None
            found.append(state["reward"])
    await env._teardown()
    return found


@pytest.mark.parametrize(
    ("name", "core_app", "http_app", "max_turns"),
    [
        ("openenv_echo", "server.app:app", "http_echo:app", 4),
        ("openenv_cartpole", "core_cartpole:app", "server:app", 25),
        ("openenv_textarena", "server.app:app", "http_textarena:app", 24),
    ],
)
async def test_the_same_rewards_everywhere(shared, monkeypatch, name, core_app, http_app, max_turns):
    monkeypatch.syspath_prepend(str(ENVIRONMENTS / name))
    module = importlib.import_module(name)
    folder = ENVIRONMENTS / name / "proj"
    servers = {"http": ("0.10.0", http_app, folder)} | {version: (version, core_app, folder) for version in VERSIONS}
    found = {}
    for label, server in servers.items():
        env = module.load_environment(
            server_url=shared(*server), seed=3, num_train_examples=0, num_eval_examples=SEEDS, max_turns=max_turns
        )
        found[label] = await rewards(env)
    first = found["http"]
    assert len(first) == SEEDS * ROLLOUTS and len(set(first)) > 3, first
    assert all(other == first for other in found.values()), json.dumps(found)

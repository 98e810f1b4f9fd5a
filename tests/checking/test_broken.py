"""Eighteen broken environments: each is caught by its own id, and only by that. The sound one is caught by none."""

from __future__ import annotations

import pytest

from tests.checking.conftest import BASE, BROKEN
from verifiers.checking import CHECKS, Limits, run

LIMITS = Limits(
    startup=30.0,
    elsewhere=1.0,
    request=3.0,
    steps=8,
    long_steps=40,
    long_seconds=4.0,
    oversize=2 * 1024 * 1024,
    load=30.0,
)
CAUGHT_BY = {
    "seed_ignored": "seed-ignored",
    "seed_half_used": "seed-half-used",
    "shared_state": "sessions-share-state",
    "schema_lies": "schema-lies",
    "reward_nan": "reward-not-finite",
    "constant_reward": "reward-constant",
    "hangs_on_step_3": "step-hangs",
    "crashes_on_malformed": "malformed-action",
    "dies_under_large": "oversize-action",
    "leaks_memory": "memory-leak",
    "leaks_processes": "processes-left",
    "needs_network": "needs-network",
    "wrong_contract": "contract-mismatch",
    "no_readme": "readme-missing",
    "import_error": "load-fails",
    "version_mismatch": "version-mismatch",
    "factory_fails": "factory-fails",
    "port_mismatch": "port-mismatch",
}


def test_every_broken_environment_is_looked_at():
    assert len(CAUGHT_BY) == 18
    assert {path.name for path in BROKEN.iterdir()} == {*CAUGHT_BY, BASE}


@pytest.mark.parametrize("name", [BASE, *CAUGHT_BY])
async def test_it_is_caught_by_its_own_check_and_only_by_that(name, made, played):
    report = await run(played(made(name)), limits=LIMITS)
    told = {result.id: result.verdict for result in report.ordered}
    assert set(told) == set(CHECKS)
    assert report.ids("fail") == ({CAUGHT_BY[name]} if name != BASE else set()), report.findings("fail")
    assert report.exit_code == (name != BASE)
    broke = [verdict.why for verdict in told.values() if verdict.why and "could not be made" in verdict.why]
    assert not broke
    if name == BASE:
        assert report.ids("warn") == set(), report.findings("warn")
        assert report.ids("skip") == {"lock-outdated", "tools-unusable", "reward-out-of-range"}
    for finding in report.findings():
        assert finding.sentence.strip().endswith((".", "?", "!")) or "Logs (tail)" in finding.sentence, finding.sentence
        assert finding.where and finding.change

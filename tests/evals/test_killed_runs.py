"""The real command, killed at random moments and resumed until it is complete. `script/bench soak evaluations` does the
same two hundred times. A failure prints its seed.
"""

import random

import pytest
from killed_runs import KilledRun

SEEDS = [*range(8), *(random.SystemRandom().randrange(1000, 10**9) for _ in range(2))]


@pytest.mark.parametrize("number", range(len(SEEDS)))
def test_a_killed_run_comes_to_what_an_undisturbed_one_comes_to(tmp_path, number):
    seed = SEEDS[number]
    print(f"seed {seed}")
    story = KilledRun(tmp_path, seed).play()
    print(story)
    assert story.attempts >= 24

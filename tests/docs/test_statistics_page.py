"""docs/statistics.md does what it says: its program runs, and the numbers in its words are the ones that come out."""

from __future__ import annotations

import json
import re
import subprocess
import sys

import pytest

from prime_evals.estimates import wilson
from tests.conftest import ROOT

PAGE = (ROOT / "docs" / "statistics.md").read_text(encoding="utf-8")


def test_its_program() -> None:
    (program,) = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    first, second = done.stdout.splitlines()
    assert float(first.split()[0]) == pytest.approx(2 / 3) and "'common_examples': 2" in second
    assert json.loads(second.replace("'", '"').replace("None", "null"))["difference"]["value"] == 0.25


def test_its_example() -> None:
    found = re.search(r"ten successes of ten are ([\d.]+) to 1", PAGE)
    assert found is not None and round(wilson(1.0, 10)[0], 2) == float(found[1])

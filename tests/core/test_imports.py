"""What importing costs, and that the errors are a tree that a caller can catch."""

from __future__ import annotations

import pkgutil
import subprocess
import sys

import pytest

import prime_core
from prime_core import errors

HEAVY = {"httpx", "yaml", "dockerfile_parse", "pathspec", "hatchling"}
MODULES = sorted(module.name for module in pkgutil.iter_modules(prime_core.__path__))


@pytest.mark.parametrize("module", MODULES)
def test_importing_a_module_loads_no_http_client(module: str):
    program = f"import sys, prime_core.{module}\nprint(sorted({HEAVY!r} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_every_module_says_what_it_is():
    for module in MODULES:
        assert (__import__(f"prime_core.{module}", fromlist=["_"]).__doc__ or "").strip(), module


def test_errors_are_one_tree():
    kinds = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, Exception)]
    assert len(kinds) == 17
    assert all(issubclass(kind, errors.PrimeError) for kind in kinds)


def test_an_error_is_its_sentence():
    error = errors.APIError("The Hub is full.", 507, "full", "Delete something.")
    assert (str(error), error.status, error.detail, error.hint) == (
        "The Hub is full.",
        507,
        "full",
        "Delete something.",
    )
    assert str(errors.NotAuthenticated()) == "Not authenticated. Run 'prime login' first."


def test_published_environments_catch_a_missing_manifest_as_runtime_error():
    assert issubclass(errors.ProjectError, RuntimeError)

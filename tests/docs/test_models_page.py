"""docs/models.md says what is: its providers, its APIs, its registry."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import verifiers as vf
from tests.conftest import ROOT
from tests.support.pages import blocks
from verifiers.clients.resolve import CLIENT_TYPES
from verifiers.evaluation.endpoints import PROVIDERS, read_registry

PAGE = (ROOT / "docs" / "models.md").read_text(encoding="utf-8")


def rows(heading: str) -> list[list[str]]:
    """The cells of the first table under a heading."""
    table = PAGE.partition(f"\n## {heading}\n")[2].partition("\n## ")[0]
    found = [line.strip("|").split("|") for line in table.splitlines() if line.startswith("| `")]
    return [[cell.strip() for cell in row] for row in found]


def test_the_providers():
    told = {
        name: (url.strip("`"), key.split("`")[1], kind.strip("`"))
        for names, url, key, kind in rows("Providers")
        for name in re.findall(r"`(\w+)`", names)
    }
    assert told == {name: (one.url, one.key, one.client_type) for name, one in PROVIDERS.items()}


def test_the_client_types():
    told = {kind.strip("`"): name.strip("`") for kind, name, _ in rows("APIs")}
    assert told == {kind: f"vf.{name}" for kind, name in CLIENT_TYPES.items()}


def test_the_errors_are_there():
    table = PAGE.partition("\n## Trouble\n")[2].partition("\n## ")[0]
    names = re.findall(r"`(\w+Error)`", table)
    assert names and all(issubclass(getattr(vf, name), vf.Error) for name in names)


def test_the_registry(tmp_path: Path):
    (registry,) = (block.text for block in blocks(ROOT / "docs" / "models.md") if block.language == "toml")
    (tmp_path / "endpoints.toml").write_text(registry)
    first, second = read_registry(tmp_path)["qwen"]
    assert first.config.prices == vf.Prices(0.15, 0.6, 0.075) and second.config.prices is None
    assert first.config.max_retries == vf.ClientConfig().max_retries


@pytest.mark.parametrize(
    "option", ["--api-client-type", "--header", "--header-from-state", "--max-retries", "-p", "-e"]
)
def test_the_options(option, capsys):
    from verifiers.cli.eval_arguments import parser

    parser("vf-eval").print_help()
    assert option in capsys.readouterr().out and option in PAGE

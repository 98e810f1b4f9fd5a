"""Every check has a page, and docs/checks, docs/checking.md and --explain say the same."""

from __future__ import annotations

import importlib.util
import re

import pytest

from tests.conftest import ROOT
from verifiers.checking import CHECKS, GROUPS
from verifiers.checking.run import FUNCTIONS

SECTIONS = ["What is checked", "Why it matters", "How to mend it", "Example"]


@pytest.fixture(scope="module")
def script():
    spec = importlib.util.spec_from_file_location("check_pages", ROOT / "script" / "check_pages.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_every_check_is_made_and_every_group_has_some():
    assert set(FUNCTIONS) == set(CHECKS)
    assert {check.group for check in CHECKS.values()} == set(GROUPS)
    assert [GROUPS.index(check.group) for check in CHECKS.values()] == sorted(
        GROUPS.index(check.group) for check in CHECKS.values()
    )


@pytest.mark.parametrize("name", CHECKS)
def test_a_page_tells_what_why_how_and_shows_it(name):
    text = CHECKS[name].explanation
    assert text.startswith(f"# {name}\n") and re.findall(r"^## (.*)$", text, re.MULTILINE) == SECTIONS
    assert len(text.split()) > 80 and "```" in text.partition("## Example")[2]


def test_no_page_is_nobodys():
    pages = ROOT / "packages" / "prime-core" / "prime_core" / "checks" / "pages"
    assert {page.stem for page in pages.glob("*.md")} == set(CHECKS)


def test_the_docs_are_as_script_check_pages_writes_them(script):
    written = {page.stem: page.read_text(encoding="utf-8") for page in (ROOT / "docs" / "checks").glob("*.md")}
    assert written == script.pages()
    page = (ROOT / "docs" / "checking.md").read_text(encoding="utf-8")
    assert page == script.with_table(page) and all(f"checks/{name}.md" in page for name in CHECKS)

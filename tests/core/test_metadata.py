"""pyproject.toml as the seed has it, and one clear sentence for each thing that forbids publishing."""

from __future__ import annotations

from pathlib import Path

import pytest

from prime_core.errors import PackagingError
from prime_core.metadata import check_environment, find_environment, module_name, read_metadata
from tests.core.support import make_environment, make_openenv, write_files

FULL = """\
[project]
name = "My-Env"
version = "1.2.0rc1"
description = " Clear, concise description "
tags = ["math", "reasoning", " train ", ""]
dependencies = ["verifiers>=0.1", "gymnasium; python_version > '3.8'"]
requires-python = ">=3.11"
license = { text = "MIT" }

[project.urls]
Homepage = "https://code.example/alice/my-env"

[tool.hatch.build]
include = ["my_env.py", "proj/.build.json"]

[tool.hatch.build.targets.wheel]
include = ["my_env.py", "data/**"]

[tool.verifiers.eval]
num_examples = 5
rollouts_per_example = 3
"""


def edit(folder: Path, old: str, new: str) -> Path:
    path = folder / "pyproject.toml"
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))
    return folder


def test_every_field(tmp_path: Path):
    write_files(tmp_path, {"pyproject.toml": FULL, "README.md": "#"})
    found = read_metadata(tmp_path)
    assert (found.name, found.normalized_name, found.module_name) == ("My-Env", "my-env", "my_env")
    assert (found.version, found.description) == ("1.2.0rc1", "Clear, concise description")
    assert found.tags == ["math", "reasoning", "train"]
    assert found.urls == {"Homepage": "https://code.example/alice/my-env"}
    assert found.dependencies == ["verifiers>=0.1", "gymnasium; python_version > '3.8'"]
    assert (found.requires_python, found.license) == (">=3.11", {"text": "MIT"})
    assert found.hatch_include == ["my_env.py", "proj/.build.json", "data/**"]
    assert found.eval_defaults == {"num_examples": 5, "rollouts_per_example": 3}
    assert found.readme_path == tmp_path / "README.md"


@pytest.mark.parametrize("name", ["my-env", "My.Env", "my__env", "MY_ENV"])
def test_the_module_of_a_name(name: str):
    assert module_name(name) == "my_env"


def test_a_good_environment_of_each_shape(tmp_path: Path):
    assert check_environment(make_environment(tmp_path)).name == "my-env"
    assert check_environment(make_openenv(tmp_path, "other")).module_name == "other"
    package = make_environment(
        tmp_path, "third", files={"third/__init__.py": "from third.core import load_environment"}
    )
    (package / "third.py").unlink()
    assert check_environment(package).name == "third"
    (package / "third").rename(package / "moved")
    write_files(package, {"src/third/__init__.py": "", "src/third/core.py": "async def load_environment(): ..."})
    assert check_environment(package).name == "third"


def test_a_missing_pyproject_says_what_the_seed_says(tmp_path: Path):
    with pytest.raises(PackagingError) as caught:
        check_environment(tmp_path)
    assert str(caught.value) == "No pyproject.toml found in environment directory"


def test_a_missing_readme(tmp_path: Path):
    folder = make_environment(tmp_path)
    (folder / "README.md").unlink()
    with pytest.raises(PackagingError, match=r"No README\.md found in environment directory\."):
        check_environment(folder)


def test_no_code(tmp_path: Path):
    folder = make_openenv(tmp_path)
    (folder / "my_env.py").unlink()
    with pytest.raises(PackagingError, match=r"No environment Python file found\.") as caught:
        check_environment(folder)
    assert "my_env.py with a load_environment function" in (caught.value.hint or "")


def test_no_load_environment(tmp_path: Path):
    folder = make_environment(tmp_path)
    (folder / "my_env.py").write_text("class load_environment_later:\n    def load_environment(self): ...\n")
    with pytest.raises(PackagingError, match=r"No load_environment function found in my_env\.py\."):
        check_environment(folder)


@pytest.mark.parametrize("source", ["load_environment = make(1)", "from other import build as load_environment"])
def test_load_environment_may_come_from_elsewhere(tmp_path: Path, source: str):
    folder = make_environment(tmp_path)
    (folder / "my_env.py").write_text(source)
    assert check_environment(folder).name == "my-env"


def test_a_syntax_error_is_never_published(tmp_path: Path):
    folder = make_environment(tmp_path, files={"zz_helper.py": "def broken(:\n"})
    with pytest.raises(PackagingError, match=r"zz_helper\.py, line 1: "):
        check_environment(folder)


@pytest.mark.parametrize(
    ("old", "new", "sentence"),
    [
        ("[project]", "[project", "is not valid TOML: "),
        ("[project]", "[other]", "pyproject.toml has no [project] table."),
        ('name = "my-env"', "", "pyproject.toml: [project].name must be a name of letters, digits"),
        ('name = "my-env"', 'name = "-my env"', "not '-my env'."),
        ('version = "0.1.0"', "", "pyproject.toml: [project].version is missing."),
        ('version = "0.1.0"', 'dynamic = ["version"]', "[project].version must be written there"),
        ('version = "0.1.0"', "version = 1", "[project].version 1 is not a version number (PEP 440)."),
        ('version = "0.1.0"', 'version = "one"', "[project].version 'one' is not a version number (PEP 440)."),
        ('"Made for a test"', "3", "[project].description must be a string."),
        ('"Made for a test"', '"  "', "pyproject.toml: [project].description is missing."),
        ('["games", "eval"]', '"games"', "[project].tags must be a list of strings, not 'games'."),
        ('["games", "eval"]', "[1]", "[project].tags must be a list of strings"),
        ("dependencies = []", 'dependencies = ["a b"]', "holds 'a b', which is not a requirement (PEP 508)."),
        ("dependencies = []", "requires-python = 3", "[project].requires-python 3 is not valid."),
        ("dependencies = []", 'requires-python = "three"', "[project].requires-python 'three' is not valid."),
        ("dependencies = []", 'urls = {Home = "code.example"}', "[project.urls].Home must be an http(s) address"),
        ("dependencies = []", 'urls = {Home = "javascript:alert(1)"}', "must be an http(s) address"),
        ("dependencies = []", "[tool]\nhatch = 1", "'hatch' must be a table."),
        ("dependencies = []", '[tool.hatch.build]\ninclude = "a"', "[tool.hatch.build].include must be a list"),
        ("dependencies = []", "[tool.verifiers.eval]\nnum_examples = 1.5", "[tool.verifiers.eval].num_examples"),
        ("dependencies = []", "[tool.verifiers.eval]\nrollouts_per_example = 0", "must be a whole number, not 0."),
    ],
)
def test_one_sentence_for_each_wrong_field(tmp_path: Path, old: str, new: str, sentence: str):
    with pytest.raises(PackagingError) as caught:
        check_environment(edit(make_environment(tmp_path), old, new))
    assert sentence in str(caught.value)
    assert "\n" not in str(caught.value)


def test_environments_are_found_by_id(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    folder = make_environment(tmp_path / "environments")
    assert find_environment("my-env") == Path("environments/my_env")
    assert find_environment("alice/my-env@0.1.0", tmp_path / "environments") == folder
    (tmp_path / "environments" / "with-dash").mkdir()
    assert find_environment("with-dash").name == "with-dash"
    with pytest.raises(PackagingError, match=r"Environment 'nope' not found at \./environments/nope\.") as caught:
        find_environment("nope")
    assert "prime env init nope" in (caught.value.hint or "")


@pytest.mark.parametrize("name", ["..", ".", ""])
def test_an_id_is_never_a_path(tmp_path: Path, name: str):
    (tmp_path / "_").mkdir()
    with pytest.raises(PackagingError, match="not found"):
        find_environment(name, tmp_path / "environments")

"""Wheels of environments: laid out so that two of them live in one place, and the same bytes for the same files."""

from __future__ import annotations

import os
import subprocess
import zipfile
from pathlib import Path

import pytest

from prime_core.errors import PackagingError
from prime_core.packaging import WheelFile, build_wheel, runtime_hint, sha256_of, wheel_metadata
from prime_core.uv import run_uv
from prime_core.wheel import editable_wheel, installed_paths
from tests.core.support import make_environment, make_openenv, make_wheel, write_files

HATCH = '\n[build-system]\nrequires = ["hatchling"]\nbuild-backend = "hatchling.build"\n'
INCLUDE = (
    '\n[tool.hatch.build]\ninclude = ["{module}.py", "pyproject.toml", "README.md", "proj/**/*", "proj/.build.json"]\n'
)


def contents(wheel: WheelFile) -> list[str]:
    return sorted(installed_paths(wheel.path))


def new_venv(folder: Path) -> Path:
    done = run_uv(["venv", "--quiet", str(folder)])
    assert done.returncode == 0, done.stderr
    return folder / "bin" / "python"


def install(python: Path, *wheels: WheelFile) -> None:
    done = run_uv(["pip", "install", "--offline", "--no-deps", "--python", str(python), *(str(w.path) for w in wheels)])
    assert done.returncode == 0, done.stderr


def run(python: Path, program: str) -> str:
    done = subprocess.run([str(python), "-I", "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.mark.parametrize("settings", ["", HATCH, INCLUDE + HATCH], ids=["bare", "hatchling", "include"])
def test_two_openenv_environments_live_in_one_place(tmp_path: Path, settings: str):
    wheels = []
    for name in ("one-env", "two-env"):
        more = settings.replace("{module}", name.replace("-", "_"))
        wheels.append(build_wheel(make_openenv(tmp_path, name, more=more), tmp_path / "dist"))
    python = new_venv(tmp_path / "venv")
    before = set(run(python, "import os, sysconfig; print(*os.listdir(sysconfig.get_path('purelib')))").split())
    install(python, *wheels)
    after = set(run(python, "import os, sysconfig; print(*os.listdir(sysconfig.get_path('purelib')))").split())
    assert after - before == {"one_env", "two_env", "one_env-0.1.0.dist-info", "two_env-0.1.0.dist-info"}
    for module in ("one_env", "two_env"):
        program = (
            f"import {module} as m; print(m.load_environment(), (m.HERE / 'proj' / 'server.py').read_text(), "
            "(m.HERE / 'proj' / '.build.json').read_text(), (m.HERE / 'pyproject.toml').exists())"
        )
        name = module.replace("_", "-")
        assert run(python, program).split("\n")[0] == f"{name} # the server of {name}"
        assert run(python, program).endswith('{"image": "x"}\n True')


def test_everything_of_the_project_is_in_the_wheel(tmp_path: Path):
    folder = make_openenv(tmp_path, more=HATCH)
    write_files(folder, {"proj/__pycache__/server.pyc": "x", "proj/assets/deep/a.bin": "a", ".env": "SECRET"})
    assert contents(build_wheel(folder, tmp_path / "dist")) == [
        "my_env/__init__.py",
        "my_env/proj/.build.json",
        "my_env/proj/Dockerfile",
        "my_env/proj/assets/deep/a.bin",
        "my_env/proj/requirements.txt",
        "my_env/proj/server.py",
        "my_env/pyproject.toml",
    ]


def test_what_the_metadata_says_is_unchanged(tmp_path: Path):
    more = 'requires-python = ">=3.11"\nreadme = "README.md"\nlicense = "MIT"\nlicense-files = ["LICENSE"]\n'
    more += 'urls = {Homepage = "https://code.example/x"}\nscripts = {my-tool = "my_env:load_environment"}\n'
    more += "[project.optional-dependencies]\ngpu = ['torch']\n" + INCLUDE.format(module="my_env") + HATCH
    folder = make_openenv(tmp_path, dependencies=("verifiers[openenv]>=0.1", "numpy<3"), more=more)
    (folder / "LICENSE").write_text("MIT License")
    wheel = build_wheel(folder, tmp_path / "dist")
    found = wheel.metadata
    assert (found["name"], found["version"], found["summary"]) == ("my-env", "0.1.0", "Made for a test")
    assert found["requires_dist"] == ["numpy<3", "verifiers[openenv]>=0.1", "torch; extra == 'gpu'"]
    assert (found["requires_python"], found["license"]) == (">=3.11", "MIT")
    assert (found["urls"], found["description"]) == ({"Homepage": "https://code.example/x"}, "# my-env")
    with zipfile.ZipFile(wheel.path) as archive:
        info = "my_env-0.1.0.dist-info/"
        assert "my-tool = my_env:load_environment" in archive.read(info + "entry_points.txt").decode()
        assert archive.read(info + "licenses/LICENSE") == b"MIT License"
        assert "games" not in archive.read(info + "METADATA").decode()
    assert (wheel.sha256, wheel.size) == (sha256_of(wheel.path), wheel.path.stat().st_size)


@pytest.mark.parametrize("shape", ["openenv", "module", "package"])
def test_the_same_files_give_the_same_bytes(tmp_path: Path, shape: str):
    wheels = []
    for base in ("one", "two"):
        make = make_openenv if shape == "openenv" else make_environment
        folder = make(tmp_path / base, more=HATCH)
        if shape == "package":
            write_files(folder, {"my_env/__init__.py": (folder / "my_env.py").read_text()})
            (folder / "my_env.py").unlink()
        os.utime(folder / "pyproject.toml", (1_000_000_000, 1_000_000_000))
        wheels.append(build_wheel(folder, tmp_path / base / "dist"))
    assert wheels[0].path.read_bytes() == wheels[1].path.read_bytes()
    assert wheels[0].path.name == wheels[1].path.name


def test_what_a_module_reads_and_imports_goes_along(tmp_path: Path):
    files = {
        "my_env.py": "import helper\nfrom tools import extra\n\n"
        "def load_environment():\n    return helper.NAME + extra.NAME\n",
        "helper.py": "import second\nNAME = second.NAME\n",
        "second.py": "NAME = 'ab'\n",
        "unused.py": "",
        "tools/__init__.py": "",
        "tools/extra.py": "NAME = 'c'\n",
        "prompts/system.txt": "Be brief.",
    }
    more = '\n[tool.hatch.build]\ninclude = ["my_env.py", "prompts/**"]\nexclude = ["*.bak"]\n' + HATCH
    wheel = build_wheel(make_environment(tmp_path, more=more, files=files), tmp_path / "dist")
    assert contents(wheel) == [
        "helper.py",
        "my_env/__init__.py",
        "my_env/prompts/system.txt",
        "my_env/pyproject.toml",
        "second.py",
        "tools/__init__.py",
        "tools/extra.py",
    ]
    python = new_venv(tmp_path / "venv")
    install(python, wheel)
    assert run(python, "import my_env; print(my_env.load_environment())") == "abc"


def test_a_package_keeps_its_authors_settings(tmp_path: Path):
    more = '\n[tool.hatch.build.targets.wheel]\npackages = ["src/my_env"]\n' + HATCH
    folder = make_environment(tmp_path, more=more, files={"src/my_env/__init__.py": "", "src/my_env/a.txt": "a"})
    (folder / "my_env.py").unlink()
    wheel = build_wheel(folder, tmp_path / "dist")
    assert contents(wheel) == ["my_env/__init__.py", "my_env/a.txt"]
    assert wheel.import_root == folder / "src"


def test_force_included_files_stay_where_the_author_put_them(tmp_path: Path):
    more = '\n[tool.hatch.build.targets.wheel.force-include]\n"extra.txt" = "my_env_data/extra.txt"\n' + HATCH
    folder = make_environment(tmp_path, more=more, files={"extra.txt": "e"})
    assert contents(build_wheel(folder, tmp_path / "dist")) == ["my_env.py", "my_env_data/extra.txt"]


def test_an_openenv_package_gets_its_project(tmp_path: Path):
    folder = make_openenv(tmp_path, more=HATCH)
    (folder / "my_env").mkdir()
    (folder / "my_env.py").rename(folder / "my_env" / "__init__.py")
    found = contents(build_wheel(folder, tmp_path / "dist"))
    assert "my_env/__init__.py" in found
    assert "my_env/proj/.build.json" in found
    assert {name.split("/")[0] for name in found} == {"my_env"}


def test_nothing_is_left_in_the_authors_folder(tmp_path: Path):
    folder = make_openenv(tmp_path, more=HATCH)
    before = sorted(path.relative_to(folder) for path in folder.rglob("*"))
    build_wheel(folder, tmp_path / "dist")
    assert sorted(path.relative_to(folder) for path in folder.rglob("*")) == before


def test_a_gitignore_further_up_changes_nothing(tmp_path: Path):
    (tmp_path / ".gitignore").write_text("proj/.build.json\n*.txt\n")
    (tmp_path / ".git").mkdir()
    found = contents(build_wheel(make_openenv(tmp_path, more=HATCH), tmp_path / "dist"))
    assert {"my_env/proj/.build.json", "my_env/proj/requirements.txt"} <= set(found)


@pytest.mark.parametrize("line", [".build.json", "proj/.build.json", "/proj/.*"])
@pytest.mark.parametrize(
    "settings", ["", '\n[tool.hatch.build.targets.wheel.force-include]\n"extra.txt" = "my_env/extra.txt"\n']
)
def test_a_gitignore_that_names_the_build_record(tmp_path: Path, settings: str, line: str):
    """The record goes along, whether we lay the wheel out or the author's own settings do."""
    if settings:
        settings += '[tool.hatch.build.targets.wheel]\npackages = ["my_env", "proj"]\n'
    folder = make_openenv(tmp_path, more=settings + HATCH)
    (folder / "extra.txt").write_text("e")
    (folder / "my_env").mkdir()
    (folder / "my_env.py").rename(folder / "my_env" / "__init__.py")
    (folder / ".gitignore").write_text(f"{line}\n")
    found = contents(build_wheel(folder, tmp_path / "dist"))
    assert ("proj/.build.json" if settings else "my_env/proj/.build.json") in found


def test_openenv_code_under_another_name(tmp_path: Path):
    folder = make_openenv(tmp_path)
    (folder / "my_env.py").rename(folder / "environment.py")
    with pytest.raises(PackagingError, match=r"needs its code in my_env\.py or my_env/__init__\.py"):
        build_wheel(folder, tmp_path / "dist")


def test_a_build_that_fails_says_why(tmp_path: Path):
    folder = make_environment(tmp_path, more='readme = "MISSING.md"\n' + HATCH)
    with pytest.raises(PackagingError, match=r"The wheel of 'my-env' could not be built: .*MISSING\.md"):
        build_wheel(folder, tmp_path / "dist")
    assert not (tmp_path / "dist").exists()


def test_no_key_reaches_a_build(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("OPENAI_API_KEY", "very-secret")
    hook = (
        "import os\nfrom hatchling.builders.hooks.plugin.interface import BuildHookInterface\n"
        "class Hook(BuildHookInterface):\n    PLUGIN_NAME = 'custom'\n    def initialize(self, version, build_data):\n"
        "        raise SystemExit('seen: ' + os.environ.get('OPENAI_API_KEY', 'nothing'))\n"
    )
    more = '\n[tool.hatch.build.hooks.custom]\npath = "hook.py"\n' + HATCH
    folder = make_environment(tmp_path, more=more, files={"hook.py": hook})
    with pytest.raises(PackagingError, match="seen: nothing"):
        build_wheel(folder, tmp_path / "dist")


@pytest.mark.index
def test_another_build_backend_is_fetched(tmp_path: Path):
    more = '\n[build-system]\nrequires = ["setuptools>=70"]\nbuild-backend = "setuptools.build_meta"\n'
    folder = make_environment(tmp_path, more=more + '[tool.setuptools]\npy-modules = ["my_env"]\n')
    assert contents(build_wheel(folder, tmp_path / "dist")) == ["my_env.py"]
    assert sorted(path.name for path in folder.iterdir()) == ["README.md", "my_env.py", "pyproject.toml"]


def test_an_editable_wheel_points_at_the_folder(tmp_path: Path):
    folder = make_openenv(tmp_path, more=HATCH, dependencies=("numpy",))
    full = build_wheel(folder, tmp_path / "dist")
    wheel = editable_wheel(full, tmp_path / "editable")
    assert wheel.metadata == full.metadata
    python = new_venv(tmp_path / "venv")
    install(python, wheel)
    (folder / "my_env.py").write_text("def load_environment():\n    return 'changed'\n")
    assert run(python, "import my_env; print(my_env.load_environment(), my_env.__file__)").startswith(
        "changed " + str(folder)
    )


@pytest.mark.parametrize(
    ("lines", "hint"),
    [
        (["verifiers>=0.1"], "VERIFIERS_V0"),
        (["numpy", "Verifiers[openenv]>=0.2.0,<0.3"], "VERIFIERS_V1"),
        (["verifiers==0.1.14"], "VERIFIERS_V0"),
        (["verifiers~=0.3"], "VERIFIERS_V1"),
        (["verifiers<0.2"], "VERIFIERS_V0"),
        (["verifiers"], None),
        (["verifiers @ https://code.example/v.whl"], None),
        (["numpy"], None),
        ([], None),
    ],
)
def test_the_runtime_hint(lines: list[str], hint: str | None):
    assert runtime_hint(lines) == hint


def test_a_file_that_is_no_wheel(tmp_path: Path):
    for name, wrong in (("a.whl", "is not a wheel's file name"), ("a-1-py3-none-any.whl", "is not a wheel: ")):
        (tmp_path / name).write_text("x")
        with pytest.raises(PackagingError, match=wrong):
            wheel_metadata(tmp_path / name)


def test_a_wheel_that_is_another_inside(tmp_path: Path):
    path = make_wheel(tmp_path, "numpy", "1.0").rename(tmp_path / "my_env-0.1.0-py3-none-any.whl")
    with pytest.raises(PackagingError, match=r"says inside that it is numpy 1\.0"):
        wheel_metadata(path)

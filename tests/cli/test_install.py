"""`prime env install`: into a clean virtual environment, from a folder and from a Hub."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli.folders import write_environment, write_openenv


@pytest.fixture
def venv(tmp_path) -> Path:
    """A clean virtual environment: a standard library and nothing else."""
    folder = tmp_path / "venv"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True)
    return folder


def ask(venv: Path, code: str) -> str:
    """What a line of Python prints in that virtual environment."""
    done = subprocess.run([venv / "bin" / "python", "-I", "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_from_the_hub(author, module_hub, venv):
    for version in ("0.1.0", "0.2.0"):
        write_environment(author.cwd / "environments", version=version)
        author.ok("env", "push", "my-env")
    user = author.user("user", PRIME_API_BASE_URL=module_hub.url)  # a public one needs no login
    name = f"{author.name}/my-env"
    done = user("env", "install", f"{name}@0.1.0", "--python", venv)
    assert done.returncode == 0, done.stderr
    assert done.stdout == f"✓ Successfully installed {name}@0.1.0\n"
    assert done.stderr == f"Installing into {venv / 'bin' / 'python'}\n  + my-env 0.1.0\n"
    assert ask(venv, "import my_env; print(my_env.VERSION)") == "0.1.0"
    # Without a version the newest, also over an older one.
    done = user("env", "install", name, "--python", venv / "bin" / "python")
    assert done.stdout == f"✓ Successfully installed {name}@0.2.0\n"
    assert "  ~ my-env 0.1.0 → 0.2.0\n" in done.stderr
    assert ask(venv, "import my_env; print(my_env.VERSION)") == "0.2.0"
    assert "  nothing to change\n" in user("env", "install", name, "--python", venv).stderr


def test_pip_installs_too(author, venv):
    """What pip does otherwise is in tests/core/test_installing.py; here, that --with reaches it."""
    write_environment(author.cwd / "environments")
    author.ok("env", "push", "my-env")
    author.ok("env", "install", f"{author.name}/my-env", "--python", venv, "--with", "pip")
    code = "import importlib.metadata as m; print(m.distribution('my-env').read_text('INSTALLER').strip())"
    assert ask(venv, code) == "pip"


def test_two_openenv_environments_side_by_side(author, venv):
    manifest = '{"image": "x:latest", "port": 8000, "start_command": "uvicorn server:app", "contract": "gym"}'
    names = ["first-game", "second-game"]
    for name in names:
        folder = write_openenv(author.cwd / "environments", name)
        (folder / "proj" / "name.txt").write_text(name)
        (folder / "proj" / ".build.json").write_text(manifest)
        author.ok("env", "push", name, "--no-build")
    author.ok("env", "install", *(f"{author.name}/{name}" for name in names), VIRTUAL_ENV=str(venv))
    for name in names:
        module = name.replace("-", "_")
        code = f"import {module}, pathlib; proj = pathlib.Path({module}.__file__).parent / 'proj'"
        assert ask(venv, f"{code}; print((proj / 'name.txt').read_text())") == name
        assert ask(venv, f"{code}; print((proj / '.build.json').read_text())") == manifest


def test_a_private_environment_needs_its_owners_key(author, module_hub, venv):
    write_environment(author.cwd / "environments")
    author.ok("env", "push", "my-env", "-v", "PRIVATE")
    name = f"{author.name}/my-env"
    stranger = author.user("stranger", PRIME_API_BASE_URL=module_hub.url)
    assert f"There is no environment '{name}'" in stranger.fails("env", "install", name, "--python", venv)
    author.ok("env", "install", name, "--python", venv)
    assert ask(venv, "import my_env; print(my_env.VERSION)") == "0.1.0"


def test_from_a_folder(prime, venv):
    folder = write_environment(prime.cwd / "environments")
    done = prime("env", "install", "my-env", "--python", venv)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "✓ Successfully installed my-env 0.1.0 from environments/my_env\n"
    assert ask(venv, "import my_env; print(my_env.VERSION)") == "0.1.0"
    # What is changed there counts at once.
    (folder / "my_env.py").write_text("VERSION = 'edited'\n\n\ndef load_environment():\n    return 1\n")
    assert ask(venv, "import my_env; print(my_env.VERSION)") == "edited"


def test_from_another_folder(prime, venv):
    write_environment(prime.cwd / "mine")
    prime.ok("env", "install", "my-env", "-p", "mine", "--python", venv)
    assert ask(venv, "import my_env; print(my_env.VERSION)") == "0.1.0"


@pytest.mark.parametrize("named", ["VIRTUAL_ENV", "UV_PROJECT_ENVIRONMENT", ".venv"])
def test_which_interpreter(prime, venv, named):
    write_environment(prime.cwd / "environments")
    env = {} if named == ".venv" else {named: str(venv)}
    if named == ".venv":
        venv.rename(prime.cwd / ".venv")
        venv = prime.cwd / ".venv"
    deeper = prime.cwd / "deeper"
    deeper.mkdir()
    prime.ok("env", "install", "my-env", "-p", prime.cwd / "environments", cwd=deeper, **env)
    assert ask(venv, "import my_env; print(my_env.VERSION)") == "0.1.0"


def test_nothing_is_installed_when_one_of_them_is_not_there(author, venv):
    write_environment(author.cwd / "environments")
    author.ok("env", "push", "my-env")
    for wrong in ("nothing", f"{author.name}/nothing", "a/b/c"):
        error = author.fails("env", "install", f"{author.name}/my-env", wrong, "--python", venv)
        assert error.splitlines()[-2].startswith("Error: ")
    assert ask(venv, "import importlib.util; print(importlib.util.find_spec('my_env'))") == "None"


def test_an_interpreter_that_is_not_there(prime):
    write_environment(prime.cwd / "environments")
    assert "There is no Python at --python nowhere" in prime.fails("env", "install", "my-env", "--python", "nowhere")


@pytest.mark.index
@pytest.mark.slow
@pytest.mark.timeout(300)
def test_verifiers_comes_along_from_the_hub(author, module_hub, venv):
    """An environment that needs verifiers gets the one the Hub serves; then it can be evaluated there.

    With pip the same wheels are installed in tests/core/test_installing.py.
    """
    folder = author.cwd / "environments" / "echo_env"
    folder.mkdir()
    (folder / "echo_env.py").write_text(
        "import verifiers as vf\n\n\ndef load_environment():\n"
        "    rows = [{'question': 'a', 'answer': 'a'}]\n"
        "    return vf.SingleTurnEnv(dataset=rows, rubric=vf.Rubric(funcs=[]))\n"
    )
    (folder / "README.md").write_text("# echo-env\n")
    (folder / "pyproject.toml").write_text(
        '[project]\nname = "echo-env"\nversion = "0.1.0"\ndescription = "Say it again."\n'
        'dependencies = ["verifiers>=0.1.10"]\n'
    )
    author.ok("env", "push", "echo-env")
    served = module_hub.api.get("/distributions").json()["distributions"]
    ours = {row["name"]: row["version"] for row in served}
    done = author("env", "install", f"{author.name}/echo-env", "--python", venv)
    assert done.returncode == 0, done.stderr
    assert f"  + verifiers {ours['verifiers']}\n" in done.stderr
    code = "import importlib.metadata as m; print(m.distribution('verifiers').read_text('direct_url.json'))"
    assert "sha256" in ask(venv, code)
    done = author("eval", "run", "echo-env", "-m", "baseline/echo", "-n", "1", "--no-save", VIRTUAL_ENV=str(venv))
    assert done.returncode == 0, done.stderr


def test_a_version_of_a_folder_is_not_silently_another(prime, venv):
    write_environment(prime.cwd / "environments")
    error = prime.fails("env", "install", "my-env@9.9", "--python", venv)
    assert error.startswith("Error: 'my-env@9.9' asks for a version, and only those of the Hub have several.\n")
    assert "prime env install OWNER/my-env@9.9" in error


def test_a_copy_of_a_folder_gives_way_to_the_published_one_and_back(author, venv):
    folder = write_environment(author.cwd / "environments").absolute()
    author.ok("env", "push", "my-env")
    name = f"{author.name}/my-env"
    author.ok("env", "install", "my-env", "--python", venv)
    done = author("env", "install", name, "--python", venv)
    assert f"  ~ my-env 0.1.0 (from {folder}) → 0.1.0 (from the Hub)\n" in done.stderr
    done = author("env", "install", "my-env", "--python", venv)
    assert f"  ~ my-env 0.1.0 (another copy) → 0.1.0 (from {folder})\n" in done.stderr


def test_uninstalling(author, venv):
    write_environment(author.cwd / "environments")
    author.ok("env", "push", "my-env")
    author.ok("env", "install", f"{author.name}/my-env", "--python", venv)
    done = author("env", "uninstall", f"{author.name}/my-env", "--python", venv)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "✓ Successfully uninstalled my-env 0.1.0\n"
    assert done.stderr == f"Removing from {venv / 'bin' / 'python'}\n  - my-env 0.1.0 → removed\n"
    assert ask(venv, "import importlib.util; print(importlib.util.find_spec('my_env'))") == "None"
    error = author.fails("env", "uninstall", "my-env", "--python", venv, "--with", "pip")
    assert f"Error: my-env is not installed in {venv}; nothing was removed.\n" in error


def test_versions_by_option(author, venv):
    for version in ("0.1.0", "0.2.0", "0.3.0rc1"):
        write_environment(author.cwd / "environments", version=version)
        author.ok("env", "push", "my-env")
    name = f"{author.name}/my-env"
    assert "@0.1.0" in author.ok("env", "install", f"{name}@0.1.0", "--python", venv)
    assert "@0.1.0" in author.ok("env", "install", name, "--python", venv, "--no-upgrade")
    assert "@0.3.0rc1" in author.ok("env", "install", name, "--python", venv, "--prerelease")
    assert "@0.2.0" in author.ok("env", "install", name, "--python", venv)
    assert "only one of" in author.fails("env", "install", name, "--upgrade", "--no-upgrade", code=2)
    author.ok("env", "yank", f"{name}@0.2.0", "--reason", "counts wrong")
    assert "@0.1.0" in author.ok("env", "install", name, "--python", venv)
    done = author("env", "install", f"{name}@0.2.0", "--python", venv)
    assert f"Warning: {name} 0.2.0 was yanked: counts wrong\n" in done.stderr and "@0.2.0" in done.stdout


def test_a_private_one_of_a_team(author, module_hub, venv):
    member, stranger = (f"{word}-{author.name}" for word in ("m", "s"))
    keys = {name: module_hub.add_user(name) for name in (member, stranger)}
    team = f"t-{author.name}"
    author.ok("teams", "create", team)
    author.ok("teams", "add", team, member)
    write_environment(author.cwd / "environments")
    author.ok("env", "push", "my-env", "--team", team, "-v", "PRIVATE")
    users = {name: author.user(name, PRIME_API_BASE_URL=module_hub.url, PRIME_API_KEY=keys[name]) for name in keys}
    users[member].ok("env", "pull", f"{team}/my-env")
    users[member].ok("env", "install", f"{team}/my-env", "--python", venv)
    for words in (("pull", f"{team}/my-env"), ("install", f"{team}/my-env", "--python", str(venv))):
        error = users[stranger].fails("env", *words)
        assert f"There is no environment '{team}/my-env'" in error

"""`prime env push` by four at once, and cut off at each request: one is published, whole, or nothing is."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from tests.cli.conftest import PRIME
from tests.cli.folders import tree, write_environment
from tests.official.cutting import STEPS, CuttingProxy

SEED = "Error: Version 0.1.0 already exists"


@pytest.mark.timeout(300)
def test_of_four_commands_at_once_one_publishes(author):
    folders = []
    for number in range(4):
        folder = write_environment(author.cwd / f"copy-{number}")
        (folder / "number.py").write_text(f"NUMBER = {number}\n")
        folders.append(folder)
    started = [
        subprocess.Popen(
            [PRIME, "env", "push", "my-env", "-p", folder.parent],
            cwd=author.cwd,
            env=author.environment(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for folder in folders
    ]
    ended = [(process, *process.communicate(timeout=280)) for process in started]
    won = [number for number, (process, _, _) in enumerate(ended) if process.returncode == 0]
    assert len(won) == 1, [(process.returncode, said) for process, _, said in ended]
    assert "Successfully published my-env v0.1.0\n" in ended[won[0]][1]
    for number, (process, out, said) in enumerate(ended):
        if number not in won:
            assert process.returncode == 1 and "Successfully" not in out
            assert said.splitlines()[0] == SEED, said
    author.ok("env", "pull", f"{author.name}/my-env", "-t", "pulled")
    pulled = tree(author.cwd / "pulled")
    assert pulled["number.py"] == f"NUMBER = {won[0]}\n".encode()
    mine = tree(folders[won[0]])
    assert pulled == {name: mine[name] for name in pulled}


ASKED = {"check": rb"POST /api/v1/environmentshub/check", **STEPS}


HEARD = ["wheel-put", "wheel-finalize", "version-put", "version-finalize"]


@pytest.mark.parametrize(
    ("step", "answer"), [*((step, "before") for step in ASKED), *((step, "after") for step in HEARD)]
)
def test_a_push_that_is_cut_off_is_repeated(author, module_hub, step: str, answer: str):
    write_environment(author.cwd / "environments")
    name = f"{author.name}/my-env"
    with CuttingProxy(int(module_hub.url.rpartition(":")[2]), ASKED[step], after=answer == "after") as proxy:
        said = author.fails("env", "push", "my-env", PRIME_API_BASE_URL=proxy.url, PRIME_API_KEY=_key(author.home))
        assert proxy.cut.is_set() and said.startswith("Error: ")
    published = (step, answer) == ("version-finalize", "after")
    rows = json.loads(author.ok("env", "list", "--mine", "--output", "json"))["environments"]
    assert [row["version"] for row in rows] == (["0.1.0"] if published else [])
    if published:
        assert author.fails("env", "push", "my-env").splitlines()[0] == SEED
    else:
        assert author.fails("env", "info", name).startswith("Error: There is no environment")
        author.ok("env", "push", "my-env")
    author.ok("env", "pull", name, "-t", "pulled")
    assert (author.cwd / "pulled" / "my_env.py").is_file()


def _key(home: Path) -> str:
    return json.loads((home / ".prime" / "config.json").read_text())["api_key"]

"""`prime env init`: what it makes can be run, published and installed as it is."""

from __future__ import annotations

import json

import pytest


@pytest.mark.parametrize("options", [(), ("--multi-file",)])
def test_a_new_environment_runs_as_generated(prime, options):
    done = prime("env", "init", "my-env", *options)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "✓ Created environments/my_env\n"
    assert "  prime env install my-env\n" in done.stderr
    assert "  prime env push my-env\n" in done.stderr
    assert "vf-build" not in done.stderr
    done = prime("eval", "run", "my-env", "-m", "baseline/random", "-n", "2", "-o", "results", "--output", "json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["num_examples"] == 2


def test_a_new_environment_is_fit_to_be_published(author):
    author.ok("env", "init", "my-env")
    assert "Successfully published my-env v0.1.0" in author.ok("env", "push", "my-env")
    author.ok("env", "init", "my-game", "--openenv")
    error = author.fails("env", "push", "my-game", "--no-build")
    assert error.startswith("Error: OpenEnv environment requires .build.json. Run 'vf-build' first.")


def test_an_openenv_environment_has_its_project(prime):
    done = prime("env", "init", "my-game", "--openenv", "-p", "elsewhere")
    assert done.stdout == "✓ Created elsewhere/my_game\n"
    assert "  vf-build my-game -p elsewhere\n" in done.stderr
    assert (prime.cwd / "elsewhere" / "my_game" / "proj").is_dir()


@pytest.mark.parametrize("name", ["my_game", "My-Game"])
def test_the_next_steps_name_it_as_the_commands_take_it(prime, name):
    steps = prime("env", "init", name, "--openenv").stderr.splitlines()
    assert "  vf-build my-game" in steps and "  prime eval run my-game -m baseline/random -n 5" in steps


def test_what_is_there_stays(prime):
    prime.ok("env", "init", "my-env")
    readme = prime.cwd / "environments" / "my_env" / "README.md"
    readme.write_text("my own words\n")
    again = prime("env", "init", "my-env")
    assert (again.returncode, again.stdout) == (0, "")
    assert "already exists" in again.stderr
    assert again.stderr.endswith("environments/my_env is there already; nothing was written.\n")
    assert readme.read_text() == "my own words\n"
    readme.unlink()
    assert prime.ok("env", "init", "my-env") == "✓ Completed environments/my_env\n"


def test_a_name_that_cannot_be_one(prime):
    assert "cannot be an environment's name" in prime.fails("env", "init", "../up")

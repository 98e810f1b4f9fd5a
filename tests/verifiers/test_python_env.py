"""A Python session in a sandbox, on a real Hub: what lasts, what is shown, what happens when it breaks."""

from __future__ import annotations

import zipfile

import pytest

import verifiers as vf
from prime_sandboxes import ImageClient, SandboxClient
from tests.support.scripted import Scripted, said
from verifiers.envs.python_env import PythonWorkerDeadError, PythonWorkerNotReadyError

ROWS = [{"question": "q"}]
LIMIT = 1 << 20


@pytest.fixture(autouse=True)
def on_the_hub(module_hub, monkeypatch):
    module_hub.wait_for_runner()
    for name in ("PRIME_API_BASE_URL", "PRIME_FRONTEND_URL", "PRIME_API_KEY"):
        monkeypatch.setenv(name, module_hub.environment()[name])
    yield
    with SandboxClient() as client:
        assert client.list(exclude_terminated=True).sandboxes == []


async def run(*codes, **options):
    """What came of each code, and the output row."""
    rows = options.pop("rows", ROWS)
    env = vf.PythonEnv(dataset=rows, **{"pip_install_packages": "", **options})
    turns = [code if callable(code) else [("python", {"code": code})] for code in codes]
    async with env:
        output = (await env.generate(rows, Scripted(*turns), "scripted", state_columns=["python_state"]))["outputs"][0]
    return said(output), output


async def test_a_session_lasts_and_its_last_expression_is_shown():
    answers, output = await run(
        "import math\nx = 6",
        "print('six is', x)\nx * 7",
        "_ + 1",
        "def root(n):\n    return math.sqrt(n)\nroot(x * 6); None",
        "class Point:\n    pass\nimport pickle\ntype(pickle.loads(pickle.dumps(Point()))).__name__",
    )
    assert answers == ["(no output)", "six is 6\nOut[2]: 42", "Out[3]: 43", "(no output)", "Out[5]: 'Point'"]
    assert output["python_calls"] == 5.0 and output["python_state"]["execution_count"] == 5
    assert output["python_ready_wait_time"] == output["python_state"]["ready_wait_time"] > 0
    assert output["stop_condition"] == "no_tools_called" and "bash_calls" not in output


async def test_errors_are_tracebacks_of_the_models_own_code():
    answers, output = await run(
        "import sys\nprint('before', file=sys.stderr)\nprint(1)\n1 / 0",
        "def f(:\n    pass",
        "exit()",
        "input()",
        "'still ' + 'there'",
    )
    assert answers[0] == (
        "1\nstderr:\nbefore\nTraceback (most recent call last):\n"
        '  File "<python 1>", line 4, in <module>\n    1 / 0\n    ~~^~~\nZeroDivisionError: division by zero'
    )
    assert "SyntaxError" in answers[1] and "<python 2>" in answers[1] and "python_worker" not in answers[1]
    assert answers[2].splitlines()[-1].startswith("SystemExit") and answers[3].endswith(
        "EOFError: EOF when reading a line"
    )
    assert answers[4] == "Out[5]: 'still there'" and output["error"] is None


async def test_what_subprocesses_and_forks_print_is_shown_once():
    answers, _ = await run(
        "import os, subprocess\nprint('one')\n_ = subprocess.run('echo two; echo three >&2', shell=True)",
        "child = os.fork()\nif child == 0:\n    print('child', flush=True)\n"
        "else:\n    ended = os.waitpid(child, 0)\n    print('parent')",
        "print('next')",
    )
    assert answers == ["one\ntwo\nstderr:\nthree", "child\nparent", "next"]


async def test_endless_output_is_cut_and_hanging_code_ended():
    answers, output = await run(
        "x = 1\nprint('y' * 3_000_000)",
        "'z' * 3_000_000",
        "while True:\n    print('on and on')",
        "x",
        timeout_per_command_seconds=2,
    )
    assert answers[0] == "y" * LIMIT + f"\n[{3_000_001 - LIMIT} more left out]"
    assert answers[1].startswith("Out[2]: 'zzz") and answers[1].endswith("more left out]")
    lost = "Its variables are lost; the next call has a new session."
    assert answers[2] == f"Error: Code execution timed out after 2s. {lost}"
    assert answers[3].endswith("NameError: name 'x' is not defined") and "<python 4>" in answers[3]
    assert output["error"] is None and output["python_state"]["ready"]


async def test_a_process_that_ends_itself_is_told_and_replaced():
    answers, output = await run(
        "import os\nos._exit(3)", "os", "import signal; os = __import__('os'); os.kill(os.getpid(), 9)"
    )
    lost = "Its variables are lost; the next call has a new session."
    assert answers[0] == f"Error: The Python process ended with exit code 3. {lost}"
    assert answers[1].endswith("NameError: name 'os' is not defined")
    assert answers[2] == f"Error: The Python process ended with exit code 137. {lost}"
    assert output["error"] is None and output["reward"] == 0.0


async def test_a_sandbox_that_ends_is_nobodys_fault():
    def end(prompt):
        with SandboxClient() as client:
            [sandbox] = client.list(exclude_terminated=True).sandboxes
            client.delete(sandbox.id)
        return [("python", {"code": "1"})]

    answers, output = await run("1", end)
    assert answers == ["Out[1]: 1"] and output["reward"] is None
    assert output["error"]["error"] == PythonWorkerDeadError.__name__


async def test_a_session_that_does_not_start_in_time_says_so():
    answers, output = await run("1", max_startup_wait_seconds=0)
    assert answers == [] and output["error"]["error"] == PythonWorkerNotReadyError.__name__
    assert output["error"]["message"].endswith("was not ready after 0 s (max_startup_wait_seconds).")


async def test_after_a_session_that_did_not_start_the_next_call_has_another():
    env = vf.PythonEnv(pip_install_packages="", max_startup_wait_seconds=0, stop_errors=[], dataset=[{"question": "q"}])

    def patiently(prompt):
        env.max_startup_wait_seconds = 120
        return [("python", {"code": "6 * 7"})]

    async with env:
        output = (await env.generate(env.get_dataset(), Scripted([("python", {"code": "1"})], patiently), "m"))[
            "outputs"
        ][0]
    late, answer = said(output)
    assert late.endswith("was not ready after 0 s (max_startup_wait_seconds).") and answer == "Out[1]: 42"


@pytest.mark.index
async def test_packages_of_a_base_image_are_installed_once_for_all():
    rows = [{"question": str(number)} for number in range(3)]
    answers, _ = await run("import six\nsix.__name__", pip_install_packages="'six>=1.16' idna", rows=rows)
    assert answers == ["Out[1]: 'six'"]
    with ImageClient() as images:
        made = [image for image in images.list() if image.image_name == "python-env"]
    assert len(made) == 1 and made[0].image_tag.startswith("3.11-slim-")


async def test_packages_for_another_image_go_into_its_sandbox(tmp_path):
    with zipfile.ZipFile(tmp_path / "thing-1.0-py3-none-any.whl", "w") as wheel:
        wheel.writestr("thing.py", "SIZE = 7\n")
        wheel.writestr("thing-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: thing\nVersion: 1.0\n")
        wheel.writestr("thing-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        wheel.writestr("thing-1.0.dist-info/RECORD", "")
    (tmp_path / "Dockerfile").write_text("FROM python:3.11-slim\nWORKDIR /app\nCOPY *.whl ./\n")
    with ImageClient() as images:
        assert images.build("mine", "latest", tmp_path).status == "COMPLETED"
    packages = "--no-index ./thing-1.0-py3-none-any.whl"
    answers, output = await run("import thing\nthing.SIZE", pip_install_packages=packages, docker_image="mine:latest")
    assert answers == ["Out[1]: 7"], output["error"]
    answers, output = await run("1", pip_install_packages="--no-index six==99", docker_image="mine:latest")
    assert answers == [] and output["error"]["error"] == PythonWorkerNotReadyError.__name__
    assert "six==99 could not be installed in sandbox" in output["error"]["message"]
    assert "No matching distribution found" in output["error"]["message"]
    assert 'and pass pip_install_packages="".' in output["error"]["message"]


@pytest.mark.index
async def test_packages_that_cannot_be_had_are_a_sentence():
    _, output = await run("1", pip_install_packages="six==99999")
    assert output["error"]["error"] == "SandboxCreationError" and output["reward"] is None
    assert "could not be made on the Hub (status=failed)." in output["error"]["message"]

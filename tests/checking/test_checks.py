"""The checks that no broken environment of the eighteen is about: each finds its mistake, in one small change of the sound one."""

from __future__ import annotations

import json
import shutil
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from prime_core.manifest import Manifest
from tests.checking.conftest import BASE, Programs
from tests.conftest import ROOT
from tests.openenv.conftest import server_text
from verifiers.checking import CHECKS, Limits, Target, of_folder, run

PLAIN = Path(__file__).parent / "plain"
LIMITS = Limits(
    startup=20.0,
    elsewhere=1.0,
    request=3.0,
    steps=8,
    long_steps=30,
    long_seconds=4.0,
    oversize=2**20,
    sessions=4,
    load=30.0,
)
Edits = dict[str, tuple[str, str] | str]


def edited(folder: Path, edits: Edits) -> Path:
    """Change files: (old, new) replaces the one place there is, a text alone is added at the end of the file."""
    for name, edit in edits.items():
        path = folder / name
        text = path.read_text() if path.exists() else ""
        if isinstance(edit, tuple):
            assert text.count(edit[0]) == 1, (name, edit)
            path.write_text(text.replace(*edit))
        else:
            path.write_text(text + edit)
    return folder


def changed_game(body: str) -> Edits:
    indented = "\n".join(f"    {line}" if line else "" for line in body.strip("\n").splitlines())
    return {"proj/game.py": f"\n\nimport os\n\n\nclass Sound(Game):\n    pass\n\n\nclass Game(Sound):\n{indented}\n"}


FOLDERS: list[tuple[str, str, Edits]] = [
    ("metadata-invalid", "fail", {"pyproject.toml": ('version = "0.1.0"', 'version = "one"')}),
    ("metadata-invalid", "fail", {"pyproject.toml": ('description = "Guess a digit in four guesses."\n', "")}),
    ("version-not-semantic", "warn", {"pyproject.toml": ('version = "0.1.0"', 'version = "0.1"')}),
    ("version-mismatch", "fail", {"proj/openenv.yaml": "version: 0.3.0\n"}),
    (
        "tags-missing",
        "warn",
        {"pyproject.toml": ('tags = ["games", "multi-turn", "easy", "openenv", "train", "eval"]', "")},
    ),
    ("readme-missing", "fail", {"README.md": ((PLAIN / "README.md").read_text(), "# guess\n")}),
    ("example-missing", "warn", {"README.md": ("prime eval run guess -m", "run it with -m")}),
    ("entry-missing", "fail", {"guess.py": ("def load_environment(", "def load(")}),
    ("entry-missing", "fail", {"guess.py": "def broken(:\n"}),
    (
        "arguments-undocumented",
        "warn",
        {"guess.py": ("num_eval_examples: int = 20", "num_eval_examples: int = 20, wide: int = 2")},
    ),
    ("dependencies-unbounded", "warn", {"proj/requirements.txt": "numpy\n"}),
    (
        "lock-outdated",
        "warn",
        {
            "uv.lock": 'version = 1\n\n[[package]]\nname = "verifiers"\nversion = "0.1.100"\n',
        },
    ),
]


@pytest.mark.parametrize(
    ("name", "outcome", "edits"), FOLDERS, ids=lambda value: value if isinstance(value, str) else ""
)
async def test_what_the_files_tell(name, outcome, edits, made):
    report = await run(of_folder(edited(made(BASE), edits), quick=True), quick=True)
    assert report.ids("fail", "warn") == {name} and report.results[name].verdict.outcome == outcome


async def test_a_lock_with_everything_is_fine(made):
    packages = "".join(f'[[package]]\nname = "{name}"\nversion = "1"\n\n' for name in ("verifiers", "prime-sandboxes"))
    report = await run(of_folder(edited(made(BASE), {"uv.lock": packages}), quick=True), quick=True)
    assert "lock-outdated" in report.ids("pass")


NEVER_DONE = (
    "def step(self, action):\n    observation, reward, _ = super().step(action)\n    return observation, reward, False"
)
SERVERS: list[tuple[str, str, Edits]] = [
    ("server-not-healthy", "fail", {"proj/game.py": "\nimport a_module_that_nobody_has\n"}),
    ("loopback-only", "fail", {"proj/Dockerfile": ("0.0.0.0", "127.0.0.1")}),
    ("schema-invalid", "fail", {"proj/game.py": '\nACTION_SCHEMA = {"type": "objekt"}\n'}),
    (
        "schema-invalid",
        "fail",
        {"proj/game.py": '\nACTION_SCHEMA["properties"]["guess"] = {"type": "integer", "minimum": 3, "maximum": 2}\n'},
    ),
    (
        "observation-unlike-schema",
        "warn",
        changed_game("""
def step(self, action):
    observation, reward, done = super().step(action)
    return {**observation, "left": "some"}, reward, done
"""),
    ),
    (
        "session-lost",
        "fail",
        changed_game("""
def step(self, action):
    if self.left == 3:
        os._exit(9)
    return super().step(action)
"""),
    ),
    (
        "action-errors",
        "warn",
        changed_game("""
def step(self, action):
    if action.guess == 0:
        raise RuntimeError("nought is not allowed")
    return super().step(action)
"""),
    ),
    ("seeds-alike", "warn", changed_game("def reset(self, seed):\n    return super().reset(7)")),
    (
        "reset-leaks",
        "fail",
        changed_game("""
def reset(self, seed):
    before = getattr(self, "left", 4)
    observation = super().reset(seed)
    return {**observation, "left": before}
"""),
    ),
    (
        "step-after-done",
        "fail",
        {
            **changed_game("""
def step(self, action):
    if self.left == 0:
        os._exit(9)
    observation, reward, done = super().step(action)
    self.left = 0 if done else self.left
    return observation, reward, done
"""),
            "proj/server.py": ("if not self.playing:", "if self.playing is None:"),
        },
    ),
    ("step-after-done", "warn", {"proj/server.py": ("if not self.playing:", "if self.playing is None:")}),
    ("episode-endless", "warn", {**changed_game(NEVER_DONE), "guess.py": ("max_turns=6", "max_turns=-1")}),
    (
        "session-cut",
        "fail",
        {
            "proj/server.py": (
                "    except WebSocketDisconnect:\n        pass\n",
                "    except WebSocketDisconnect:\n        __import__('os')._exit(5)\n",
            )
        },
    ),
    ("reward-out-of-range", "fail", {"pyproject.toml": "\n[tool.verifiers.check]\nreward_range = [0, 0.5]\n"}),
    ("reward-out-of-range", "fail", {"proj/openenv.yaml": "validation:\n  reward:\n    range: [0.95, 1.0]\n"}),
    ("renderer-reset", "fail", {"guess.py": ('observation["text"]', 'observation["words"]')}),
    (
        "renderer-step",
        "fail",
        {
            "guess.py": (
                "def render(observation, **kwargs):\n",
                "def render(observation, context, **kwargs):\n    if context == 'step':\n        return []\n",
            )
        },
    ),
    (
        "rollout-fails",
        "fail",
        {
            "guess.py": (
                "    return OpenEnvEnv(\n",
                "    import verifiers as vf\n\n    def odd(state):\n        return float('nan')\n\n"
                "    kwargs['rubric'] = vf.Rubric(funcs=[odd])\n    return OpenEnvEnv(\n",
            )
        },
    ),
]


@pytest.mark.parametrize(
    ("name", "outcome", "edits"), SERVERS, ids=lambda value: value if isinstance(value, str) else ""
)
async def test_what_its_server_shows(name, outcome, edits, made, played):
    report = await run(played(edited(made(BASE), edits)), only=[name], limits=LIMITS)
    assert report.ids("fail", "warn") == {name}, [*report.results.values()]
    assert report.results[name].verdict.outcome == outcome


@pytest.mark.parametrize("edits", [changed_game(NEVER_DONE)])
async def test_max_turns_ends_what_the_server_does_not(edits, made, played):
    report = await run(played(edited(made(BASE), edits)), only=["episode-endless"], limits=LIMITS)
    assert report.ids("pass") == {"episode-endless"} and report.facts["max_turns"] == 6


async def test_a_slow_step_is_advice(made, played):
    report = await run(played(made(BASE)), only=["step-slow"], limits=replace(LIMITS, slow_step=0.0))
    assert report.ids("warn") == {"step-slow"} and report.facts["step_seconds_p95"] > 0


async def test_an_environment_may_declare_longer_times_and_a_network(made, played):
    text = "\n[tool.verifiers.check]\nnetwork = true\nstep_seconds = 7\n"
    slow = "def step(self, action):\n    __import__('time').sleep(0.4)\n    return super().step(action)"
    folder = edited(made(BASE), {"pyproject.toml": text, **changed_game(slow)})
    report = await run(
        played(folder), only=["step-hangs", "needs-network"], limits=replace(LIMITS, request=0.2, steps=2)
    )
    assert report.ids("pass") == {"step-hangs"} and "declares" in (report.results["needs-network"].verdict.why or "")


def plain(folder: Path, proxies: tuple[str, str], edits: Edits) -> tuple[Target, Programs]:
    """The plain HTTP environment as a program."""
    edited(shutil.copytree(PLAIN, folder), edits)
    source = Programs(folder / "proj", f"{sys.executable} server.py --port 8000", 8000, *proxies)
    manifest = Manifest("guess:latest", 8000, "python server.py --host 0.0.0.0 --port 8000")
    return replace(
        of_folder(folder, python=Path(sys.executable)), prepare=None, manifest=manifest, source=source
    ), source


@pytest.mark.parametrize(
    ("name", "outcome", "edit"),
    [
        (
            "action-errors",
            "fail",
            ("    off = abs(", "    if guess > 5:\n        return 500, {'detail': 'oh'}\n    off = abs("),
        ),
        ("malformed-action", "warn", ("return 422, {", "return 500, {")),
        ("step-after-done", "warn", ("return 409, {", "return 500, {")),
        ("seed-ignored", "fail", ('random.Random(body.get("seed", 0))', "random.Random()")),
        (
            "factory-fails",
            "fail",
            ("    rng = random.Random(", "    raise OSError('no words')\n    rng = random.Random("),
        ),
    ],
)
async def test_a_plain_http_server(name, outcome, edit, tmp_path, proxies):
    target, source = plain(tmp_path / "guess", proxies, {"proj/server.py": edit})
    report = await run(target, only=[name], limits=LIMITS)
    assert report.ids("fail", "warn") == {name}, [*report.results.values()]
    assert report.results[name].verdict.outcome == outcome and not source.alive


async def test_a_tool_that_refuses_what_its_schema_allows(tmp_path, proxies, monkeypatch):
    monkeypatch.setenv("MCP", "1")
    (tmp_path / "server.py").write_text(server_text("counter"))
    source = Programs(tmp_path, "uvicorn server:app --host 0.0.0.0 --port 8000", 8000, *proxies)
    target = Target(manifest=Manifest("c:latest", 8000, source.command, "mcp"), source=source, has_project=True)
    report = await run(target, only=["tools-unusable", "contract-mismatch"], limits=LIMITS)
    assert report.ids("fail") == {"tools-unusable"} and not source.alive
    assert "The tool count is listed, but a call with valid arguments gives: VALIDATION_ERROR" in (
        report.findings()[0].sentence
    )
    listed = "TOOLS = [\n"
    (tmp_path / "server.py").write_text(server_text("counter").replace(listed, "TOOLS = []\nNO_TOOLS = [\n"))
    report = await run(target, only=["tools-unusable", "seed-ignored"], limits=LIMITS)
    assert report.ids("fail") == {"tools-unusable"} and "lists no tools" in report.findings()[0].sentence
    assert "because of tools-unusable" in str(report.results["seed-ignored"].verdict.why)


SINGLE = """
import verifiers as vf

ROWS = [{"question": "What is 1 + 1?", "answer": "2"}, {"question": "What is 2 + 1?", "answer": "3"}]


def right(completion, answer):
    return float(completion[-1].content.strip() == answer)


def load_environment(num_eval_examples: int = 2):
    return vf.SingleTurnEnv(eval_dataset=ROWS, rubric=vf.Rubric(funcs=[right]))
"""


@pytest.mark.parametrize(
    ("edit", "found"),
    [
        (("What is 1", "What is 1"), {}),
        (('"What is 2 + 1?"', '""'), {"rows-invalid": "fail"}),
        (("eval_dataset=ROWS", "eval_dataset=[]"), {"rows-invalid": "fail"}),
        (("float(completion[-1].content.strip() == answer)", "1.0"), {"reward-constant": "fail"}),
        (("float(completion[-1].content.strip() == answer)", "float('inf')"), {"reward-not-finite": "fail"}),
        (("float(completion[-1].content.strip() == answer)", "{}[answer]"), {"rollout-fails": "fail"}),
        (("return vf.SingleTurnEnv", "return (vf.SingleTurnEnv"), {"entry-missing": "fail", "load-fails": "fail"}),
        (
            (
                "def load_environment(num_eval_examples: int = 2):\n",
                "def load_environment(num_eval_examples: int = 2):\n    vf.ensure_keys(['NO_SUCH_KEY'])\n",
            ),
            {},
        ),
        (("ROWS = [", "import os\nos._exit(4)\nROWS = ["), {"load-fails": "fail"}),
    ],
)
async def test_an_environment_without_a_server(edit, found, made):
    folder = made(BASE)
    shutil.rmtree(folder / "proj")
    (folder / "guess.py").write_text(SINGLE)
    edited(folder, {"guess.py": edit})
    report = await run(of_folder(folder, python=Path(sys.executable)), limits=LIMITS)
    assert {
        name: result.verdict.outcome for name, result in report.results.items() if name in report.ids("fail", "warn")
    } == found
    assert set(report.results) == set(CHECKS)
    if "ensure_keys" in edit[1]:
        assert "needs the environment variables NO_SUCH_KEY" in str(report.results["load-fails"].verdict.why)
    elif not found:
        assert report.facts["reward_highest"] == 1.0 and report.facts["rows_eval"] == 2


async def test_the_environments_own_code_never_runs_in_this_process(made, played, monkeypatch):
    folder = edited(
        made(BASE), {"guess.py": "\nimport sys\n\nsys.modules['was_here'] = sys\nprint('noise', flush=True)\n"}
    )
    report = await run(played(folder), only=["load-fails", "rollout-fails"], limits=LIMITS)
    assert report.ids("pass") == {"load-fails", "rollout-fails"} and not {"was_here", "guess"} & set(sys.modules)


async def test_a_report_can_be_written_whatever_was_found(made, played):
    written: dict[str, Any] = (
        await run(played(made("reward_nan")), only=["reward-not-finite"], limits=LIMITS)
    ).as_dict()
    assert json.loads(json.dumps(written, allow_nan=False)) == written
    assert (ROOT / "docs" / "checks" / f"{written['checks'][0]['id']}.md").is_file()

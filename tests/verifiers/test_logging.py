"""What the library says, where to, and that it leaves an application's logging alone."""

import logging
import os
import subprocess
import sys
from pathlib import Path

import pytest

import verifiers as vf
from verifiers.utils.eval_utils import quiet_datasets
from verifiers.utils.path_utils import write_temp_file

LOGGER = logging.getLogger("verifiers")


@pytest.fixture(autouse=True)
def as_before():
    yield
    vf.setup_logging(None)


def run(code, **variables):
    env = {name: value for name, value in os.environ.items() if name != "VF_LOG_LEVEL"} | variables
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=env)


@pytest.mark.parametrize("level", ["", "DEBUG"])
def test_importing_never_touches_the_root_logger(level):
    code = """
import logging
import verifiers as vf, verifiers.utils.logging_utils, verifiers.envs.env_group, verifiers.rubrics.judge_rubric
root = logging.getLogger()
print(root.handlers, root.level, logging.getLogger("verifiers").handlers != [])
"""
    assert run(code, VF_LOG_LEVEL=level).stdout.split("\n")[0] == f"[] 30 {bool(level)}"


def test_the_environment_variable_sets_the_level():
    code = "import verifiers, logging; logging.getLogger('verifiers.x').info('heard')"
    assert run(code).stderr == "" and run(code, VF_LOG_LEVEL="WARNING").stderr == ""
    assert run(code, VF_LOG_LEVEL="info").stderr.rstrip().endswith("- verifiers.x - INFO - heard")
    wrong = run(code, VF_LOG_LEVEL="LOUD").stderr
    assert (
        "VF_LOG_LEVEL: There is no log level 'LOUD'; there are DEBUG, INFO, WARNING, ERROR, CRITICAL. INFO is used."
        in wrong
    )
    assert "heard" in wrong


def test_setting_up_again_says_everything_once(capsys, tmp_path):
    vf.setup_logging("INFO")
    vf.setup_logging("DEBUG", log_format="%(levelname)s %(message)s", log_file=str(tmp_path / "log"))
    LOGGER.debug("hello")
    assert capsys.readouterr().err == "DEBUG hello\n" and (tmp_path / "log").read_text() == "DEBUG hello\n"
    vf.setup_logging("DEBUG", console_logging=False, log_file=str(tmp_path / "other"))
    LOGGER.debug("quiet")
    assert capsys.readouterr().err == "" and "quiet" in (tmp_path / "other").read_text()
    with pytest.raises(ValueError, match="There is no log level 'X'"):
        vf.setup_logging("X")


def test_without_a_level_the_log_is_the_applications(caplog):
    own = logging.NullHandler()
    LOGGER.addHandler(own)
    vf.setup_logging("ERROR")
    vf.setup_logging(None)
    assert LOGGER.handlers == [own] and LOGGER.propagate
    LOGGER.removeHandler(own)
    LOGGER.warning("mine")
    assert "mine" in caplog.text


def test_levels_for_a_while():
    vf.setup_logging("INFO")
    with vf.log_level("DEBUG"):
        assert LOGGER.level == logging.DEBUG
        with pytest.raises(RuntimeError), vf.quiet_verifiers():
            assert LOGGER.level == logging.WARNING
            raise RuntimeError
        assert LOGGER.level == logging.DEBUG
    assert LOGGER.level == logging.INFO
    with vf.log_level(logging.ERROR):
        assert LOGGER.level == logging.ERROR


def test_a_sample_is_printed_as_a_table(capsys):
    call = {"id": "c", "name": "add", "arguments": '{"a": 1}'}
    prompts = ["what is 2+2?", [vf.UserMessage("[bold]not markup[/bold]")], [vf.UserMessage("third")]]
    completions = [[vf.AssistantMessage("4", tool_calls=[call])], [{"role": "assistant", "content": "5"}], []]
    errors = [None, vf.SandboxError("gone"), {"error": "ToolError", "message": "no"}]
    vf.print_prompt_completions_sample(prompts, completions, errors, [1.0, None, 0.5], step=7, num_samples=2)
    said = capsys.readouterr().out
    for part in ("Step 7", "what is 2+2?", "assistant: 4", 'calls add({"a": 1})', "1.00", "[bold]not markup[/bold]"):
        assert part in said
    assert "SandboxError: gone" in said and "unscored" in said and "third" not in said
    with pytest.raises(ValueError, match="must be equally long"):
        vf.print_prompt_completions_sample(prompts, [], errors, [], step=0)


def test_without_the_package_there_is_nothing_to_quieten(monkeypatch):
    monkeypatch.setitem(sys.modules, "datasets", None)
    with quiet_datasets():
        pass
    with pytest.raises(KeyError), quiet_datasets():
        raise KeyError


def test_a_file_for_a_moment():
    path = Path(write_temp_file("naïve", suffix=".txt"))
    assert path.suffix == ".txt" and path.read_text(encoding="utf-8") == "naïve"
    path.unlink()

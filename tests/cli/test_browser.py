"""`prime eval tui`, driven through Textual's pilot: every screen, every key, on runs that were really recorded."""

from __future__ import annotations

import asyncio
import json
import os
import re
import subprocess
import sys
from array import array
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from rich.cells import cell_len

from prime_cli.browsing.app import Browser
from prime_cli.browsing.command import NothingToBrowse, browse, places_of
from prime_cli.browsing.comparison_screen import BothScreen, ComparisonScreen
from prime_cli.browsing.conversation import LONGEST_MESSAGE, parts_of
from prime_cli.browsing.help_screen import HelpScreen
from prime_cli.browsing.order import SORTS, sorted_places
from prime_cli.browsing.rollout_screen import RolloutScreen
from prime_cli.browsing.run_screen import COLUMNS, RunScreen
from prime_cli.browsing.runs_screen import RunsScreen
from prime_cli.browsing.table import RowsTable, fit
from prime_cli.browsing.text_view import TextView, wrap
from prime_cli.browsing.wanted import parse
from prime_cli.browsing.words import visible
from prime_evals import Attempt, AttemptStore, RunIdentity, RunSettings, derive
from prime_evals.sources import find_folders, open_source

MODELS = ("small", "large")


def output(example: int, rollout: int, reward: float | None, **more: Any) -> dict[str, Any]:
    row = {
        "example_id": example,
        "rollout_index": rollout,
        "prompt": [{"role": "user", "content": f"What is {example} + {example}?"}],
        "completion": [{"role": "assistant", "content": f"It is {example * 2}."}],
        "answer": str(example * 2),
        "info": {},
        "reward": reward,
        "error": None,
        "timing": {"total": 0.5 + example},
        "is_truncated": False,
        "stop_condition": "max_turns_reached",
        "metrics": {"num_turns": 1},
        "token_usage": {"input_tokens": 100 + example, "output_tokens": 10},
    }
    return {**row, **more}


def record(folder: Path, model: str, rewards: list[list[float | None]], planned: int | None = None) -> Path:
    """A run with these rewards, by example and rollout; an unscored one has failed."""
    settings = RunSettings(
        num_examples=planned or len(rewards), rollouts_per_example=len(rewards[0]), pass_threshold=0.5
    )
    directory = folder / "outputs" / "evals" / f"sums--{model}" / "0a1b2c3d"
    with AttemptStore(directory, RunIdentity("sums", model, "1.2.0"), settings) as store:
        for example, values in enumerate(rewards):
            for rollout, reward in enumerate(values):
                error = {"error": "SandboxError", "message": "The sandbox was gone."}
                failed = {} if reward is not None else {"error": error, "stop_condition": "has_error"}
                if (example, rollout) == (1, 0):
                    first = output(example, rollout, None, error=error, completion=[])
                    store.append([Attempt(example, rollout, first, 1, False)])
                    store.append([Attempt(example, rollout, output(example, rollout, reward, **failed), 2)])
                else:
                    store.append([Attempt(example, rollout, output(example, rollout, reward, **failed))])
    return directory


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    """Two runs of one environment with different models, and one that an official command wrote."""
    record(tmp_path, "small", [[0.0, 1.0], [1.0, 0.0], [0.0, 0.0], [0.0, None]])
    record(tmp_path, "large", [[1.0, 1.0], [1.0, 1.0], [0.0, 1.0], [0.0, 0.25]], planned=6)
    official = tmp_path / "outputs" / "evals" / "words--tiny" / "ffff0000"
    official.mkdir(parents=True)
    rows = [{**output(example, 0, 0.5), "rollout_index": None} for example in (0, 0, 1)]
    for row in rows:
        del row["rollout_index"], row["token_usage"]
    (official / "results.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows) + "not json\n")
    told = {"env_id": "words", "model": "tiny", "num_examples": 2, "rollouts_per_example": 2, "env_args": {"n": 3}}
    (official / "metadata.json").write_text(json.dumps(told))
    return tmp_path


@asynccontextmanager
async def browser(*places: Path, size: tuple[int, int] = (120, 40)) -> AsyncGenerator[tuple[Browser, Any]]:
    app = Browser(places)
    async with app.run_test(size=size, notifications=True) as pilot:
        await settled(app, pilot)
        yield app, pilot


async def settled(app: Browser, pilot: Any) -> None:
    """Until every worker has ended and what it found is drawn."""
    for _ in range(500):
        await pilot.pause()
        if all(worker.is_finished for worker in app.workers):
            break
        await asyncio.sleep(0.01)
    await pilot.pause()


def seen(app: Browser) -> str:
    """What stands on the screen."""
    strips = app.screen._compositor.render_strips()
    return "\n".join(strip.text.rstrip() for strip in strips)


async def test_the_list_tells_what_each_run_measured(runs: Path) -> None:
    async with browser(runs) as (app, _):
        text = seen(app)
        assert isinstance(app.screen, RunsScreen) and "3 runs in" in text
        small, large = (next(line for line in text.splitlines() if name in line) for name in MODELS)
        assert re.search(r"sums +small +\d{4}-\d\d-\d\d \d\d:\d\d +8 +0\.286 +\S+ +1 +0a1b2c3d", small), small
        assert re.search(r"8/12 +0\.656 +\S+ +0 ", large), large
        assert re.search(r"words +tiny .* 3/4 +0\.500", text)


async def test_the_list_is_filtered_sorted_and_read_again(runs: Path) -> None:
    async with browser(runs) as (app, pilot):
        screen = app.screen
        assert isinstance(screen, RunsScreen)
        await pilot.press("slash", *"LARGE", "enter")
        assert [entry.about.model for entry in screen.shown if entry.about] == ["large"] and "1 of 3" in seen(app)
        await pilot.press("escape")
        assert len(screen.shown) == 3
        while screen.by != "reward":
            await pilot.press("s")
        models = [entry.about.model for entry in screen.shown if entry.about]
        assert models == ["large", "tiny", "small"]
        await pilot.press("S")
        assert [entry.about.model for entry in screen.shown if entry.about] == models[::-1]
        record(runs / "more", "new", [[1.0]])
        await pilot.press("r")
        await settled(app, pilot)
        assert len(screen.shown) == 4


async def test_a_run_shows_its_numbers_and_its_rollouts(runs: Path) -> None:
    async with browser(runs / "outputs" / "evals" / "sums--small" / "0a1b2c3d") as (app, _):
        assert isinstance(app.screen, RunScreen)
        text = seen(app)
        for part in (
            "sums@1.2.0 · small",
            "7 of 8 rollouts",
            "pass@2",
            "errors      1 × SandboxError: The sandbox was gone.",
        ):
            assert part in text, part
        assert re.search(r"^reward +0\.286  \(\S+ to \S+\)", text.replace(" reward", "reward"), re.MULTILINE)
        assert re.search(r"0 – 0\.1 +█+ +5", text) and re.search(r"0\.9 – 1 +█+[▏▎▍▌▋▊▉]? +2", text)
        assert "8 of 8 rollouts" in text and re.search(r"1 +0 +1 +max_turns_reached .* 2$", text, re.MULTILINE)


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("error", ["3.1"]),
        ("unscored", ["3.1"]),
        ("reward<0.5", ["0.0", "1.1", "2.0", "2.1", "3.0"]),
        ("reward>=0.5 example:1", ["1.0"]),
        ("stop:has_error", ["3.1"]),
        ("error:sandbox", ["3.1"]),
        ("error:other", []),
        ("attempt>1", ["1.0"]),
        ("seconds<=0.5", ["0.0", "0.1"]),
        ("tokens!=10", []),
        ("truncated", []),
        ("IT IS 4", ["2.0", "2.1", "3.1", "3.0"][:2]),
        ("reward=0 it is 2", ["1.1"]),
    ],
)
async def test_rollouts_are_filtered(runs: Path, words: str, expected: list[str]) -> None:
    async with browser(runs / "outputs" / "evals" / "sums--small" / "0a1b2c3d") as (app, pilot):
        screen = app.screen
        assert isinstance(screen, RunScreen)
        await pilot.press("slash")
        screen.query_one("#filter").value = words  # type: ignore[attr-defined]
        await pilot.press("enter")
        await settled(app, pilot)
        columns = screen.columns
        found = [f"{columns['example_id'][place]}.{columns['rollout_index'][place]}" for place in screen.places]
        assert found == expected
        assert f"{len(expected)} of 8 rollouts" in seen(app)
        assert expected or "No rollout is like that." in seen(app)


async def test_a_filter_that_is_not_understood_says_so(runs: Path) -> None:
    async with browser(runs / "outputs" / "evals" / "sums--small" / "0a1b2c3d") as (app, pilot):
        await pilot.press("slash", *"score<1", "enter")
        assert "There is no score; there are reward, seconds" in seen(app)
        await pilot.press("escape", "e")
        assert "1 of 8 rollouts" in seen(app)
        await pilot.press("e")
        assert "8 of 8 rollouts" in seen(app)
        await pilot.press("i")
        assert not app.screen.query_one("#summary").display


def test_parse_knows_numbers_from_words() -> None:
    assert parse("reward<1..2").mistake == "1..2 is no number." and parse("a:b c").words == "a:b c"
    assert len(parse("error unscored TRUNCATED reward>1").tests) == 4


def test_what_has_no_value_is_sorted_last_either_way() -> None:
    columns = {name: [] for name in SORTS.values()} | {"reward": array("d", [0.5, float("nan"), 1.0, 0.0])}
    assert list(sorted_places(columns, range(4), "reward", False)) == [3, 0, 2, 1]
    assert list(sorted_places(columns, range(4), "reward", True)) == [2, 0, 3, 1]
    assert list(sorted_places(columns, [1, 2], "example", True)) == [2, 1]


async def test_rollouts_are_sorted_by_key_and_by_the_mouse(runs: Path) -> None:
    async with browser(runs / "outputs" / "evals" / "sums--small" / "0a1b2c3d") as (app, pilot):
        screen = app.screen
        assert isinstance(screen, RunScreen)
        await pilot.press("s")
        assert screen.by == "reward" and screen.columns["reward"][screen.places[0]] == 0
        await pilot.press("S")
        assert screen.columns["reward"][screen.places[0]] == 1
        at = 1
        for _, column, space in fit(COLUMNS, app.screen.query_one(RowsTable).size.width - 2):
            if column.sort == "seconds":
                break
            at += space + 2
        await pilot.click(RowsTable, offset=(at + 2, 0))
        assert screen.by == "seconds" and screen.columns["seconds"][screen.places[0]] == 3.5
        await pilot.click(RowsTable, offset=(5, 3))
        assert screen.query_one(RowsTable).cursor == 2
        await pilot.double_click(RowsTable, offset=(5, 3)) if hasattr(pilot, "double_click") else await pilot.press(
            "enter"
        )
        assert isinstance(app.screen, RolloutScreen)


async def test_a_conversation_its_raw_row_and_its_attempts(runs: Path) -> None:
    async with browser(runs / "outputs" / "evals" / "sums--small" / "0a1b2c3d") as (app, pilot):
        await pilot.press("down", "down", "enter")
        assert isinstance(app.screen, RolloutScreen)
        text = seen(app)
        for part in (
            "3 of 8 · attempt 2 of 2",
            "example 1 · rollout 0",
            "── user",
            "What is 1 + 1?",
            "── assistant · turn 1",
            "It is 2.",
        ):
            assert part in text, part
        await pilot.press("t")
        assert "attempt 1 of 2" in seen(app) and "SandboxError: The sandbox was gone." in seen(app)
        await pilot.press("t", "r")
        assert '"example_id": 1' in seen(app) and "raw" in seen(app)
        await pilot.press("r", "right")
        assert "4 of 8" in seen(app) and "rollout 1" in seen(app)
        await pilot.press("left", "left", "left", "left", "left")
        assert "1 of 8" in seen(app)
        await pilot.press("right_square_bracket", "escape")
        assert isinstance(app.screen, RunScreen) and app.screen.query_one(RowsTable).cursor == 1


async def test_search_in_a_rollout_and_words_that_led_there(runs: Path) -> None:
    async with browser(runs / "outputs" / "evals" / "sums--small" / "0a1b2c3d") as (app, pilot):
        await pilot.press("enter", "slash", *"WHAT", "enter")
        assert "1 of 1 lines" in seen(app)
        await pilot.press("escape", "slash", *"nothing", "enter")
        assert 'no "nothing" here' in seen(app)
        await pilot.press("escape", "escape", "slash", *"is 4", "enter")
        await settled(app, pilot)
        await pilot.press("enter")
        await pilot.pause()
        view = app.screen.query_one(TextView)
        assert view.term == "is 4" and view.found and "1 of" in seen(app)
        before = view.at
        await pilot.press("N", "n")
        assert view.at == before


async def test_two_runs_are_compared_example_by_example(runs: Path) -> None:
    async with browser(runs) as (app, pilot):
        screen = app.screen
        assert isinstance(screen, RunsScreen)
        await pilot.press("c")
        assert not isinstance(app.screen, ComparisonScreen)
        rows = {entry.about.model: row for row, entry in enumerate(screen.shown) if entry.about}
        for model in MODELS:
            screen.query_one(RowsTable)._go(rows[model])
            await pilot.press("space")
        await pilot.press("c")
        assert isinstance(app.screen, ComparisonScreen)
        text = seen(app)
        assert "first   sums@1.2.0 · small" in text and "over 4 common examples" in text and "1 gained, 0 lost" in text
        # (0.5 + 0.5 + 0.5 + 0.125) / 4
        assert "difference  +0.406" in text
        await pilot.press("f", "f")
        assert "1 of 4 examples: gained" in seen(app)
        await pilot.press("f")
        assert "No example is like that." in seen(app)
        await pilot.press("f", "x")
        assert "0 gained, 1 lost" in seen(app) and "difference  -0.406" in seen(app)
        while app.screen.by != "example":
            await pilot.press("s")
        await pilot.press("S")
        assert app.screen.shown[0].example == "3"
        await pilot.press("enter")
        assert isinstance(app.screen, BothScreen) and "example 3 · rollout 1 of 2" in seen(app)
        assert seen(app).count("── assistant") == 2
        await pilot.press("o")
        assert "SandboxError" in seen(app)
        await pilot.press("right", "tab", "r", "r", "escape", "escape")
        assert isinstance(app.screen, RunsScreen)


async def test_in_a_narrow_terminal_one_run_is_in_front(runs: Path) -> None:
    async with browser(runs, size=(60, 24)) as (app, pilot):
        paths = [runs / "outputs" / "evals" / f"sums--{model}" / "0a1b2c3d" for model in MODELS]
        app.compare(*paths)
        await pilot.pause()
        await pilot.press("enter")
        first, second = app.screen.query(TextView)
        assert first.display and not second.display
        await pilot.press("tab")
        assert second.display and not first.display


@pytest.mark.parametrize("size", [(20, 8), (40, 12), (80, 24), (200, 60)])
async def test_every_screen_fits_every_terminal(runs: Path, size: tuple[int, int]) -> None:
    async with browser(runs, size=size) as (app, pilot):
        for keys in (["enter"], ["enter"], ["question_mark"], ["escape", "escape", "escape"], ["d"]):
            await pilot.press(*keys)
            await settled(app, pilot)
            assert all(cell_len(line) <= size[0] for line in seen(app).splitlines())


async def test_the_keys_are_shown(runs: Path) -> None:
    async with browser(runs) as (app, pilot):
        for _ in range(3):
            await pilot.press("question_mark")
            assert isinstance(app.screen, HelpScreen)
            text = seen(app)
            assert "Quit" in text and "Up" in text and "Scroll" not in text
            await pilot.press("escape", "enter")
            await settled(app, pilot)


async def test_a_broken_run_does_not_take_the_list_away(runs: Path) -> None:
    broken = runs / "outputs" / "evals" / "x--y" / "00000000"
    broken.mkdir(parents=True)
    (broken / "attempts.jsonl").write_text('{"kind": "attempt"}\n')
    async with browser(runs) as (app, pilot):
        assert "4 runs" in seen(app) and "cannot be read" in seen(app)
        screen = app.screen
        assert isinstance(screen, RunsScreen)
        screen.query_one(RowsTable)._go([entry.directory for entry in screen.shown].index(broken))
        await pilot.press("enter")
        await pilot.pause()
        assert isinstance(app.screen, RunsScreen) and "No evaluation run in" in seen(app)


async def test_words_of_strangers_do_not_steer_the_terminal(tmp_path: Path) -> None:
    settings = RunSettings(num_examples=1, rollouts_per_example=1, pass_threshold=0.5)
    evil = "\x1b[2J\x1b]0;gone\x07 [bold]not markup[/bold] \x9b31m"
    with AttemptStore(tmp_path / "run", RunIdentity("e\x1b[2J", "m[red]"), settings) as store:
        said = [{"role": "assistant\x1b[1m", "content": evil}]
        row = output(0, 0, 1.0, completion=said, stop_condition="\x1b[31mstop")
        store.append([Attempt(0, 0, row)])
    async with browser(tmp_path) as (app, pilot):
        for _ in range(3):
            assert "\x1b" not in seen(app) and "\x9b" not in seen(app)
            await pilot.press("enter")
            await settled(app, pilot)
        assert "␛[2J␛]0;gone␇ [bold]not markup[/bold]" in seen(app)


def test_wrapping_keeps_every_word_and_every_width() -> None:
    text = "a long line of words " * 20 + "wide 漢字かな混じり文" * 9 + "\n\n\ttab\r\nend" + "x" * 300
    for width in (8, 20, 79):
        lines = wrap(text, width)
        assert all(cell_len(line) <= width for line in lines)
        assert "".join("".join(lines).split()) == "".join(text.split())
    assert wrap("", 10) == [""] and visible("a\x00\x7f\tb\n") == "a␀\ufffd\tb\n"


def test_a_conversation_with_tools_pictures_and_turn_rewards() -> None:
    call = {"id": "1", "function": {"name": "move", "arguments": '{"to": "left"}'}}
    row = {
        "prompt": "plain text",
        "completion": [
            {"role": "assistant", "content": None, "reasoning_content": "hm", "tool_calls": [json.dumps(call)]},
            {"role": "tool", "tool_call_id": "1", "content": [{"type": "text", "text": "moved"}]},
            {"role": "assistant", "tool_calls": [{"name": "say", "arguments": {"words": "x" * 100}}, "not json"]},
            {"role": "user", "content": [{"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}]},
            {"role": "assistant", "content": "y" * (LONGEST_MESSAGE + 5)},
        ],
        "turn_rewards": [0.25, None, 1],
        "reward_errors": {"right": "ValueError: no"},
        "info": {"k": 1},
    }
    text = "\n".join(part.text for part in parts_of(row))
    for said in (
        "plain text",
        "assistant · turn 1 · reward 0.250",
        '→ move  {"to": "left"}',
        "── tool · move",
        "moved",
        "hm",
        "→ say\n",
        "not json",
        "[an image, 26 characters]",
        "assistant · turn 3 · reward 1 ",
        "… 5 more characters: a shows all",
        "right counted 0: ValueError: no",
        '"k": 1',
    ):
        assert said in text, said
    assert "assistant · turn 2 \n" in text
    assert "y" * (LONGEST_MESSAGE + 5) in [part.text for part in parts_of(row, everything=True)]


def test_runs_are_found_wherever_they_lie(runs: Path) -> None:
    hidden = runs / ".venv" / "outputs"
    record(hidden, "hidden", [[1.0]])
    (runs / "node_modules").mkdir()
    assert [path.parent.name for path in sorted(find_folders([runs]))] == ["sums--large", "sums--small", "words--tiny"]
    derive(runs / "outputs" / "evals" / "sums--small" / "0a1b2c3d")
    assert len(find_folders([runs, runs])) == 3


def test_the_official_folder_counts_rollouts_itself(runs: Path) -> None:
    source = open_source(runs / "outputs" / "evals" / "words--tiny" / "ffff0000")
    assert list(source.columns["rollout_index"]) == [0, 1, 0] and source.about.env_args == {"n": 3}
    assert source.row(1)["rollout_index"] == 1
    assert [has for _, has in source.having("it IS 2", [0, 1, 2])] == [False, False, True]


def test_where_it_looks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert places_of([]) == [Path()]
    (tmp_path / "environments").mkdir()
    assert places_of([]) == [Path("environments")]
    with pytest.raises(NothingToBrowse, match="nowhere does not exist"):
        places_of(["nowhere"])
    with pytest.raises(NothingToBrowse, match="needs a terminal"):
        browse([])


def test_without_a_terminal_the_command_says_so(runs: Path) -> None:
    command = [sys.executable, "-m", "prime_cli", "eval", "tui", str(runs)]
    done = subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=60, check=False)
    assert done.returncode == 1 and done.stderr.startswith("Error: The browser needs a terminal.") and not done.stdout


def test_in_a_real_terminal_it_starts_and_q_ends_it(runs: Path) -> None:
    import pty
    import select
    import time

    parent, child = pty.openpty()
    command = [sys.executable, "-m", "prime_cli", "eval", "tui", str(runs)]
    environment = {**os.environ, "TERM": "xterm-256color", "COLUMNS": "100", "LINES": "30"}
    process = subprocess.Popen(command, stdin=child, stdout=child, stderr=child, env=environment)
    os.close(child)
    shown, until = b"", time.monotonic() + 60
    try:
        while b"sums" not in shown and time.monotonic() < until:
            if select.select([parent], [], [], 0.2)[0]:
                shown += os.read(parent, 65536)
        assert b"sums" in shown
        os.write(parent, b"q")
        while process.poll() is None and time.monotonic() < until:
            if select.select([parent], [], [], 0.1)[0]:
                try:
                    os.read(parent, 65536)
                except OSError:
                    break
        assert process.wait(timeout=30) == 0
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()
        os.close(parent)

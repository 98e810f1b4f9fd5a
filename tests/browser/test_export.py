"""The one file of a run, opened from disk in a real browser: it works, asks nobody, and strangers' words stay words."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from prime_evals import Attempt, AttemptStore, RunIdentity, RunSettings

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

HOSTILE = (
    '</script><script>window.hurt = 1</script><img src="http://127.0.0.1:9/x" onerror="window.hurt = 2">',
    "<!--<script>window.hurt = 3",
    "]]></script ><svg onload=window.hurt=4>",
    '"\'`</style></title></textarea></pre><a href="javascript:window.hurt=5">x</a>',
    "\u2028\u2029 \u202egnp \ud83d {{ 7 * 7 }} &lt;b&gt; &#60;script&#62;",
)


def record(directory: Path) -> Path:
    with AttemptStore(directory, RunIdentity(f"own-env{HOSTILE[0]}", HOSTILE[3]), RunSettings(40, 2)) as store:
        for example in range(40):
            store.append([Attempt(_id(example), n, _output(example, n)) for n in range(2)])
    return directory


def _id(example: int) -> Any:
    return HOSTILE[example % 5] + str(example) if example < 10 else example


def _output(example: int, index: int) -> dict[str, Any]:
    text = HOSTILE[example % 5]
    lost = example == 7
    return {
        "example_id": _id(example),
        "rollout_index": index,
        "prompt": [{"role": "user", "content": f"question {example} {text}"}],
        "completion": [
            {
                "role": "assistant",
                "content": text + "long " * 2000,
                "reasoning_content": text,
                "tool_calls": [{"id": "1", "name": text, "arguments": f'{{"word": {example}}}'}],
            },
            {"role": f"tool{text}", "content": text},
        ],
        "answer": text,
        "reward": None if lost else (example % 10) / 10,
        "error": {"error": "SandboxLost", "message": text} if lost else None,
        "metrics": {text: 0.5},
        "stop_condition": text,
        "is_truncated": example == 3,
        "turn_rewards": [0.25],
        "timing": {"total": float(example)},
        "token_usage": {"output_tokens": example},
    }


def written(folder: Path, target: Path, *options: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-P", "-m", "prime_hub", "export", str(folder), "--html", str(target), *options]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    base = tmp_path_factory.mktemp("export")
    done = written(record(base / "run"), base / "run.html")
    assert done.returncode == 0 and "80 rollouts, 80 conversations" in done.stderr
    return base / "run.html"


@pytest.fixture
def page(chromium: Browser, file: Path) -> Iterator[Page]:
    context = chromium.new_context(offline=True, viewport={"width": 1280, "height": 900})
    found = context.new_page()
    asked: list[str] = []
    said: list[str] = []
    found.on("request", lambda request: asked.append(request.url))
    found.on("console", lambda message: said.append(message.text))
    found.on("pageerror", lambda error: said.append(str(error)))
    found.goto(file.as_uri())
    yield found
    assert found.evaluate("window.hurt") is None and not said
    assert {url for url in asked if not url.startswith("data:")} == {file.as_uri()}
    context.close()


def lines(page: Page) -> list[str]:
    return page.locator("#table tbody tr").all_inner_texts()


def test_the_table(page: Page) -> None:
    assert "80 rollouts, page 1 of 2" in page.locator("#table caption").inner_text() and len(lines(page)) == 50
    page.get_by_role("button", name="After").click()
    assert len(lines(page)) == 30
    page.get_by_role("button", name="Tokens").click()
    assert page.locator("th[aria-sort=descending]").inner_text().startswith("Tokens") and "39" in lines(page)[0]
    page.get_by_role("link", name="With an error").click()
    assert len(lines(page)) == 2 and all("SandboxLost" in line for line in lines(page))
    page.get_by_role("link", name="Truncated").click()
    assert len(lines(page)) == 2
    page.get_by_role("link", name="All", exact=True).click()
    page.get_by_label("Words in what was asked").fill("question 12")
    assert len(lines(page)) == 2
    page.get_by_label("Words in what was asked").fill("")
    page.get_by_role("link", name="SandboxLost").click()
    assert len(lines(page)) == 2 and "error SandboxLost" in page.locator("#table caption").inner_text()


def test_conversations_are_words(page: Page) -> None:
    for number in range(8):
        page.goto(page.url.partition("#")[0] + f"#r{2 * number}")
        talk = page.locator("#talk")
        talk.get_by_text("turn 1").wait_for()
        shown = HOSTILE[number % 5].replace("\u202e", "").replace("\ud83d", "")
        assert shown.split("\u2028")[0].split("&")[0].strip() in talk.inner_text()
        assert talk.locator("img, script, svg, a, style").count() == 0
        assert "reward 0.25" in talk.inner_text() and "Show all" in talk.inner_text()
    page.go_back()


def test_nothing_may_run_but_ours(page: Page) -> None:
    assert "default-src 'none'" in page.locator("meta[http-equiv]").get_attribute("content")
    assert page.locator("script:not([type])").count() == 1 and page.locator("link").count() == 1
    assert page.locator("main img, main style, main iframe, main object").count() == 0


@pytest.mark.parametrize("dark", [False, True])
def test_for_everybody(chromium: Browser, file: Path, dark: bool) -> None:
    from axe_playwright_python.sync_playwright import Axe

    context = chromium.new_context(color_scheme="dark" if dark else "light", bypass_csp=True)
    found = context.new_page()
    found.goto(file.as_uri() + "#r0")
    found.locator("#talk").get_by_text("turn 1").wait_for()
    problems = Axe().run(found).response["violations"]
    assert not problems, [(one["id"], one["nodes"][0]["html"][:300]) for one in problems]
    context.close()


def test_what_is_left_out_is_said(file: Path, tmp_path: Path) -> None:
    run = file.parent / "run"
    done = written(run, tmp_path / "small.html", "--max-mb", "0.1")
    text = (tmp_path / "small.html").read_text()
    assert done.returncode == 0 and "Left out of 80 rollouts" in done.stderr and "Left out of 80 rollouts" in text
    assert len(text) < 200_000
    done = written(run, tmp_path / "some.html", "--only", "error")
    assert "2 rollouts, 2 conversations" in done.stderr and "with an error" in (tmp_path / "some.html").read_text()


def test_where_it_is_written(file: Path, tmp_path: Path) -> None:
    run, before = file.parent / "run", file.read_bytes()
    done = written(run, file)
    assert done.returncode == 1 and "is there already; --force" in done.stderr and file.read_bytes() == before
    assert written(run, file, "--force").returncode == 0 and not list(file.parent.glob(".run.html*"))
    out = written(run, Path("-"))
    assert out.stdout.startswith("<!doctype html>") and out.stdout.encode() == file.read_bytes()
    assert "is a folder" in written(run, tmp_path).stderr
    nothing = written(tmp_path, tmp_path / "none.html")
    assert nothing.returncode == 1 and "No evaluation run" in nothing.stderr and not (tmp_path / "none.html").exists()
    assert "cannot be written" in written(run, tmp_path / "no" / "folder.html").stderr

"""Looking at a run of 100,000 rollouts, a gigabyte: in the terminal, in the browser without a Hub, on a Hub after a push."""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import re
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Generator
from contextlib import contextmanager
from http.client import HTTPConnection
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from catalogue.asking import quantile
from large_run import write_run
from official.scratch import Failed
from speed.cli import count, end_by_signals, tell
from speed.report import aligned

RESULTS = Path(__file__).resolve().parent / "runs_results.md"
PAGES = "/dashboard/evaluations"
PER_PAGE = 50
START_SECONDS = 120.0
GOAL_SECONDS = 1.0
MORE = """\
Each is a program of its own. first: from the question to the first rows (the terminal: from the start of the app, without imports).
numbers: until means and intervals are there, too. page: another page of rows, or a page down; sorted: by reward; rollout: one
conversation. The Hub's pages are those of the same run, pushed.
"""


class Asked:
    """A browser as far as this needs one: one connection, a cookie, or a key."""

    def __init__(self, url: str, **headers: str) -> None:
        self._at = urlsplit(url)
        self._connection = HTTPConnection(self._at.hostname or "127.0.0.1", self._at.port, timeout=600)
        self._headers = {"Accept": "text/html", **headers}

    def get(self, path: str) -> tuple[str, float, bool, str]:
        """The page, the seconds it took, whether it has all of its numbers, and the cookie that it gave."""
        begun = time.perf_counter()
        self._connection.request("GET", path, headers=self._headers)
        answer = self._connection.getresponse()
        text = answer.read().decode()
        if answer.status not in (200, 303):
            raise Failed(f"GET {path} was answered with {answer.status}: {text[:300]}")
        cookie = (answer.headers.get("Set-Cookie") or "").partition(";")[0]
        return text, time.perf_counter() - begun, "Refresh" not in answer.headers, cookie

    def close(self) -> None:
        self._connection.close()


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="script/bench runs",
        description=__doc__,
        epilog=MORE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--rollouts", type=count, default=100_000, help="how many (default: %(default)s)")
    parser.add_argument("--bytes", type=count, default=10_000, help="of one rollout's row (default: %(default)s)")
    parser.add_argument("--pages", type=count, default=30, help="pages of each kind (default: %(default)s)")
    parser.add_argument("--record", action="store_true", help=f"write the table into benchmarks/{RESULTS.name}")
    parser.add_argument("--terminal", help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.terminal:
        print(json.dumps(asyncio.run(_terminal(Path(chosen.terminal), chosen.pages))))
        return 0
    end_by_signals()
    with tempfile.TemporaryDirectory(prefix="prime-bench-runs-") as scratch:
        return _measure(chosen, Path(scratch))


def _measure(chosen: argparse.Namespace, scratch: Path) -> int:
    before = os.getloadavg()[0]
    folder = scratch / "outputs" / "run"
    folder.mkdir(parents=True)
    tell("Writing the run ...")
    write_run(folder, chosen.rollouts, chosen.bytes)
    size = (folder / "attempts.jsonl").stat().st_size
    tell("Making its index ...")
    index = "import sys; from prime_evals import open_run; open_run(sys.argv[1]).close()"
    begun = time.perf_counter()
    subprocess.run([sys.executable, "-P", "-c", index, folder], check=True)
    took = time.perf_counter() - begun
    tell("In the terminal ...")
    command = [sys.executable, __file__, "--terminal", str(folder), "--pages", str(chosen.pages)]
    shown = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
    found = {"prime eval tui": json.loads(shown.splitlines()[-1])}
    tell("In the browser, without a Hub ...")
    found["prime eval view"] = _view(folder, chosen)
    tell("On a Hub ...")
    found["the Hub's page"] = _hub(folder, chosen, scratch)
    names = ("first s", "numbers s", "page ms", "page p99 ms", "sorted ms", "rollout ms", "peak MB")
    rows = [["", *names], *([name, *(_cell(one[column]) for column in names)] for name, one in found.items())]
    head = (
        f"{chosen.rollouts:,} rollouts, {size / 1e9:.2f} GB, {os.cpu_count()} cores, load average {before:.1f} before"
    )
    pushed = found["the Hub's page"]["push s"]
    text = [f"{head}; its index was made in {took:.1f} s, the push took {pushed:.0f} s", ""]
    text += [*aligned(rows), ""]
    first = found["prime eval view"]["first s"]
    met = "met" if first < GOAL_SECONDS else "not met"
    text.append(f"{met:>7}  first page of prime eval view within {GOAL_SECONDS:g} s: {first:.2f}")
    print("\n".join(text), flush=True)
    if chosen.record:
        about = "Written by `script/bench runs --record` on two cores, which program and client share."
        RESULTS.write_text(f"# Looking at a large run\n\n{about}\n\n{MORE}\n```\n" + "\n".join(text) + "\n```\n")
    return 0


def _cell(value: float) -> str:
    return f"{value:.2f}" if value < 10 else f"{value:.0f}"


async def _terminal(folder: Path, pages: int) -> dict[str, float]:
    """The browser of the terminal, as textual's pilot drives it."""
    from prime_cli.browsing.app import Browser
    from prime_cli.browsing.rollout_screen import RolloutScreen
    from prime_cli.browsing.run_screen import RunScreen

    app = Browser([folder])
    begun = time.perf_counter()
    async with app.run_test(size=(120, 40)) as pilot:

        async def until(screen: type[Any]) -> None:
            while not isinstance(app.screen, screen):
                await pilot.pause()
            await pilot.pause()

        await until(RunScreen)
        first = time.perf_counter() - begun
        while not all(worker.is_finished for worker in app.workers):
            await pilot.pause(0.01)
        await pilot.pause()
        numbers = time.perf_counter() - begun
        turned = []
        for _ in range(pages):
            begun = time.perf_counter()
            await pilot.press("pagedown")
            turned.append(1000 * (time.perf_counter() - begun))
        begun = time.perf_counter()
        while app.screen.by != "reward":  # ty: ignore[unresolved-attribute]
            await pilot.press("s")
        ordered = 1000 * (time.perf_counter() - begun)
        begun = time.perf_counter()
        await pilot.press("enter")
        await until(RolloutScreen)
        one = 1000 * (time.perf_counter() - begun)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return _told(first, numbers, turned, ordered, one, peak)


def _told(
    first: float, numbers: float, turned: list[float], ordered: float, one: float, peak: float
) -> dict[str, float]:
    pages = {"page ms": quantile(turned, 0.5), "page p99 ms": quantile(turned, 0.99)}
    return {"first s": first, "numbers s": numbers, **pages, "sorted ms": ordered, "rollout ms": one, "peak MB": peak}


def _asked(browser: Asked, href: str, chosen: argparse.Namespace, pid: int) -> dict[str, float]:
    """The pages of one evaluation."""
    begun = time.perf_counter()
    text, first, whole, _ = browser.get(href)
    while not whole:
        time.sleep(0.05)
        text, _, whole, _ = browser.get(href)
    numbers = time.perf_counter() - begun
    chance = random.Random(1)
    last = max(1, chosen.rollouts // PER_PAGE)
    turned = [1000 * browser.get(f"{href}?page={chance.randint(1, last)}")[1] for _ in range(chosen.pages)]
    ordered = 1000 * browser.get(f"{href}?sort=reward&order=desc")[1]
    link = re.search(rf'href="({re.escape(href)}/rollouts/[^"]+)"', text)
    if link is None:
        raise Failed(f"{href} shows no rollouts: {text[:300]}")
    one = 1000 * browser.get(link[1])[1]
    return _told(first, numbers, turned, ordered, one, _peak(pid))


def _peak(pid: int) -> float:
    """The most memory a process has had, in MB."""
    found = re.search(r"VmHWM:\s*(\d+)", Path(f"/proc/{pid}/status").read_text())
    return int(found[1]) / 1024 if found else 0.0


def _view(folder: Path, chosen: argparse.Namespace) -> dict[str, float]:
    command = [sys.executable, "-P", "-m", "prime_hub", "view", str(folder)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as program:
        try:
            assert program.stdout is not None
            address = program.stdout.readline().strip()
            opened = Asked(address)
            browser = Asked(address, Cookie=opened.get(address[address.index("/?") :])[3])
            from prime_hub.viewing.runs import id_of

            found = _asked(browser, f"{PAGES}/{id_of(folder)}", chosen, program.pid)
            opened.close()
            browser.close()
            return found
        finally:
            program.terminate()


def _hub(folder: Path, chosen: argparse.Namespace, scratch: Path) -> dict[str, float]:
    with _serving(scratch) as (url, pid):
        key = (scratch / "hub" / "owner.token").read_text().strip()
        kept = {**os.environ, "PRIME_API_BASE_URL": url, "PRIME_API_KEY": key, "HOME": str(scratch)}
        command = [
            sys.executable,
            "-P",
            "-m",
            "prime_cli",
            "eval",
            "push",
            str(folder),
            "--run-id",
            "bench",
            "-o",
            "json",
        ]
        begun = time.perf_counter()
        done = subprocess.run(command, env=kept, stdout=subprocess.PIPE, text=True, check=True)
        took = time.perf_counter() - begun
        browser = Asked(url, Authorization=f"Bearer {key}")
        found = _asked(browser, f"{PAGES}/{json.loads(done.stdout)['evaluation_id']}", chosen, pid)
        browser.close()
        return {**found, "push s": took}


@contextmanager
def _serving(scratch: Path) -> Generator[tuple[str, int]]:
    """A Hub; its address and its process."""
    data, log = scratch / "hub", scratch / "hub.log"
    command = [sys.executable, "-P", "-m", "prime_hub", "serve", "--data-dir", str(data), "--port", "0"]
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PRIME_")}
    with log.open("wb") as output:
        hub = subprocess.Popen([*command, "--runtime", "process"], env=kept, stdout=output, stderr=output)
    try:
        deadline = time.monotonic() + START_SECONDS
        while not (data / "hub.json").exists():
            if hub.poll() is not None or time.monotonic() > deadline:
                raise Failed(f"The Hub did not start: {log.read_text(errors='replace')[-2000:]}")
            time.sleep(0.05)
        yield json.loads((data / "hub.json").read_text())["url"], hub.pid
    finally:
        hub.terminate()
        hub.wait(60)
        deadline = time.monotonic() + 60
        while (data / "runner" / "runner.json").exists() and time.monotonic() < deadline:
            time.sleep(0.1)


if __name__ == "__main__":
    sys.exit(main())

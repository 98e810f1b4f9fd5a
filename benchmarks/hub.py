"""The Hub's catalogue with 100,000 environments: search, list, index and detail; its index beside pypiserver."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Generator
from pathlib import Path
from statistics import median
from urllib.parse import quote, urlencode

from catalogue.asking import Client, quantile, rate, waits
from catalogue.filling import Filled, fill
from catalogue.peer import pypiserver
from official.scratch import Failed
from speed.cli import count, end_by_signals, tell
from speed.report import aligned

from prime_hub.db.migrate import migrate
from prime_hub.db.session import Database
from prime_hub.services.searching import prepare
from prime_hub.settings import Settings

RESULTS = Path(__file__).resolve().parent / "hub_results.md"
SHOP = 1_000
AT_ONCE = 8
GOALS = {"index": 20.0, "search": 50.0}
START_SECONDS = 120.0
MORE = """\
The environments are put into the database as if they had been published: 500 owners, a tenth private, invented words as frequent
and rare as in a language. Then a Hub is started and asked by HTTP on one connection, one request after the other. The index of 1,000
projects of one owner is then asked for by 8 connections, in turn with pypiserver that has the same projects.
"""


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="script/bench hub",
        description=__doc__,
        epilog=MORE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--environments", type=count, default=100_000, help="how many (default: %(default)s)")
    parser.add_argument("--requests", type=count, default=1_000, help="of each kind (default: %(default)s)")
    parser.add_argument("--rounds", type=count, default=5, help="beside pypiserver (default: %(default)s)")
    parser.add_argument("--database", help="an empty Postgres database (postgresql://…) instead of a file")
    parser.add_argument("--record", action="store_true", help=f"write the tables into benchmarks/{RESULTS.name}")
    chosen = parser.parse_args()
    end_by_signals()
    folder = Path(tempfile.mkdtemp(prefix="prime-bench-"))
    try:
        return _run(chosen, folder)
    except Failed as error:
        print(f"benchmarks/hub: {error}", file=sys.stderr)
        return 1
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _run(chosen: argparse.Namespace, folder: Path) -> int:
    address = chosen.database and "postgresql+asyncpg://" + chosen.database.partition("://")[2]
    settings = Settings(folder / "hub", database_url=address)
    settings.data_dir.mkdir()
    tell(f"Filling the database with {chosen.environments:,} environments ...")
    filled, took = asyncio.run(_filled(settings, chosen.environments))
    before = os.getloadavg()[0]
    with _hub(settings, folder) as url:
        rows = [["what", "p50 ms", "p99 ms", "slowest ms"]]
        reached: dict[str, float] = {}
        for what, paths in _kinds(filled, chosen.requests).items():
            tell(f"{what} ...")
            client = Client(url, filled.key if what.endswith("signed in") else None)
            waits(client, paths[:20])
            found = waits(client, paths)
            client.close()
            reached[what] = quantile(found, 0.99)
            rows.append([what, f"{quantile(found, 0.5):.1f}", f"{reached[what]:.1f}", f"{max(found):.1f}"])
        tell("The index beside pypiserver ...")
        with pypiserver(folder, filled.projects) as peer:
            pairs = _beside(url, peer, filled, chosen)
    ratios = sorted(mine / theirs for theirs, mine in pairs)
    against = [
        ["index of a project", "pypiserver requests/s", "ours requests/s", "ours/pypiserver", "of the rounds"],
        [
            f"{AT_ONCE} at once",
            *(f"{median(pair[side] for pair in pairs):.0f}" for side in (0, 1)),
            f"{median(ratios):.2f}",
            f"{ratios[0]:.2f}-{ratios[-1]:.2f}",
        ],
    ]
    kind = "Postgres" if chosen.database else "SQLite"
    head = f"{chosen.environments:,} environments on {kind}, {os.cpu_count()} cores, load average {before:.1f} before"
    text = [f"{head}; the search's documents of all of them were written in {took:.0f} s", "", *aligned(rows), ""]
    text += [*aligned(against), ""]
    for what, most in GOALS.items():
        worst = max(value for name, value in reached.items() if name.startswith(what))
        text.append(f"{'met' if worst < most else 'not met':>7}  p99 of {what} under {most:.0f} ms: {worst:.1f}")
    print("\n".join(text), flush=True)
    if chosen.record:
        RESULTS.write_text(
            "# The catalogue with very many environments\n\nWritten by `script/bench hub --record` on two cores, which Hub, peer and "
            "client share.\n\n```\n" + "\n".join(text) + "\n```\n"
        )
    return 0


async def _filled(settings: Settings, many: int) -> tuple[Filled, float]:
    database = Database(settings.database)
    try:
        await migrate(database.engine, settings.data_dir)
        filled = await fill(database, many, SHOP)
        began = time.monotonic()
        await prepare(database)
        return filled, time.monotonic() - began
    finally:
        await database.close()


def _kinds(filled: Filled, many: int) -> dict[str, list[str]]:
    """The paths of each kind of request."""
    chance = random.Random(7)
    api = "/api/v1/environmentshub"

    def searches() -> list[str]:
        return [f"{api}/?{urlencode(_question(filled, chance))}" for _ in range(many)]

    some = [chance.choice(filled.public) for _ in range(many)]
    return {
        "search": searches(),
        "search, signed in": searches(),
        "search, the most frequent words": [
            f"{api}/?{urlencode({'search': word})}" for word in (filled.words[:50] * many)[:many]
        ],
        "list": [f"{api}/?limit=24&offset={24 * chance.randint(0, 40)}" for _ in range(many)],
        "list by stars": [f"{api}/?limit=24&sort_by=stars&offset={24 * chance.randint(0, 40)}" for _ in range(many)],
        "home page with facets": [f"/?{urlencode({'q': chance.choice(filled.words[:2_000])})}" for _ in range(many)],
        "home page that finds nothing": [
            f"/?{urlencode({'q': _misspelt(chance.choice(filled.words[:2_000]), chance)})}" for _ in range(many)
        ],
        "index": [f"/{owner}/simple/{quote(name)}/" for owner, name in some],
        "index of an owner": [f"/{owner}/simple/" for owner, _ in some],
        "detail": [f"{api}/{owner}/{quote(name)}/@latest" for owner, name in some],
        "detail page": [f"/dashboard/environments/{owner}/{quote(name)}" for owner, name in some],
    }


def _misspelt(word: str, chance: random.Random) -> str:
    """A word with a letter too many."""
    at = chance.randint(1, len(word))
    return f"{word[:at]}q{word[at:]}"


def _question(filled: Filled, chance: random.Random) -> dict[str, str]:
    """What somebody may look for: one to three words, some cut short, sometimes with a tag."""
    words = [
        chance.choice(filled.words[: chance.choice((50, 500, 5_000, 20_000))]) for _ in range(chance.randint(1, 3))
    ]
    words[-1] = words[-1][: chance.randint(3, 12)]
    return {"search": " ".join(words), **({"tags": "math"} if chance.random() < 0.2 else {})}


def _beside(url: str, peer: str, filled: Filled, chosen: argparse.Namespace) -> list[tuple[float, float]]:
    paths = [f"/simple/{filled.projects[number % SHOP]}/" for number in range(chosen.requests)]
    ours = [f"/{filled.shop}{path}" for path in paths]
    pairs = []
    for number in range(chosen.rounds):
        sides = [lambda: rate(peer, paths, AT_ONCE), lambda: rate(url, ours, AT_ONCE)]
        order = (0, 1) if number % 2 == 0 else (1, 0)
        found = {side: sides[side]() for side in order}
        pairs.append((found[0], found[1]))
    return pairs


@contextlib.contextmanager
def _hub(settings: Settings, folder: Path) -> Generator[str]:
    """The Hub on that database; its address."""
    command = [sys.executable, "-m", "prime_hub", "serve", "--data-dir", str(settings.data_dir), "--port", "0"]
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PRIME_")}
    if settings.database_url:
        kept["PRIME_HUB_DATABASE_URL"] = settings.database_url
    log = folder / "hub.log"
    with log.open("wb") as output:
        hub = subprocess.Popen([*command, "--runtime", "process"], env=kept, stdout=output, stderr=output)
    try:
        deadline = time.monotonic() + START_SECONDS
        while not (settings.data_dir / "hub.json").exists():
            if hub.poll() is not None or time.monotonic() > deadline:
                raise Failed(f"The Hub did not start: {log.read_text(errors='replace')[-2000:]}")
            time.sleep(0.05)
        url = json.loads((settings.data_dir / "hub.json").read_text())["url"]
        yield url
    finally:
        hub.terminate()
        hub.wait(60)
        deadline = time.monotonic() + 60
        while (settings.data_dir / "runner" / "runner.json").exists() and time.monotonic() < deadline:
            time.sleep(0.1)


if __name__ == "__main__":
    sys.exit(main())

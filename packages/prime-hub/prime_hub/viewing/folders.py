"""The shelf of runs in folders: what `DatabaseShelf` does with a Hub's database, without one (`services.shelves`).

Folders are looked through again for every list, and a run is opened again when something was recorded in it, so loading a
page again shows what is new. What takes longer than a moment goes on behind the page, which says so.
"""

from __future__ import annotations

import asyncio
import json
from collections import OrderedDict
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

from prime_evals.comparison import compare_runs
from prime_evals.errors import EvalsError
from prime_evals.sources import find_folders
from prime_hub.errors import NotFound
from prime_hub.services.evaluation_samples import Listed
from prime_hub.services.evaluations import Wanted
from prime_hub.services.shelves import Card, Compared, Opened, Rollout
from prime_hub.viewing.runs import Run, id_of, opened, stamp_of, unreadable, waiting

T = TypeVar("T")
OPEN = 4
"""Runs whose columns are kept."""
KNOWN = 500
"""Runs whose numbers are kept."""
PATIENCE = 0.25
"""Seconds that a page waits for numbers before it is shown without them."""
LARGE = 20_000
"""Rollouts of a run whose numbers take longer than that, so that they are not waited for at all."""


class FolderShelf:
    """The runs at and under some folders."""

    mine = None

    def __init__(self, places: Sequence[Path]) -> None:
        self._places = [place.absolute() for place in places]
        self._runs: OrderedDict[Path, asyncio.Task[Run]] = OrderedDict()
        self._kept: OrderedDict[tuple[str, Path], tuple[tuple[int, ...], asyncio.Task[Any]]] = OrderedDict()
        self._folders: dict[str, Path] = {}
        # One for what pages wait for, one for what goes on behind them.
        self._now = ThreadPoolExecutor(2, "view")
        self._behind = ThreadPoolExecutor(1, "view-numbers")

    async def find(self, wanted: Wanted) -> tuple[Sequence[Card], int]:
        folders = await self._look()
        if wanted.environment or wanted.model:
            cards = await self._cards(folders)
            cards = [
                card
                for card in cards
                if (not wanted.model or card.model == wanted.model)
                and (not wanted.environment or wanted.environment in [place.slug for place in card.environments])
            ]
            return cards[wanted.skip : wanted.skip + wanted.limit], len(cards)
        return await self._cards(folders[wanted.skip : wanted.skip + wanted.limit]), len(folders)

    async def _look(self) -> list[Path]:
        folders = await self._in_thread(self._now, find_folders, self._places)
        self._folders = {id_of(folder): folder for folder in folders}
        return folders

    async def _cards(self, folders: Sequence[Path]) -> list[Card]:
        tasks = [self._keep("card", folder, self._card) for folder in folders]
        if tasks:
            await asyncio.wait(tasks, timeout=PATIENCE)
        return [task.result() if task.done() else waiting(folder) for folder, task in zip(folders, tasks, strict=True)]

    async def one(self, evaluation_id: str) -> Card:
        run = await self._run(evaluation_id)
        card = run.description()
        # What is open is not opened again for its numbers.
        task = self._keep("summary", run.folder, lambda _: run.summary())
        await asyncio.wait([task], timeout=PATIENCE if card.samples < LARGE else 0)
        if not task.done():
            return replace(card, summary=None, waiting=True)
        return replace(card, summary=task.result() if card.samples else None)

    async def rollouts(self, evaluation_id: str, listed: Listed) -> tuple[Sequence[Rollout], int]:
        run = await self._run(evaluation_id)

        def read() -> tuple[Sequence[Rollout], int]:
            places = run.places(listed)
            start = (listed.page - 1) * listed.limit
            return run.rows(places[start : start + listed.limit]), len(places)

        return await self._in_thread(self._now, read)

    async def rollout(self, evaluation_id: str, rollout_id: str) -> Opened:
        run = await self._run(evaluation_id)

        def read() -> Opened:
            place = run.place(rollout_id)
            row, sample = run.data(place)
            before, after = run.beside(place)
            return Opened(row, json.dumps(sample, ensure_ascii=False).encode("utf-8", "replace"), before, after)

        return await self._in_thread(self._now, read)

    async def log(self, evaluation_id: str) -> str | None:
        """None: no run in a folder is played by a Hub."""
        return None

    async def compare(self, first: str, second: str) -> Compared:
        before, after = await self._run(first), await self._run(second)

        def read() -> Compared:
            found = compare_runs(before.groups(), after.groups(), after.threshold)
            names = {**after.examples(), **before.examples()}
            return Compared(before.card(), after.card(), found, names, after.threshold)

        return await self._in_thread(self._now, read)

    async def _run(self, evaluation_id: str) -> Run:
        """The run, as it is now. Raises NotFound."""
        folder = self._folders.get(evaluation_id)
        if folder is None:
            await self._look()
            folder = self._folders.get(evaluation_id)
        if folder is None:
            raise NotFound("There is no such run in the folders that are shown; it may have been moved.")
        task = self._runs.get(folder)
        if task is not None and task.done() and (task.exception() or task.result().stamp != stamp_of(folder)):
            self._runs.pop(folder)
            task = None
        if task is None:
            task = self._runs[folder] = asyncio.ensure_future(self._in_thread(self._now, Run, folder))
        self._runs.move_to_end(folder)
        while len(self._runs) > OPEN:
            self._runs.popitem(last=False)
        try:
            return await asyncio.shield(task)
        except (EvalsError, OSError) as error:
            raise NotFound(str(error)) from None

    def _card(self, folder: Path) -> Card:
        task = self._runs.get(folder)
        if task is not None and task.done() and not task.exception() and task.result().stamp == stamp_of(folder):
            return task.result().card()
        try:
            with opened(folder) as run:
                return run.card()
        except (EvalsError, OSError, ValueError) as error:
            return unreadable(folder, str(error))

    def _keep(self, what: str, folder: Path, make: Callable[[Path], Any]) -> asyncio.Task[Any]:
        """What is made of a run, made once for each state of its folder."""
        key, stamp = (what, folder), stamp_of(folder)
        kept = self._kept.get(key)
        if kept is None or kept[0] != stamp:
            # While a run is played each look finds another state; what is being made is not begun anew before it is there.
            if kept is not None and not kept[1].done():
                return kept[1]
            kept = self._kept[key] = stamp, asyncio.ensure_future(self._in_thread(self._behind, make, folder))
        self._kept.move_to_end(key)
        while len(self._kept) > KNOWN:
            self._kept.popitem(last=False)
        return kept[1]

    async def _in_thread(self, where: ThreadPoolExecutor, function: Callable[..., T], *given: Any) -> T:
        return await asyncio.get_running_loop().run_in_executor(where, function, *given)

    def close(self) -> None:
        """End the threads; what they are at is not waited for."""
        for pool in (self._now, self._behind):
            pool.shutdown(wait=False, cancel_futures=True)

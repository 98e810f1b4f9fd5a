"""Episodes: seeds, isolation, ends. What a training run takes for granted of every episode."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable

from prime_core.checks.report import Verdict, failed, passed, skipped, warned
from verifiers.checking import loading
from verifiers.checking.case import Blocked, Case
from verifiers.checking.playing import REFUSED, Episode, Moment, play, replay, take
from verifiers.openenv.errors import ActionRejected, CapacityReached, NoAnswer, NoEpisode, SessionLost
from verifiers.openenv.session import Session, connect

SEED, OTHER = 1, 2
SEEDS = (1, 2, 3, 4)
NOT_SAME = "The same seed does not give the same first observation (seed-ignored), so there is nothing to compare with."


async def step_hangs(case: Case) -> Verdict:
    """Plays what the others look at; a step that is not answered is blamed on this id, wherever it is met."""
    episodes = [await case.episode(seed) for seed in SEEDS]
    return passed(steps_played=sum(len(episode.actions) for episode in episodes))


async def session_lost(case: Case) -> Verdict:
    for seed in SEEDS:
        await case.episode(seed)
    return passed()


async def action_errors(case: Case) -> Verdict:
    episodes = [await case.episode(seed) for seed in SEEDS]
    moments = [moment for episode in episodes for moment in episode.moments[1:]]
    errors = [moment for moment in moments if moment.code is not None and moment.code not in REFUSED]
    if not errors:
        return passed()
    told = f"{len(errors)} of {len(moments)} valid actions were answered by an error ({errors[0].code}: {errors[0].text[:200]})"
    change = (
        "Say what is wrong with a move in the observation, with a reward; an error is for what is no action at all."
    )
    if errors[0].code is not None and errors[0].code.startswith("HTTP_5"):
        return failed("action-errors", f"{told}.", f"{case.where}, step", change)
    return warned("action-errors", f"{told}.", f"{case.where}, step", change)


async def seed_ignored(case: Case) -> Verdict:
    for seed in (SEED, OTHER):
        episode = await case.episode(seed)
        async with case.playing(seed) as (_, again):
            if episode.moments[0].told() != again.moments[0].told():
                return failed(
                    "seed-ignored",
                    f"Two resets with seed {seed} gave two different first observations.",
                    f"{case.where}, reset",
                    "Make a random generator of your own from the seed in reset (random.Random(seed), "
                    "numpy.random.default_rng(seed)) and draw from it alone.",
                )
    return passed()


async def seed_half_used(case: Case) -> Verdict:
    episode = await _fair(case, SEED)
    for policy in ("random", "first"):
        episode = await case.episode(SEED, policy)
        async with case.playing(SEED) as (session, again):
            await replay(session, again, episode.actions, case.limits.request)
        number = again.parts_from(episode)
        if number is not None:
            what = _difference(episode, again, number)
            return failed(
                "seed-half-used",
                f"The same seed and the same actions gave another episode: {what} differs after step {number}.",
                f"{case.where}, step",
                "Draw all chance of an episode, that of step included, from the generator that reset made from the seed; "
                "never from the random module's own, the time, or the order of a set.",
            )
    return passed()


async def _fair(case: Case, seed: int) -> Episode:
    """An episode whose first observation comes again with its seed. Raises: Blocked."""
    verdict = await case.once("verdict seed-ignored", lambda: seed_ignored(case))
    if verdict.outcome != "pass":
        raise Blocked(NOT_SAME)
    return await case.episode(seed)


def _difference(first: Episode, second: Episode, number: int) -> str:
    if number >= min(len(first.moments), len(second.moments)):
        return "its length"
    mine, other = first.moments[number], second.moments[number]
    if mine.reward != other.reward:
        return "the reward"
    return "whether it is over" if mine.done != other.done else "the observation"


async def seeds_alike(case: Case) -> Verdict:
    await _fair(case, SEED)
    episodes = [await case.episode(seed) for seed in SEEDS]
    first = episodes[0]
    for seed, other in zip(SEEDS[1:], episodes[1:], strict=True):
        if first.moments[0].told() != other.moments[0].told():
            return passed()
        async with case.playing(seed) as (session, again):
            await replay(session, again, first.actions, case.limits.request)
        if again.parts_from(first) is not None:
            return passed()
    return warned(
        "seeds-alike",
        f"The episodes of {len(SEEDS)} different seeds are all the same.",
        f"{case.where}, reset",
        "Let the seed choose the task or the start; an environment that has only one task does not need a second row.",
    )


async def sessions_share_state(case: Case) -> Verdict:
    mine = await _fair(case, SEED)
    its = await case.episode(OTHER)
    if case.dialect == "http":
        return skipped("A plain HTTP server plays one episode at a time; evaluations start one server for each.")
    steady = await case.once("verdict seed-half-used", lambda: seed_half_used(case))
    if steady.outcome != "pass":
        raise Blocked("The same episode does not come out the same when it is alone (seed-half-used).")
    async with case.playing(SEED) as (session, one):
        try:
            async with asyncio.timeout(case.limits.request):
                other, two = await _second(case)
        except (CapacityReached, TimeoutError):
            return skipped("The server takes one session at a time.", sessions_at_once=1)
        try:
            # In turns, and the second one begun and ended in the middle of the first.
            for number in range(max(len(mine.actions), len(its.actions))):
                for place, episode, plan in ((session, one, mine), (other, two, its)):
                    if number < len(plan.actions) and not episode.done:
                        await take(place, episode, plan.actions[number], case.limits.request)
        finally:
            await other.close()
    for episode, alone in ((one, mine), (two, its)):
        number = episode.parts_from(alone)
        if number is not None:
            return failed(
                "sessions-share-state",
                f"Two sessions at once disturb each other: with seed {alone.seed}, {_difference(alone, episode, number)} "
                f"after step {number} is another one than when it is played alone.",
                case.where,
                "Keep everything of an episode in the environment object (self.…), nothing in globals, class attributes or "
                "files of a fixed name; or take one session at a time.",
            )
    return passed()


async def _second(case: Case) -> tuple[Session, Episode]:
    """One more session beside the others, and its episode. Raises: SessionLost, CapacityReached."""
    started = await case.server()
    session = await connect(
        started.running.url, started.client, socket_path=started.running.socket_path, dialect=case.dialect
    )
    try:
        return session, Episode(OTHER, [Moment.of(await session.reset(OTHER, timeout=case.limits.request))])
    except BaseException:
        await session.close()
        raise


async def reset_leaks(case: Case) -> Verdict:
    fresh = await _fair(case, OTHER)
    moves = await case.moves()
    async with case.playing(SEED) as (session, episode):
        until = time.monotonic() + case.limits.long_seconds
        await play(session, episode, moves, "random", 2, case.limits.request, until)
        try:
            result = await session.reset(OTHER, timeout=case.limits.request)
        except NoAnswer:
            raise
        except SessionLost as error:
            return failed(
                "reset-leaks",
                f"A reset in the middle of an episode fails: {error}",
                f"{case.where}, reset",
                "Let reset throw away the running episode and begin a new one.",
            )
    again = type(fresh.moments[0]).of(result)
    if again.told() == fresh.moments[0].told():
        return passed()
    return failed(
        "reset-leaks",
        f"After a reset in the middle of an episode the first observation of seed {OTHER} is another one than in a new "
        "session.",
        f"{case.where}, reset",
        "Set everything anew in reset: step counts, scores, the state that step changes.",
    )


async def step_after_done(case: Case) -> Verdict:
    ended = await _ended(case)
    if ended is None:
        return skipped("No episode came to its end.")
    async with case.playing(ended.seed) as (session, episode):
        await replay(session, episode, ended.actions, case.limits.request)
        if not episode.done:
            raise Blocked("The episode did not end when it was played again (seed-half-used).")
        try:
            result = await session.step(ended.actions[-1], case.limits.request)
        except ActionRejected as error:
            if error.code.startswith("HTTP_5"):
                return warned(
                    "step-after-done",
                    f"A step after the end is answered by {error.code.replace('_', ' ')}.",
                    f"{case.where}, step",
                    "Answer with done again and no reward, or refuse it with 409.",
                )
            return passed()
        except NoEpisode:
            return passed()
        except SessionLost as error:
            gone = await case.lost()
            return failed(
                "step-after-done",
                f"A step after the end of the episode ends the session: {error}" + (f" {gone}" if gone else ""),
                f"{case.where}, step",
                "Answer with done again and no reward, or refuse it.",
            )
    if result.done and not result.reward:
        return passed()
    what = "earns another reward" if result.reward else "is answered as if the episode went on"
    return warned(
        "step-after-done",
        f"A step after the end of the episode {what}.",
        f"{case.where}, step",
        "Remember that the episode is over; answer with done again and no reward, or refuse the step.",
    )


async def _ended(case: Case) -> Episode | None:
    """An episode that came to its end and had a step; None when there is none among those that were played."""
    for policy in ("random", "first"):
        for seed in SEEDS:
            episode = await case.episode(seed, policy)
            if episode.done and episode.actions:
                return episode
    return None


async def episode_endless(case: Case) -> Verdict:
    ended = await _ended(case)
    if ended is not None:
        return passed(steps_to_the_end=len(ended.actions))
    episode = await case.episode(SEED, "random", case.limits.long_steps)
    if episode.done:
        return passed(steps_to_the_end=len(episode.actions))
    if not (case.target.folder or case.target.module):
        return skipped(
            f"It was not over after {len(episode.actions)} steps; whether max_turns ends it is for the environment to say."
        )
    told = await loading.loaded(case)
    if (told.of("loaded")[0]["max_turns"] or 0) > 0:
        return passed(steps_without_an_end=len(episode.actions), max_turns=told.of("loaded")[0]["max_turns"])
    return warned(
        "episode-endless",
        f"An episode with random actions was not over after {len(episode.actions)} steps, and the environment sets no max_turns.",
        f"{case.where}, step",
        "Let the server say done after so many steps, or give OpenEnvEnv a max_turns.",
        steps_without_an_end=len(episode.actions),
    )


CHECKS: dict[str, Callable[[Case], Awaitable[Verdict]]] = {
    "step-hangs": step_hangs,
    "session-lost": session_lost,
    "action-errors": action_errors,
    "seed-ignored": lambda case: case.once("verdict seed-ignored", lambda: seed_ignored(case)),
    "seed-half-used": lambda case: case.once("verdict seed-half-used", lambda: seed_half_used(case)),
    "seeds-alike": seeds_alike,
    "sessions-share-state": sessions_share_state,
    "reset-leaks": reset_leaks,
    "step-after-done": step_after_done,
    "episode-endless": episode_endless,
}

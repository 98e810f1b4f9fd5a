"""From a run of an environment to its folder: identity, versions, place."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from prime_evals import AttemptStore, RunIdentity, RunSettings, derive, new_run_path
from verifiers import __version__
from verifiers.evaluation.outputs import jsonable
from verifiers.loading import environment_version
from verifiers.utils.urls import shown_url

if TYPE_CHECKING:
    from verifiers.envs.environment import Environment


ADDRESSES = frozenset({"server_url"})
"""Arguments of environments that say where something listens, and not what is played (OpenEnvEnv)."""


def identity_of(env: Environment, model: str, sampling_args: Mapping[str, Any] | None) -> RunIdentity:
    """What makes this run the same run."""
    name = env.env_id or type(env).__name__
    return RunIdentity(
        env_id=name,
        env_version=environment_version(name),
        env_args={key: value for key, value in jsonable(env.env_args).items() if key not in ADDRESSES},
        model=model,
        sampling_args=jsonable(dict(sampling_args or {})),
    )


def settings_of(
    env: Environment, rows: Sequence[Mapping[str, Any]], state_columns: Sequence[str] | None = None, base_url: str = ""
) -> RunSettings:
    """How much is run, and what metadata.json says about it."""
    name = env.env_id or type(env).__name__
    return RunSettings(
        num_examples=len({row["example_id"] for row in rows}),
        rollouts_per_example=max((row["rollout_index"] + 1 for row in rows), default=1),
        pass_threshold=env.pass_threshold,
        details={
            "base_url": base_url,
            "version_info": {"vf_version": __version__, "env_version": environment_version(name)},
            "state_columns": list(state_columns or ()),
            "tools": jsonable(env.tool_defs),
            **{name: shown_url(str(value)) for name, value in env.env_args.items() if name in ADDRESSES and value},
        },
    )


def open_store(
    env: Environment,
    rows: Sequence[Mapping[str, Any]],
    model: str,
    sampling_args: Mapping[str, Any] | None = None,
    results_path: str | Path | None = None,
    state_columns: Sequence[str] | None = None,
    base_url: str = "",
) -> AttemptStore:
    """The store of this run; continues the same run where `results_path` holds one. Raises what AttemptStore raises."""
    identity = identity_of(env, model, sampling_args)
    path = Path(results_path) if results_path else new_run_path(Path("outputs"), identity.env_id, model)
    return AttemptStore(path, identity, settings_of(env, rows, state_columns, base_url))


def close_store(store: AttemptStore) -> dict[str, Any]:
    """Derive the official files and let go of the folder; gives the metadata."""
    try:
        return derive(store.directory)
    finally:
        store.close()

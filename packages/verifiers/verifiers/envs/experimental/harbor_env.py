"""HarborEnv is left out; importing this says why."""

from verifiers.left_out import REASONS

raise ImportError(f"verifiers.HarborEnv is left out: {REASONS['HarborEnv']}", name=__name__)

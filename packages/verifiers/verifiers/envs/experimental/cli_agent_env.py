"""CliAgentEnv is left out; importing this says why."""

from verifiers.left_out import REASONS

raise ImportError(f"verifiers.CliAgentEnv is left out: {REASONS['CliAgentEnv']}", name=__name__)

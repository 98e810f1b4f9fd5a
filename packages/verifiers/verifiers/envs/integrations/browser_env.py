"""BrowserEnv is left out; importing this says why."""

from verifiers.left_out import REASONS

raise ImportError(f"verifiers.BrowserEnv is left out: {REASONS['BrowserEnv']}", name=__name__)

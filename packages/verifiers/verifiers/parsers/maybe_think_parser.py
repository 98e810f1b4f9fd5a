"""Where environments import MaybeThinkParser from."""

from verifiers.parsers.think_parser import MaybeThinkParser

__all__ = ["MaybeThinkParser"]

"""Checks of environments: is this one right? `prime env check` and the Hub's own check are made of this.

No language model takes part, and no code of the environment runs in this process.
"""

from prime_core.checks.registry import CHECKS, GROUPS, Check, UnknownCheck, find
from prime_core.checks.report import SCHEMA_VERSION, Finding, Report, Result, Verdict
from verifiers.checking.case import Limits, Target
from verifiers.checking.run import Progress, chosen, run
from verifiers.checking.targets import of_folder, of_server, of_version

__all__ = [
    "CHECKS",
    "GROUPS",
    "SCHEMA_VERSION",
    "Check",
    "Finding",
    "Limits",
    "Progress",
    "Report",
    "Result",
    "Target",
    "UnknownCheck",
    "Verdict",
    "chosen",
    "find",
    "of_folder",
    "of_server",
    "of_version",
    "run",
]

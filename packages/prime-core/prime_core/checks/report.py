"""What a check has found: one result a check, and the report that holds them (JSON, `schema_version` 1)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Literal, Self

from prime_core.checks.registry import CHECKS, GROUPS

SCHEMA_VERSION = 1
Outcome = Literal["pass", "warn", "fail", "skip"]
OUTCOMES: tuple[Outcome, ...] = ("pass", "warn", "fail", "skip")
PASSED, FAILED, USAGE = 0, 1, 2
INTERRUPTED = 130


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is wrong: a sentence about what, where it is, and what to change."""

    id: str
    sentence: str
    where: str
    change: str

    def as_dict(self) -> dict[str, str]:
        """As JSON."""
        return {"id": self.id, "sentence": self.sentence, "where": self.where, "change": self.change}


@dataclass(frozen=True, slots=True)
class Verdict:
    """What one check says: its outcome, facts (numbers with their unit in the name), what is wrong, why it was skipped."""

    outcome: Outcome
    facts: Mapping[str, Any] = field(default_factory=dict)
    findings: tuple[Finding, ...] = ()
    why: str | None = None


@dataclass(frozen=True, slots=True)
class Result:
    """A verdict with the id of its check and the seconds that it took."""

    id: str
    verdict: Verdict
    seconds: float = 0.0

    def as_dict(self) -> dict[str, Any]:
        """As JSON."""
        check = CHECKS[self.id]
        return {
            "id": self.id,
            "group": check.group,
            "title": check.title,
            "outcome": self.verdict.outcome,
            "seconds": round(self.seconds, 3),
            "facts": dict(self.verdict.facts),
            "why": self.verdict.why,
            "findings": [finding.as_dict() for finding in self.verdict.findings],
        }


def passed(**facts: Any) -> Verdict:
    """All right."""
    return Verdict("pass", facts)


def skipped(why: str, **facts: Any) -> Verdict:
    """Not made; `why` is a sentence."""
    return Verdict("skip", facts, why=why)


def failed(id: str, sentence: str, where: str, change: str, **facts: Any) -> Verdict:
    """Wrong, with one finding."""
    return Verdict("fail", facts, (Finding(id, _ended(sentence), where, change),))


def warned(id: str, sentence: str, where: str, change: str, **facts: Any) -> Verdict:
    """Not wrong, but advice, with one finding."""
    return Verdict("warn", facts, (Finding(id, _ended(sentence), where, change),))


def _ended(sentence: str) -> str:
    """What others have said may end without a full stop; a log is left as it is."""
    return sentence if sentence.endswith((".", "!", "?")) or "\n" in sentence else f"{sentence}."


@dataclass(slots=True)
class Report:
    """All results of one run, in the order of the registry.

    `environment` holds what was checked, as far as it is known: name, version, owner, folder, image, image_digest,
    contract, dialect, server. `part` is "quick", "full" or "only".
    """

    part: str
    environment: dict[str, Any] = field(default_factory=dict)
    results: dict[str, Result] = field(default_factory=dict)
    started: datetime = field(default_factory=lambda: datetime.now(UTC))
    seconds: float = 0.0
    complete: bool = True
    checker: str = ""
    """What made it, and its version."""

    def add(self, result: Result) -> None:
        """Take a result up. The first one of an id stays, but for a failure that was met later."""
        known = self.results.get(result.id)
        if known is None or (known.verdict.outcome != "fail" and result.verdict.outcome == "fail"):
            self.results[result.id] = result

    @property
    def ordered(self) -> list[Result]:
        """The results in the order of the registry."""
        return [self.results[name] for name in CHECKS if name in self.results]

    def ids(self, *outcomes: Outcome) -> set[str]:
        """The ids of the checks with one of these outcomes."""
        return {result.id for result in self.results.values() if result.verdict.outcome in outcomes}

    def findings(self, *outcomes: Outcome) -> list[Finding]:
        """What was found by checks with these outcomes (default: fail and warn)."""
        wanted = outcomes or ("fail", "warn")
        return [
            finding
            for result in self.ordered
            if result.verdict.outcome in wanted
            for finding in result.verdict.findings
        ]

    @property
    def counts(self) -> dict[str, int]:
        """How many checks had each outcome."""
        counted = Counter(result.verdict.outcome for result in self.results.values())
        return {outcome: counted[outcome] for outcome in OUTCOMES}

    @property
    def outcome(self) -> Outcome:
        """ "fail" when a check failed, else "warn" when one warned, else "pass"; "skip" when none was made."""
        counts = self.counts
        return next((outcome for outcome in ("fail", "warn", "pass") if counts[outcome]), "skip")

    @property
    def exit_code(self) -> int:
        """0, or 1 when a check failed. Warnings do not count, nor does what was skipped."""
        return FAILED if self.ids("fail") else PASSED

    @property
    def facts(self) -> dict[str, Any]:
        """The facts of all checks together."""
        return {name: value for result in self.ordered for name, value in result.verdict.facts.items()}

    def as_dict(self) -> dict[str, Any]:
        """The report as JSON; `from_dict` reads it."""
        return {
            "schema_version": SCHEMA_VERSION,
            "checker": self.checker,
            "environment": dict(self.environment),
            "part": self.part,
            "complete": self.complete,
            "started": self.started.isoformat(timespec="seconds"),
            "seconds": round(self.seconds, 3),
            "outcome": self.outcome,
            "counts": self.counts,
            "facts": self.facts,
            "groups": list(GROUPS),
            "checks": [result.as_dict() for result in self.ordered],
        }

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> Self:
        """Read a report. Ids that are not known here are left out. Raises ValueError for another schema_version, KeyError
        and TypeError for what is no report.
        """
        if content.get("schema_version") != SCHEMA_VERSION:
            raise ValueError(
                f"This report has schema_version {content.get('schema_version')!r}; only {SCHEMA_VERSION} is known here."
            )
        report = cls(
            str(content["part"]),
            dict(content["environment"]),
            started=datetime.fromisoformat(content["started"]),
            seconds=float(content["seconds"]),
            complete=bool(content["complete"]),
            checker=str(content.get("checker") or ""),
        )
        for item in _known(content["checks"]):
            findings = tuple(Finding(**finding) for finding in item["findings"])
            verdict = Verdict(item["outcome"], dict(item["facts"]), findings, item["why"])
            report.add(Result(item["id"], verdict, float(item["seconds"])))
        return report


def _known(checks: Iterable[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    return [item for item in checks if item["id"] in CHECKS and item["outcome"] in OUTCOMES]

"""The report: its JSON is read back as it was, its exit code is what failed."""

from __future__ import annotations

import json

import pytest

from prime_core.checks.report import failed, passed, skipped, warned
from verifiers.checking import SCHEMA_VERSION, Report, Result, UnknownCheck, Verdict, chosen, find


def report(*results: Result) -> Report:
    made = Report("full", {"name": "guess", "version": "0.1.0"})
    for result in results:
        made.add(result)
    return made


SEED = Result("seed-ignored", failed("seed-ignored", "Two resets differ", "reset", "Use the seed."), 0.25)
FINE = Result("step-slow", passed(step_seconds_median=0.001), 0.5)
ADVICE = Result("tags-missing", warned("tags-missing", "There are none.", "pyproject.toml", "Write some."))
LEFT_OUT = Result("memory-leak", skipped("It cannot be seen."))


def test_it_is_read_as_it_was_written():
    written = json.loads(json.dumps(report(FINE, SEED, LEFT_OUT, ADVICE).as_dict()))
    assert written["schema_version"] == SCHEMA_VERSION == 1
    assert written["counts"] == {"pass": 1, "warn": 1, "fail": 1, "skip": 1} and written["outcome"] == "fail"
    assert [check["id"] for check in written["checks"]] == ["tags-missing", "seed-ignored", "memory-leak", "step-slow"]
    assert written["checks"][1]["findings"] == [
        {"id": "seed-ignored", "sentence": "Two resets differ.", "where": "reset", "change": "Use the seed."}
    ]
    assert written["checks"][2]["why"] == "It cannot be seen." and written["facts"] == {"step_seconds_median": 0.001}
    assert Report.from_dict(written).as_dict() == written


def test_what_another_version_wrote_is_refused_and_unknown_checks_are_left_out():
    written = report(SEED).as_dict()
    with pytest.raises(ValueError, match="schema_version 2; only 1 is known here"):
        Report.from_dict({**written, "schema_version": 2})
    newer = {**written["checks"][0], "id": "a-check-of-tomorrow"}
    assert Report.from_dict({**written, "checks": [*written["checks"], newer]}).ids("fail") == {"seed-ignored"}


@pytest.mark.parametrize(
    ("results", "outcome", "code"),
    [
        ([FINE, LEFT_OUT], "pass", 0),
        ([FINE, ADVICE], "warn", 0),
        ([FINE, ADVICE, SEED], "fail", 1),
        ([LEFT_OUT], "skip", 0),
    ],
)
def test_only_what_failed_counts(results, outcome, code):
    assert report(*results).outcome == outcome and report(*results).exit_code == code


def test_the_first_result_of_a_check_stays():
    made = report(SEED, Result("seed-ignored", Verdict("pass")))
    assert made.ids("fail") == {"seed-ignored"} and len(made.findings()) == 1


def test_checks_are_chosen_by_id_and_a_misspelt_one_is_told():
    assert [check.id for check in chosen(only=["memory-leak", "seed-ignored"])] == ["seed-ignored", "memory-leak"]
    assert all(check.group == "package" for check in chosen(quick=True)) and len(chosen(quick=True)) == 10
    with pytest.raises(UnknownCheck, match=r"There is no check 'seed-ignord'. Did you mean seed-ignored\?"):
        find("seed-ignord")

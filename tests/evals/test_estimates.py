"""Intervals, tests and bins, beside values that scipy 1.17 gave for the same questions; and the edges of each."""

from __future__ import annotations

import math
import random

import pytest

from prime_evals.comparison import compare_runs, unlike
from prime_evals.distributions import fair_coin, t_quantile, t_within
from prime_evals.estimates import by_example, clustered_mean, number, pass_at_k, powers_of_two, wilson
from prime_evals.summaries import Summary, histogram, summarize_rollouts

# scipy.stats.t.cdf(b, df) - scipy.stats.t.cdf(-b, df)
T_WITHIN = [
    (0.3, 1, 0.18554715815548461),
    (2.5, 1, 0.7577621168183133),
    (6.0, 1, 0.8948630865774931),
    (0.3, 2, 0.20751433915982243),
    (2.5, 2, 0.8703882797784892),
    (6.0, 2, 0.9733285267845753),
    (0.3, 3, 0.21623670796008104),
    (2.5, 3, 0.9122933529919344),
    (6.0, 3, 0.9907272851077153),
    (0.3, 4, 0.22087857172254027),
    (2.5, 4, 0.9332334551880119),
    (6.0, 4, 0.9961174629530394),
    (0.3, 5, 0.22375095773672543),
    (2.5, 5, 0.9455099006576237),
    (6.0, 5, 0.998153861710406),
    (0.3, 30, 0.23375389471564723),
    (2.5, 30, 0.9818843509319333),
    (6.0, 30, 0.9999986057231234),
    (0.3, 99, 0.23519383825974266),
    (2.5, 99, 0.985937403078851),
    (6.0, 99, 0.9999999675408389),
    (0.3, 2000, 0.2357916680135284),
    (2.5, 2000, 0.9875011474018867),
    (6.0, 2000, 0.9999999976637577),
    (0.3, 2001, 0.23579168359287594),
    (2.5, 2001, 0.9875011871913069),
    (6.0, 2001, 0.9999999976639526),
    (0.3, 5000, 0.2358103733305566),
    (2.5, 5000, 0.9875488838002788),
    (6.0, 5000, 0.9999999978879037),
]
# scipy.stats.t.ppf((1 + c) / 2, df)
T_QUANTILE = [
    (0.5, 1, 1.0000000000000002),
    (0.95, 1, 12.706204736174694),
    (0.99, 1, 63.656741162871526),
    (0.5, 2, 0.8164965809277261),
    (0.95, 2, 4.302652729749462),
    (0.99, 2, 9.924843200918287),
    (0.5, 3, 0.7648923284043444),
    (0.95, 3, 3.1824463052837078),
    (0.99, 3, 5.840909309733355),
    (0.5, 10, 0.6998120613124317),
    (0.95, 10, 2.228138851986274),
    (0.99, 10, 3.16927267261695),
    (0.5, 99, 0.6769759855461531),
    (0.95, 99, 1.9842169515864174),
    (0.99, 99, 2.626405457280827),
    (0.5, 2000, 0.6746124375310217),
    (0.95, 2000, 1.9611508260994377),
    (0.99, 2000, 2.5782897875575186),
    (0.5, 2001, 0.6746123762080853),
    (0.95, 2001, 1.9611502326224413),
    (0.99, 2001, 2.578288556825569),
]
# scipy.stats.binomtest(heads, heads + tails).pvalue
COIN = [(0, 5, 0.0625), (3, 9, 0.14599609375), (10, 10, 1.0), (1, 0, 1.0), (40, 60, 0.05688793364098089), (7, 8, 1.0)]
# scipy.stats.binomtest(k, n).proportion_ci(method="wilson")
WILSON = [
    (0.0, 10, 0.0, 0.27753279986288926),
    (0.3, 10, 0.10779126740630102, 0.6032218525388546),
    (1.0, 10, 0.7224672001371109, 1.0),
    (1.0, 1, 0.20654931437723745, 1.0),
    (0.25, 200, 0.19508168006817497, 0.31434098312045833),
]
FIRST, SECOND = [0.1, 0.5, 0.9, 0.3, 0.7, 0.2], [0.3, 0.5, 0.8, 0.6, 0.9, 0.4]
# scipy.stats.ttest_rel(SECOND, FIRST): p, and its confidence interval
PAIRED = (0.08221518307764485, -0.02466395676505706, 0.2913306234317237)
# scipy.stats.ttest_1samp(FIRST, 0).confidence_interval()
MEAN = (0.12654221231052432, 0.7734577876894757)


@pytest.mark.parametrize(("bound", "freedom", "expected"), T_WITHIN)
def test_students_t(bound: float, freedom: int, expected: float) -> None:
    assert t_within(bound, freedom) == pytest.approx(expected, abs=2e-8)


@pytest.mark.parametrize(("confidence", "freedom", "expected"), T_QUANTILE)
def test_its_quantiles(confidence: float, freedom: int, expected: float) -> None:
    assert t_quantile(confidence, freedom) == pytest.approx(expected, rel=1e-7)


def test_what_is_no_question_to_it() -> None:
    for wrong in (lambda: t_within(1, 0), lambda: t_within(-1, 3), lambda: t_quantile(1.0, 3)):
        with pytest.raises(ValueError, match=r"takes at least one degree|lies between 0 and 1"):
            wrong()
    assert t_within(math.inf, 3) == 1.0


@pytest.mark.parametrize(("heads", "tails", "expected"), COIN)
def test_a_fair_coin(heads: int, tails: int, expected: float) -> None:
    assert fair_coin(heads, tails) == pytest.approx(expected)


@pytest.mark.parametrize(("share", "count", "low", "high"), WILSON)
def test_wilson(share: float, count: int, low: float, high: float) -> None:
    assert wilson(share, count) == pytest.approx((low, high))


def test_single_rollouts_are_students_interval() -> None:
    found = clustered_mean({example: [value] for example, value in enumerate(FIRST)})
    assert found is not None and (found.low, found.high) == pytest.approx(MEAN)
    assert (found.count, found.clusters) == (6, 6)


def test_rollouts_of_one_example_are_no_further_evidence() -> None:
    """Each value three times over tells nothing more, and the interval says so."""
    once = clustered_mean({example: [value] for example, value in enumerate(FIRST)})
    thrice = clustered_mean({example: [value] * 3 for example, value in enumerate(FIRST)})
    assert once is not None and thrice is not None
    assert (thrice.value, thrice.standard_error) == pytest.approx((once.value, once.standard_error))
    assert (thrice.low, thrice.high) == pytest.approx((once.low, once.high)) and thrice.count == 18


def test_the_interval_covers_as_often_as_it_says() -> None:
    """Rewards with a part that all rollouts of an example share: independent ones would cover far less."""
    chance = random.Random(7)
    covered = 0
    for _ in range(400):
        groups = {}
        for example in range(20):
            level = chance.gauss(0.5, 0.3)
            groups[example] = [chance.gauss(level, 0.1) for _ in range(chance.randint(1, 8))]
        found = clustered_mean(groups)
        assert found is not None and found.low is not None and found.high is not None
        covered += found.low <= 0.5 <= found.high
    assert 0.90 <= covered / 400 <= 0.985


def test_the_edges_of_a_mean() -> None:
    assert clustered_mean({}) is None and clustered_mean({1: []}) is None
    alone = clustered_mean({1: [0.3, 0.5]})
    assert alone is not None and (alone.value, alone.low, alone.standard_error) == (0.4, None, None)
    same = clustered_mean({example: [0.1 + 0.2] for example in range(5)})
    assert same is not None and same.low == pytest.approx(same.high) == pytest.approx(0.3)
    every = clustered_mean({example: [1.0] for example in range(10)})
    assert every is not None and (every.low, every.high) == pytest.approx((WILSON[2][2], 1.0))
    one = clustered_mean({1: [1.0]})
    assert one is not None and one.low is not None and one.low < 0.3, "one success proves little"
    bounded = clustered_mean({1: [1.0, 1.0], 2: [1.0, 1.0], 3: [1.0, 0.0]})
    assert bounded is not None and bounded.high == 1.0


def test_what_is_a_number() -> None:
    assert [number(one) for one in (True, False, 2, 0.5)] == [1.0, 0.0, 2.0, 0.5]
    assert [number(one) for one in (None, math.nan, math.inf, "1", [], 10**400)] == [None] * 6
    assert by_example([("a", True), ("a", None), ("b", math.nan), ("a", 0)]) == {"a": [1.0, 0.0]}


def test_pass_at_k() -> None:
    groups = {1: [1.0, 0.0, 0.0, 0.0], 2: [1.0, 1.0, 1.0, 1.0], 3: [0.0, 0.0, 0.0, 0.0], 4: [1.0]}
    some, every = pass_at_k(groups, 2), pass_at_k(groups, 2, every=True)
    assert some is not None and some.value == pytest.approx((0.5 + 1 + 0) / 3) and some.clusters == 3
    assert every is not None and every.value == pytest.approx(1 / 3)
    assert some.low is not None and 0.0 <= some.low <= some.value <= (some.high or 0) <= 1.0
    first = pass_at_k(groups, 1)
    assert first is not None and first.clusters == 4
    assert pass_at_k(groups, 8) is None and pass_at_k({}, 1) is None
    sure = pass_at_k({example: [1.0, 1.0] for example in range(4)}, 2)
    assert sure is not None and sure.value == 1.0 and sure.low is not None and sure.low < 0.6
    assert powers_of_two(0) == [] and powers_of_two(6) == [1, 2, 4] and powers_of_two(8) == [1, 2, 4, 8]


def test_two_runs_are_paired() -> None:
    before = {example: [value] for example, value in enumerate(FIRST)}
    after = {example: [value] for example, value in enumerate(SECOND)}
    found = compare_runs(before, after)
    assert found.difference is not None and found.p_value == pytest.approx(PAIRED[0])
    assert (found.difference.low, found.difference.high) == pytest.approx(tuple(PAIRED[1:]))
    assert (found.gained, found.lost) == ([3], [])
    back = compare_runs(after, before)
    assert back.difference is not None and back.difference.value == pytest.approx(-found.difference.value)
    assert back.p_value == pytest.approx(found.p_value) and back.lost == [3]


def test_the_edges_of_a_comparison() -> None:
    nothing = compare_runs({1: [1.0], 2: []}, {3: [1.0], 2: [1.0]})
    assert (nothing.difference, nothing.p_value, nothing.pairs) == (None, None, [])
    assert (nothing.only_before, nothing.only_after) == ([1], [3, 2])
    one = compare_runs({1: [0.0]}, {1: [1.0]})
    assert one.difference is not None and (one.difference.value, one.difference.low) == (1.0, None)
    assert one.p_value is None and one.gained == [1]
    same = compare_runs({1: [1.0], 2: [0.0]}, {1: [1.0], 2: [0.0]})
    assert (same.p_value, same.flips_p_value, same.gained, same.lost) == (1.0, 1.0, [], [])
    alike = compare_runs({n: [0.0] for n in range(8)}, {n: [1.0] for n in range(8)})
    assert alike.p_value == pytest.approx(2 / 2**8) and alike.flips_p_value == pytest.approx(2 / 2**8)
    half = compare_runs({1: [1.0, 0.0], 2: [0.0, 0.0]}, {1: [0.0, 0.0], 2: [1.0, 0.0]})
    assert (half.lost, half.gained) == ([1], [2]), "half of an example's rollouts are enough to pass"
    binary = compare_runs({n: [0.0] for n in range(4)}, {0: [1.0], 1: [0.0], 2: [0.0], 3: [0.0]})
    assert binary.difference is not None and binary.difference.low is not None and binary.difference.low < 0
    assert binary.to_dict()["common_examples"] == 4


def test_bins() -> None:
    assert histogram([]) == []
    inside = histogram([0.0, 0.05, 0.1, 1.0, 0.999])
    assert [one.count for one in inside] == [2, 1, *[0] * 7, 2] and (inside[0].low, inside[-1].high) == (0.0, 1.0)
    assert [one.count for one in histogram([3.0, 3.0])] == [2]
    wide = histogram([-1e308, 1e308])
    assert [wide[0].count, wide[-1].count] == [1, 1] and all(math.isfinite(one.low) for one in wide)
    assert sum(one.count for one in histogram([-5.0, 7.5, 7.5, 0.0])) == 4


def test_a_summary_of_everything() -> None:
    told = summarize_rollouts(
        [
            {"example_id": 1, "reward": True, "metrics": {"a": 1, "b": None}, "token_usage": {"output_tokens": 3}},
            {
                "example_id": 1,
                "reward": 0.0,
                "metrics": {"a": math.nan},
                "timing": {"total": 2.0},
                "stop_condition": "x",
            },
            {"example_id": 2, "reward": None, "metrics": {"a": 9}, "error": {"error": "Boom", "message": "it broke"}},
            {"example_id": 3, "reward": math.nan, "error": "text", "is_truncated": True},
        ]
    )
    assert (told["num_rollouts"], told["num_scored"], told["num_examples"], told["num_errors"]) == (4, 2, 3, 2)
    assert told["reward"]["value"] == 0.5 and told["metrics"]["a"]["count"] == 1 and "b" not in told["metrics"]
    assert told["pass_at_k"]["2"]["value"] == 1.0 and told["pass_all_k"]["2"]["value"] == 0.0
    assert {one["error"]: one["message"] for one in told["errors"]} == {"Boom": "it broke", "Error": "text"}
    assert told["amounts"]["output_tokens"]["total"] == 3 and told["amounts"]["seconds"]["mean"] == 2.0
    assert told["num_truncated"] == 1 and told["stop_conditions"] == {"x": 1}


def test_a_summary_of_nothing() -> None:
    told = Summary().told()
    assert (told["reward"], told["passed"], told["histogram"], told["pass_at_k"]) == (None, None, [], {})


def test_runs_that_are_of_different_things_are_doubted() -> None:
    assert unlike("alice/my-env", "my_env", {"n": 1}, {"n": 1}) == unlike("", "my-env") == ""
    assert unlike("a/one", "b/two").startswith("These are runs of two environments, a/one and b/two")
    doubt = unlike("a/one", "b/one", {"seed": 1}, {"words": 5})
    assert "(seed: 1 and not given; words: not given and 5)" in doubt

"""How texts are split into words: the same way when they are published and when they are looked for."""

from __future__ import annotations

import pytest

from prime_hub.words import ASKED, asked_words, name_words, stem, words


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Sums of small numbers.", {"sums", "sum", "of", "small", "numbers", "number"}),
        ("snake_case, kebab-case", {"snake", "case", "cas", "kebab"}),
        (
            "AlphaMath GPT4o HTTPServer",
            {"alphamath", "alpha", "math", "gpt4o", "gpt", "4", "o", "httpserver", "http", "server"},
        ),
        ("Caf\u00e9 na\u00efve \uff21\uff22\uff23 stra\u00dfe", {"cafe", "naive", "abc", "strasse", "strass"}),
        ("\u4e2d\u6587 test", {"\u4e2d", "\u6587", "test"}),
        ("% -- '\"*:() \u30fb", set()),
        ("x" * 500, {"x" * 40}),
    ],
)
def test_words(text: str, expected: set[str]) -> None:
    assert words(text) == expected


@pytest.mark.parametrize(
    "pair",
    [
        "game games",
        "box boxes",
        "class classes",
        "query queries",
        "maze mazes",
        "movie movies",
        "cookie cookies",
        "cache caches",
        "size sizes",
        "prize prizes",
        "house houses",
        "quiz quizzes",
        "status status",
        "analysis analysis",
        "gas gas",
        "glass glass",
    ],
)
def test_an_english_plural_is_the_same_word(pair: str) -> None:
    one, many = pair.split()
    assert stem(one) == stem(many)


def test_a_text_of_marks_alone_takes_no_time_by_its_square() -> None:
    assert words("\u0301" * 50_000 + "\u0316" * 50_000) == set()


def test_a_name_is_found_in_one_piece_too() -> None:
    assert name_words("alpha-maths") == {"alpha", "maths", "math", "alphamaths", "alphamath"}


def test_what_is_asked_for() -> None:
    assert asked_words("Wordle  GAMES games AlphaMaths") == ["wordle", "games", "alphamaths"]
    assert len(asked_words(" ".join(f"w{number}" for number in range(100)))) == ASKED

"""How texts are split into words: the same way when they are published and when they are looked for."""

from __future__ import annotations

import pytest

from prime_hub.words import ASKED, asked_words, name_words, words


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Sums of small numbers.", {"sum", "of", "small", "number"}),
        ("snake_case, kebab-case", {"snake", "case", "kebab"}),
        (
            "AlphaMaths GPT4o HTTPServer",
            {"alphamath", "alpha", "math", "gpt4o", "gpt", "4", "o", "httpserver", "http", "server"},
        ),
        ("Caf\u00e9 na\u00efve \uff21\uff22\uff23 stra\u00dfe", {"cafe", "naive", "abc", "strasse"}),
        ("\u4e2d\u6587 test", {"\u4e2d", "\u6587", "test"}),
        (
            "boxes queries classes glass status analysis gas",
            {"box", "query", "class", "glass", "status", "analysis", "gas"},
        ),
        ("% -- '\"*:()", set()),
        ("x" * 500, {"x" * 40}),
    ],
)
def test_words(text: str, expected: set[str]) -> None:
    assert words(text) == expected


def test_a_name_is_found_in_one_piece_too() -> None:
    assert name_words("alpha-maths") == {"alpha", "math", "alphamath"}


def test_what_is_asked_for() -> None:
    assert asked_words("Wordle  GAMES game AlphaMaths") == ["wordle", "game", "alphamath"]
    assert len(asked_words(" ".join(f"w{number}" for number in range(100)))) == ASKED

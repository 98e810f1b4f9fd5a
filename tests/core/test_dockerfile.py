"""Reading Dockerfiles: stages, flags, variables and their scopes, and what is refused."""

from __future__ import annotations

import pytest

from prime_core.dockerfile import command_line, exec_form, exposed_port, key_values, parse_dockerfile, substitute
from prime_core.errors import ProjectError

MULTI_STAGE = """\
# syntax=docker/dockerfile:1
ARG BASE=python
ARG TAG=3.11
FROM ${BASE}:${TAG}-slim AS builder
ARG TAG
ARG EXTRA=dev
ENV NAME="a server" PLACE=/srv/$EXTRA
WORKDIR $PLACE
RUN --mount=type=cache,target=/root/.cache \\
    # a comment inside
    pip install $NAME && \\
    echo done
FROM builder
COPY --from=builder --chown=1000:1000 $PLACE/.venv /app/.venv
CMD ["uvicorn", "server:app"]
"""


def test_stages_and_their_names():
    first, second = parse_dockerfile(MULTI_STAGE)
    assert (first.base, first.name, second.base, second.name) == ("python:3.11-slim", "builder", "builder", None)
    assert [item.op for item in first.instructions] == ["ARG", "ARG", "ENV", "WORKDIR", "RUN"]
    assert [item.line for item in second.instructions] == [14, 15]


def test_variables_are_filled_in_where_docker_does_it():
    first, second = parse_dockerfile(MULTI_STAGE)
    values = {item.op: item for item in first.instructions}
    assert values["WORKDIR"].value == "/srv/dev"
    assert values["RUN"].value.split() == ["pip", "install", "$NAME", "&&", "echo", "done"]
    assert values["RUN"].env == {"TAG": "3.11", "EXTRA": "dev", "NAME": "a server", "PLACE": "/srv/dev"}
    # A stage made from an earlier one inherits its ENV, but not its ARG.
    assert second.instructions[0].value == "/srv/dev/.venv /app/.venv"
    assert "EXTRA" not in second.instructions[0].env


def test_build_arguments_take_the_place_of_defaults():
    first, _ = parse_dockerfile(MULTI_STAGE, {"TAG": "3.13", "EXTRA": "prod", "UNKNOWN": "x"})
    assert first.base == "python:3.13-slim"
    assert {item.value for item in first.instructions if item.op == "WORKDIR"} == {"/srv/prod"}
    assert "UNKNOWN" not in first.instructions[-1].env


def test_an_argument_before_from_counts_in_a_stage_only_when_named_again():
    stage = parse_dockerfile("ARG V=1\nFROM python:$V\nENV A=$V\n")[0]
    assert (stage.base, stage.instructions[0].value) == ("python:1", "A=")


def test_env_beats_arg():
    stage = parse_dockerfile("FROM x\nARG A=arg\nENV A=env\nWORKDIR /$A\n")[0]
    assert stage.instructions[-1].value == "/env"


def test_a_stage_made_from_a_base_image_starts_with_no_variables():
    stages = parse_dockerfile("FROM x AS one\nENV A=1\nFROM x AS two\nENV B=2$A\nFROM one\nENV C=3$A$B\n")
    assert [stage.instructions[-1].value for stage in stages] == ["A=1", "B=2", "C=31"]


def test_command_and_port_are_inherited_from_an_earlier_stage():
    text = 'FROM x AS one\nEXPOSE 9000\nCMD ["serve"]\nFROM one AS two\nFROM Two\nWORKDIR /app\n'
    last = parse_dockerfile(text)[-1]
    assert (command_line(last), exposed_port(last)) == ("serve", 9000)
    assert command_line(parse_dockerfile("FROM x\n")[0]) is None


def test_flags_are_split_off():
    first, second = parse_dockerfile(MULTI_STAGE)
    assert first.instructions[-1].flags == {"mount": "type=cache,target=/root/.cache"}
    copy = second.instructions[0]
    assert copy.flags == {"from": "builder", "chown": "1000:1000"}
    assert copy.words() == ["/srv/dev/.venv", "/app/.venv"]
    assert parse_dockerfile("FROM --platform=linux/amd64 x\n")[0].base == "x"


def test_words_are_the_exec_form_or_what_a_shell_splits():
    stage = parse_dockerfile('FROM x\nCOPY ["a b", "/c"]\nCOPY "d e" /f\nRUN echo "open\n')[0]
    assert stage.instructions[0].words() == ["a b", "/c"]
    assert stage.instructions[1].words() == ["d e", "/f"]
    with pytest.raises(ProjectError, match=r"Dockerfile line 4: the quotes of 'echo \"open' do not close"):
        stage.instructions[2].words()


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("$A-$B", "one-"),
        ("${A}x", "onex"),
        ("${B:-two}", "two"),
        ("${A:-two}", "one"),
        ("${E:-two}/${E-two}", "two/"),
        ("${A:+yes}${B:+no}", "yes"),
        ("${B:-$A}", "one"),
        (r"\$A", "$A"),
        ("100%", "100%"),
    ],
)
def test_substitution(text: str, value: str):
    assert substitute(text, {"A": "one", "E": ""}) == value


def test_key_values():
    assert key_values("A=1 B=\"two words\" C='x=y'") == {"A": "1", "B": "two words", "C": "x=y"}
    assert key_values("OLD the rest of it") == {"OLD": "the rest of it"}


def test_exec_form_is_a_list_of_strings():
    assert exec_form('["a", "b"]') == ["a", "b"]
    assert exec_form("[ -f x ] && y") is None
    assert exec_form('["a", 1]') is None


@pytest.mark.parametrize(
    ("text", "wrong"),
    [
        ("", "no FROM line"),
        ("# nothing\n", "no FROM line"),
        ("ARG A=1\n", "no FROM line"),
        ("RUN echo\nFROM x\n", "line 1: RUN stands before the first FROM"),
        ("FROM x\n\nFETCH y\n", "line 3: 'FETCH' is not a Dockerfile instruction"),
        ("FROM x\nRUN <<EOF\necho hi\nEOF\n", r"line 2: a heredoc \(<<\) is not read here"),
        ("FROM x\nCOPY <<-'END' /a\nhi\nEND\n", "line 2: a heredoc"),
        ("FROM x AS\n", "line 1: FROM must be"),
        ("FROM $NOTHING\n", "is its ARG set"),
        ("FROM x\nENV A\n", "line 2: ENV needs a name and a value"),
        ('FROM x\nENV A="open\n', "do not close"),
        ("# escape=`\nFROM x\n", "changes the escape character"),
    ],
)
def test_what_is_refused(text: str, wrong: str):
    with pytest.raises(ProjectError, match=wrong):
        parse_dockerfile(text)


def test_a_shift_in_a_command_is_no_heredoc():
    assert parse_dockerfile("FROM x\nRUN python -c 'print(1 << 3)'\n")[0].instructions[0].op == "RUN"

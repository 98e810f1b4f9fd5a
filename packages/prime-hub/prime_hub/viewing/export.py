"""One run as one HTML file, which needs no network and nothing beside it.

What strangers said stands in it as data: JSON in script elements that no browser runs, in which "<" is escaped, so that
nothing ends them early; our one script puts it on the page as text. The policy in the file lets run that script and no other.
"""

from __future__ import annotations

import base64
import hashlib
import json
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from markupsafe import Markup

from prime_evals.conversations import told
from prime_hub.services.evaluation_samples import Listed
from prime_hub.viewing.runs import Row, Run, opened
from prime_hub.web.chart import HEIGHT, STEP, columns
from prime_hub.web.conversations import Message, Piece, Room, conversation
from prime_hub.web.evaluations import OUTCOME_WORDS, about, arguments, row_of
from prime_hub.web.render import rendered, static
from prime_hub.web.rollouts import error_text

MB = 1_000_000
ROWS_SHARE = 0.5
"""Of the room for data: what lines of the table may take at most."""
CHARACTERS = 200_000
"""Of one conversation."""
MESSAGES = 1_000


@dataclass(frozen=True)
class Written:
    """What is in a file: rollouts of the run that are meant, lines of the table, conversations."""

    meant: int
    lines: int
    conversations: int

    def missing(self, room: float) -> str:
        """The sentence for what was left out; empty for nothing."""
        parts = []
        if self.lines < self.meant:
            parts.append(f"the lines of {self.meant - self.lines:,} rollouts")
        if self.conversations < self.meant:
            parts.append(f"the conversations of {self.meant - self.conversations:,} rollouts")
        if not parts:
            return ""
        return f"Left out of {self.meant:,} rollouts, so that the file has about {room:g} MB: {' and '.join(parts)}."


def export(folder: Path, write: Callable[[str], object], room: float, only: str | None = None) -> Written:
    """Write the page of the run in `folder` piece by piece. room: megabytes for rollouts and conversations; only: an outcome.

    Raises NotARun.
    """
    with opened(folder) as run:
        css, script = _text("hub.css"), _text("export.js")
        write(_beginning(run, css, script, only))
        places = run.places(Listed(outcome=only))
        left = room * MB
        write(f'<script type="application/json" id="rows" data-threshold="{float(run.threshold)!r}">[')
        lines = 0
        for place in places:
            line = data(_line(place, run.rows([place])[0]))
            if len(line) > left - room * MB * (1 - ROWS_SHARE):
                break
            left -= len(line) + 2
            write((",\n" if lines else "\n") + line)
            lines += 1
        write("]</script>\n")
        conversations = 0
        for place in places[:lines]:
            row, sample = run.data(place)
            block = f'<script type="application/json" id="r{place}">{data(_talk(row, sample))}</script>\n'
            if len(block) > left:
                continue
            left -= len(block)
            write(block)
            conversations += 1
        found = Written(len(places), lines, conversations)
        write(rendered("export_end.html", missing=found.missing(room), script=Markup(script)))
        return found


def data(value: Any) -> str:
    """JSON in ASCII that can stand in a script element: nothing in it begins a tag or a comment."""
    text = json.dumps(value, separators=(",", ":"), allow_nan=False)
    return text.replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e")


def _text(name: str) -> str:
    return static(name)[0].decode()


def _beginning(run: Run, css: str, script: str, only: str | None) -> str:
    card, summary = run.card(), run.summary()
    bins, top = columns(summary["histogram"])
    policy = (
        f"default-src 'none'; style-src {_hash(css)}; script-src {_hash(script)}; img-src data:; base-uri 'none'; "
        "form-action 'none'"
    )
    return rendered(
        "export_begin.html",
        policy=policy,
        css=Markup(css),
        one=row_of(card),
        about=about(card),
        arguments=arguments(card.details),
        summary=summary if card.samples else None,
        href="",
        bins=bins,
        top=top,
        height=HEIGHT,
        step=STEP,
        only=OUTCOME_WORDS[only] if only else None,
        outcomes=[("", "All"), *OUTCOME_WORDS.items()],
    )


def _hash(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def _line(place: int, row: Row) -> dict[str, Any]:
    return {
        "place": place,
        "example": row.example_id,
        "index": row.rollout_index,
        "reward": row.reward,
        "error": row.error,
        "truncated": row.truncated,
        "turns": row.turns,
        "tokens": row.output_tokens,
        "seconds": row.seconds,
        "cost": row.cost,
        "asked": row.prompt,
        "said": row.message if row.error and row.message else row.completion,
    }


def _talk(row: Row, sample: dict[str, Any]) -> dict[str, Any]:
    room = Room(CHARACTERS)
    found = conversation(sample, room, every=True)
    shown = found.messages[:MESSAGES]
    cut = _cut(shown)
    left = [f"{found.total - len(shown):,} messages"] if found.total > len(shown) else []
    left += [f"{cut:,} characters"] if cut else []
    error = sample.get("error")
    return {
        "messages": [_message(message) for message in shown],
        "facts": [[name, _number(value)] for name, value in row.metrics.items()]
        + ([["Ended by", row.stop_condition]] if row.stop_condition else []),
        "error": error_text(error)[:20_000] if error else "",
        "answer": told(sample["answer"])[:10_000] if sample.get("answer") else "",
        "left": f"{' and '.join(left)} more are in the run's folder." if left else "",
    }


def _number(value: float) -> str:
    return f"{value:.6g}" if math.isfinite(value) else "–"


def _pieces(message: Message) -> Iterator[Piece]:
    yield from message.pieces
    yield from (call.arguments for call in message.calls)
    if message.thinking is not None:
        yield message.thinking


def _cut(messages: Sequence[Message]) -> int:
    return sum(piece.missing for message in messages for piece in _pieces(message))


def _message(message: Message) -> dict[str, Any]:
    return {
        **{
            name: value
            for name, value in asdict(message).items()
            if name in ("role", "kind", "turn", "about", "reward")
        },
        "texts": [_whole(piece) for piece in message.pieces],
        "thinking": _whole(message.thinking) if message.thinking else "",
        "calls": [[call.name, _whole(call.arguments)] for call in message.calls],
    }


def _whole(piece: Piece) -> str:
    return piece.text + piece.rest

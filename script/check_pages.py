"""Write docs/checks/ID.md and the table of docs/checking.md from what the checks say of themselves.

The pages lie in the package, because `prime env check --explain ID` prints them wherever it is installed.
tests/checking/test_pages.py fails when these copies are old.
"""

from __future__ import annotations

from pathlib import Path

from prime_core.checks.registry import CHECKS, GROUPS

DOCS = Path(__file__).resolve().parents[1] / "docs"
BEGIN, END = "<!-- checks: script/check-pages -->", "<!-- end -->"


def pages() -> dict[str, str]:
    """The text of each page, by its id."""
    return {
        check.id: f"{check.explanation}\n---\n\nGroup: {check.group}. All of them: [checking.md](../checking.md).\n"
        for check in CHECKS.values()
    }


def table() -> str:
    """Every check with one line, by group."""
    lines = ["| group | check | what is right when it passes |", "|---|---|---|"]
    for group in GROUPS:
        for number, check in enumerate(check for check in CHECKS.values() if check.group == group):
            advice = "" if check.worst == "fail" else " *(advice)*"
            place = "" if number else group
            lines.append(f"| {place} | [`{check.id}`](checks/{check.id}.md) | {check.title}{advice} |")
    return "\n".join(lines)


def with_table(text: str) -> str:
    """docs/checking.md with the table as it is now."""
    before, _, rest = text.partition(BEGIN)
    return f"{before}{BEGIN}\n{table()}\n{END}{rest.partition(END)[2]}"


def main() -> None:
    """Write all of it."""
    folder = DOCS / "checks"
    folder.mkdir(exist_ok=True)
    written = pages()
    for old in folder.glob("*.md"):
        if old.stem not in written:
            old.unlink()
    for name, text in written.items():
        (folder / f"{name}.md").write_text(text, encoding="utf-8")
    page = DOCS / "checking.md"
    page.write_text(with_table(page.read_text(encoding="utf-8")), encoding="utf-8")


if __name__ == "__main__":
    main()

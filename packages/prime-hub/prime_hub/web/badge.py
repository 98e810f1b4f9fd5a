"""A badge as a picture: SVG that is safe to stand in a page, since nothing in it is anybody's text."""

from __future__ import annotations

from prime_hub.services.checks import Badge

COLOURS = {"good": "#1a7f37", "advice": "#1a7f37", "bad": "#b3261e", "none": "#57606a"}
LABEL = "environment check"


def picture(shown: Badge) -> str:
    """A badge as SVG, as high as a line of text."""
    left, right = _width(LABEL), _width(shown.text)
    whole = left + right
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{whole}" height="20" role="img" '
        f'aria-label="{LABEL}: {shown.text}"><title>{LABEL}: {shown.text}</title>'
        f'<clipPath id="r"><rect width="{whole}" height="20" rx="4"/></clipPath><g clip-path="url(#r)">'
        f'<rect width="{left}" height="20" fill="#30363d"/>'
        f'<rect x="{left}" width="{right}" height="20" fill="{COLOURS[shown.colour]}"/></g>'
        '<g fill="#fff" text-anchor="middle" font-family="Verdana,DejaVu Sans,Geneva,sans-serif" font-size="11">'
        f'<text x="{left / 2:g}" y="14" textLength="{left - 12}">{LABEL}</text>'
        f'<text x="{left + right / 2:g}" y="14" textLength="{right - 12}">{shown.text}</text></g></svg>'
    )


def _width(text: str) -> int:
    """Of a text of 11 pixels with six on either side, whatever the font: the text is stretched to it."""
    narrow = sum(letter in "il1 .,:'tfj" for letter in text)
    return round(7.0 * (len(text) - narrow) + 4.2 * narrow) + 12

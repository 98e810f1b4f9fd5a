"""Forms that a page of this Hub sent, and no other: fields as text, after the proof has been looked at."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from typing import Annotated

from fastapi import Depends, Request

from prime_hub.api.deps import HubDep
from prime_hub.errors import BadRequest, Forbidden
from prime_hub.web.visitors import VisitorDep, proven

PROOF_FIELD = "proof"
MOST_FIELDS = 50
MOST_BYTES = 64 * 1024
MEDIA_TYPE = "application/x-www-form-urlencoded"


class StaleForm(Forbidden):
    """A form without a proof that holds: its page is loaded again."""

    def __init__(self) -> None:
        super().__init__("This form has become too old, or was not sent from this Hub's own page; load the page again.")


class Form(dict[str, str]):
    """The fields of a form, and those that were chosen several times (`many`)."""

    def __init__(self, pairs: list[tuple[str, str]]) -> None:
        super().__init__(pairs)
        self._pairs = pairs

    def text(self, name: str) -> str:
        """A field without the spaces around it; empty when it is not there."""
        return self.get(name, "").strip()

    def many(self, name: str) -> list[str]:
        """All values of a field, in the order of the page."""
        return [value for field, value in self._pairs if field == name]


async def checked(request: Request, hub: HubDep, visitor: VisitorDep) -> Form:
    """The form of a request. Raises Forbidden where its proof is missing, another browser's or too old; BadRequest."""
    if request.headers.get("sec-fetch-site", "same-origin") not in ("same-origin", "none"):
        raise Forbidden("This form was sent from another site; open the page here and send it again.")
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != MEDIA_TYPE:
        raise BadRequest("A page's form was expected.")
    length = request.headers.get("content-length", "")
    if not length.isdigit() or int(length) > MOST_BYTES:
        raise BadRequest("The form is larger than a page of this Hub sends.")
    fields = await request.form(max_files=0, max_fields=MOST_FIELDS)
    form = Form([(name, value) for name, value in fields.multi_items() if isinstance(value, str)])
    if not proven(hub, visitor, form.get(PROOF_FIELD, "")):
        raise StaleForm
    return form


def given(form: Mapping[str, str] | None) -> defaultdict[str, str]:
    """What a form that was refused said, for its page to say again; nothing in fields that it had not."""
    return defaultdict(str, form or {})


FormDep = Annotated[Form, Depends(checked)]

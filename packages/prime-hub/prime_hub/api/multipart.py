"""The one file of a multipart form, read while it comes: nothing is kept, on disk or in memory."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import TYPE_CHECKING

from python_multipart.exceptions import MultipartParseError
from python_multipart.multipart import MultipartParser, parse_options_header

from prime_hub.errors import BadRequest, Invalid

if TYPE_CHECKING:
    from python_multipart.multipart import MultipartCallbacks

MAX_HEADER_BYTES = 8192


class FilePart:
    """The part of the name `file`; `open` finds it, `chunks` is its content."""

    def __init__(self, content_type: str, body: AsyncIterator[bytes]) -> None:
        kind, options = parse_options_header(content_type)
        boundary = options.get(b"boundary")
        if kind != b"multipart/form-data" or not boundary:
            raise Invalid("The upload needs one multipart field named 'file'.")
        calls: MultipartCallbacks = {
            "on_part_begin": self._begin,
            "on_header_field": self._on_field,
            "on_header_value": self._on_value,
            "on_header_end": self._header_end,
            "on_headers_finished": self._headers_finished,
            "on_part_data": self._data,
            "on_part_end": self._end,
        }
        self._parser = MultipartParser(boundary, calls)
        self._body = body
        self._field, self._value = b"", b""
        self._disposition = b""
        self._current = False
        self._found = False
        self._complete = False
        self._pieces: list[bytes] = []

    def _begin(self) -> None:
        self._field, self._value, self._disposition = b"", b"", b""

    def _on_field(self, data: bytes, start: int, end: int) -> None:
        self._field += data[start:end]
        self._bound()

    def _on_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]
        self._bound()

    def _bound(self) -> None:
        if len(self._field) + len(self._value) > MAX_HEADER_BYTES:
            raise MultipartParseError("a header is too long")

    def _header_end(self) -> None:
        if self._field.lower() == b"content-disposition":
            self._disposition = self._value
        self._field, self._value = b"", b""

    def _headers_finished(self) -> None:
        _, options = parse_options_header(self._disposition)
        self._current = not self._found and options.get(b"name") == b"file"
        self._found = self._found or self._current

    def _data(self, data: bytes, start: int, end: int) -> None:
        if self._current:
            self._pieces.append(data[start:end])

    def _end(self) -> None:
        self._complete = self._complete or self._current
        self._current = False

    async def _more(self) -> bool:
        """Read one piece of the body; False at its end. Raises BadRequest."""
        chunk = await anext(self._body, None)
        if chunk is None:
            return False
        try:
            self._parser.write(chunk)
        except MultipartParseError as error:
            raise BadRequest(f"The upload is no well-formed multipart form ({error}).") from None
        return True

    async def open(self) -> None:
        """Read up to the file. Raises Invalid when there is none, BadRequest for what is no form."""
        while not self._found:
            if not await self._more():
                raise Invalid("The upload needs one multipart field named 'file'.")

    async def chunks(self) -> AsyncIterator[bytes]:
        """The file, then the rest of the form. Raises BadRequest when the form ends before the file does."""
        while True:
            pieces, self._pieces = self._pieces, []
            for piece in pieces:
                yield piece
            if not await self._more():
                break
        if not self._complete:
            raise BadRequest("The upload was cut off; run the command again.")

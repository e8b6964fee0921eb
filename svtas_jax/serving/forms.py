"""Reads an uploaded form (multipart/form-data, RFC 7578) straight into one file."""

import asyncio
import dataclasses
import pathlib
from collections.abc import AsyncIterator
from typing import Any

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header
from starlette.requests import ClientDisconnect

from svtas_jax.serving.problems import ProblemError

MOST_LABEL_BYTES = 8_000_000
_MOST_PARTS, _MOST_NAME = 8, 200
_BODY_S = 30.0  # without any data
_SLACK = 100_000  # borders and headers of the parts


@dataclasses.dataclass(frozen=True)
class Form:
    """What was uploaded.

    Attributes:
        video_name: file name as the client gives it, only to be shown.
        num_bytes: of the video, which is in the file.
        labels: the text file with labels, None if there is none.
    """

    video_name: str
    num_bytes: int
    labels: bytes | None


async def read_form(
    body: AsyncIterator[bytes],
    headers: Any,
    path: pathlib.Path,
    *,
    most_bytes: int,
) -> Form:
    """Reads a form with the file fields video and, if it likes, labels.

    Args:
        body: of the request.
        headers: of the request.
        path: where the video is written.
        most_bytes: that the video may have.

    Raises:
        ProblemError: if it is too large, no form, not whole, or has other fields.
    """
    check_length(headers, most_bytes)
    parser, target = _parser_of(headers), _Target(path, most_bytes)
    parser.callbacks.update(target.callbacks())
    try:
        async for data in _timely(body):
            await asyncio.to_thread(parser.write, data)
        parser.finalize()
    except FormParserError as error:
        raise ProblemError(422, f"The form cannot be read: {error}.") from error
    except ClientDisconnect as error:  # nobody reads the answer
        raise ProblemError(400, "The upload broke off.") from error
    finally:
        target.close()
    return target.form()


def check_length(headers: Any, most_bytes: int) -> None:
    """Refuses a body that says itself that it is too large.

    Raises:
        ProblemError: with status 413.
    """
    length = headers.get("content-length", "")
    if length.isdecimal() and len(length) < 20:
        if int(length) > most_bytes + MOST_LABEL_BYTES + _SLACK:
            raise too_large(most_bytes)


def too_large(most_bytes: int) -> ProblemError:
    """Returns the error for a video of more than `most_bytes`."""
    return ProblemError(
        413,
        f"The video is larger than {most_bytes / 1e6:g} MB, the limit that "
        "--max_upload_mb sets; cut or compress it.",
    )


def _parser_of(headers: Any) -> MultipartParser:
    kind, options = parse_options_header(headers.get("content-type", ""))
    if kind != b"multipart/form-data":
        raise ProblemError(
            415,
            "Send the video as multipart/form-data with a file field named video "
            "(curl -F video=@FILE).",
        )
    boundary = options.get(b"boundary", b"")
    if not 0 < len(boundary) <= 200:
        raise ProblemError(422, "The form's Content-Type has no usable boundary.")
    try:
        return MultipartParser(boundary)
    except FormParserError as error:
        raise ProblemError(422, f"The form cannot be read: {error}.") from error


async def _timely(body: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """Yields the body, and gives it up if nothing comes for long."""
    parts = aiter(body)
    while True:
        try:
            data = await asyncio.wait_for(anext(parts, None), _BODY_S)
        except TimeoutError as error:
            message = f"No data came for {_BODY_S:g} s; send the video again."
            raise ProblemError(408, message, {"Connection": "close"}) from error
        if data is None:
            return
        yield data


class _Target:
    """Where the parts of a form go."""

    def __init__(self, path: pathlib.Path, most_bytes: int) -> None:
        self._most_bytes, self._file = most_bytes, path.open("wb")
        self._field = self._header = self._value = b""
        self._head: dict[bytes, bytes] = {}
        self._seen: list[bytes] = []
        self._video_name: str | None = None
        self._num_bytes, self._labels = 0, bytearray()

    def callbacks(self) -> Any:
        """Returns what the parser calls."""
        return {
            "on_part_begin": self._begin,
            "on_header_field": self._on_header,
            "on_header_value": self._on_value,
            "on_header_end": self._end_header,
            "on_headers_finished": self._end_head,
            "on_part_data": self._on_data,
        }

    def close(self) -> None:
        """Closes the file."""
        self._file.close()

    def form(self) -> Form:
        """Returns what came."""
        if self._video_name is None or not self._num_bytes:
            raise ProblemError(
                422, "The form has no file field named video with anything in it."
            )
        labels = bytes(self._labels) if b"labels" in self._seen else None
        return Form(self._video_name, self._num_bytes, labels)

    def _begin(self) -> None:
        self._head, self._header, self._value = {}, b"", b""
        if len(self._seen) >= _MOST_PARTS:
            raise ProblemError(422, f"The form has more than {_MOST_PARTS} parts.")

    def _on_header(self, data: bytes, start: int, end: int) -> None:
        self._header += data[start:end]

    def _on_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def _end_header(self) -> None:
        self._head[self._header.lower()] = self._value
        self._header = self._value = b""

    def _end_head(self) -> None:
        _, options = parse_options_header(self._head.get(b"content-disposition", b""))
        self._field = options.get(b"name", b"")
        if self._field not in (b"video", b"labels") or self._field in self._seen:
            raise ProblemError(
                422,
                "The form may have one field video and one field labels; this one has "
                f"{self._field[:40].decode(errors='replace')!r} besides.",
            )
        self._seen.append(self._field)
        if self._field == b"video":
            name = options.get(b"filename", b"video").decode(errors="replace")
            self._video_name = _shown(name)

    def _on_data(self, data: bytes, start: int, end: int) -> None:
        if self._field == b"labels":
            self._labels += data[start:end]
            if len(self._labels) > MOST_LABEL_BYTES:
                mega = MOST_LABEL_BYTES / 1e6
                raise ProblemError(413, f"The label file is larger than {mega:g} MB.")
            return
        self._num_bytes += end - start
        if self._num_bytes > self._most_bytes:
            raise too_large(self._most_bytes)
        self._file.write(data[start:end])


def _shown(name: str) -> str:
    """Returns the last part of a file name, without characters that do not print."""
    name = name.replace("\\", "/").rpartition("/")[2]
    return "".join(c for c in name if c.isprintable())[:_MOST_NAME] or "video"

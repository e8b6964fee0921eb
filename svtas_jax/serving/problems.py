"""Answers that say what is wrong: JSON with one field, error."""

from collections.abc import Mapping

from starlette.responses import JSONResponse


class ProblemError(Exception):
    """A request that cannot be served.

    Attributes:
        status: HTTP status code.
        message: what is wrong and how to go on.
        headers: of the answer.
    """

    def __init__(
        self, status: int, message: str, headers: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(message)
        self.status, self.message, self.headers = status, message, headers

    def response(self) -> JSONResponse:
        """Returns the answer."""
        headers = None if self.headers is None else dict(self.headers)
        return JSONResponse({"error": self.message}, self.status, headers)

"""Tell every error in the form that OpenAI's clients read."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException

from biddable.errors import join_problems

_TYPES = {401: "authentication_error", 404: "not_found_error", 429: "rate_limit_error"}
_MOST_PROBLEMS = 5


class ApiError(Exception):
    """Raised where a request cannot be answered; becomes a reply.

    Attributes:
        status: of HTTP.
        message: what was found, what is allowed, what to do.
        code: a short name, for programs.
        param: which parameter of the request is meant.
    """

    def __init__(
        self, status: int, message: str, *, code: str | None = None, param: str | None = None
    ) -> None:
        """Take what to say."""
        super().__init__(message)
        self.status, self.message, self.code, self.param = status, message, code, param

    def body(self) -> dict[str, Any]:
        """Write it as a reply, or as an event of a stream."""
        kind = _TYPES.get(self.status)
        if kind is None:
            kind = "invalid_request_error" if self.status < 500 else "server_error"
        shown = {"message": self.message, "type": kind, "param": self.param, "code": self.code}
        return {"error": shown}

    def headers(self) -> dict[str, str]:
        """Say when to try again, or what is asked for."""
        if self.status == 401:
            return {"www-authenticate": "Bearer"}
        return {"retry-after": "1"} if self.status in (429, 503) else {}

    def response(self) -> Response:
        """Make the reply."""
        # escaped, as what a client sent may hold half a surrogate pair
        return Response(
            json.dumps(self.body()), self.status, self.headers(), media_type="application/json"
        )


def add_error_replies(app: FastAPI) -> None:
    """Give all errors of an app that form."""

    async def told(_: Request, error: Exception) -> Response:
        assert isinstance(error, ApiError)
        return error.response()

    async def malformed(_: Request, error: Exception) -> Response:
        assert isinstance(error, RequestValidationError)
        return _malformed(error.errors()).response()

    async def refused(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        place = f"{request.method} {request.url.path}"
        reply = ApiError(error.status_code, f"{place}: {error.detail}").response()
        reply.headers.update(error.headers or {})
        return reply

    async def broken(_: Request, error: Exception) -> Response:
        return ApiError(500, f"internal error ({type(error).__name__})").response()

    app.add_exception_handler(ApiError, told)
    app.add_exception_handler(RequestValidationError, malformed)
    app.add_exception_handler(HTTPException, refused)
    app.add_exception_handler(Exception, broken)


def _malformed(problems: Sequence[Mapping[str, Any]]) -> ApiError:
    lines, names = [], []
    for problem in problems:
        if problem["type"] == "json_invalid":  # its place is a character, not a parameter
            reason = (problem.get("ctx") or {}).get("error", problem["msg"])
            text = f"body: is no JSON, at character {problem['loc'][-1]}: {reason}."
            return ApiError(400, text, code="invalid_request")
        where = [str(part) for part in problem["loc"] if part != "body"]
        names.append(where[0] if where else None)
        said = str(problem["msg"]).removeprefix("Value error, ")
        if problem["type"] == "extra_forbidden":
            said = "not a parameter that is served; leave it out"
        lines.append(f"{'.'.join(where) or 'body'}: {said}.")
    message = join_problems(list(dict.fromkeys(lines)), limit=_MOST_PROBLEMS)
    return ApiError(400, message, code="invalid_request", param=names[0] if names else None)

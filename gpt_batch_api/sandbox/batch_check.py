"""Validate the input file of a batch, line by line, as the service does before it runs anything."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gpt_batch_api.sandbox.answering import Answerer
from gpt_batch_api.sandbox.counting import embedding_inputs
from gpt_batch_api.sandbox.endpoint import Endpoint
from gpt_batch_api.sandbox.models import is_known

_MOST_EMBEDDING_INPUTS = 50_000


@dataclass(frozen=True, slots=True)
class Line:
    """A valid line: where it is in the file, whose it is, what it costs of the enqueued tokens."""

    start: int
    length: int
    custom_id: str
    prompt_tokens: int


@dataclass
class Checked:
    """What validation found. With errors the batch fails and the lines do not matter."""

    model: str | None = None
    lines: list[Line] = field(default_factory=list)
    errors: list[dict[str, Any]] = field(default_factory=list)
    prompt_tokens: int = 0


class _Bad(Exception):
    """A line that the service refuses."""

    def __init__(self, code: str, message: str, param: str | None = None) -> None:
        super().__init__(message)
        self.code, self.message, self.param = code, message, param


class Stopped(Exception):
    """Validation was told to stop."""


def check_input(
    path: Path, *, endpoint: Endpoint, answerer: Answerer, stopped: Callable[[], bool] = lambda: False
) -> Checked:
    """Read the file at *path*; memory holds a few words per line, whatever the lines contain.

    Raises `Stopped` soon after *stopped* has become true.
    """
    checked = Checked()
    limits = answerer.plan.limits
    reader = _Reader(endpoint, answerer)
    start = 0
    blank: list[int] = []
    with path.open("rb") as source:
        for number, raw in enumerate(source, start=1):  # splits at b"\n" only
            if stopped():
                raise Stopped
            if raw.strip():
                # Blank lines are no requests, but at the end they do no harm.
                checked.errors += [_problem(*_NOT_JSON, line=above) for above in blank]
                blank.clear()
                _check_line(reader, checked, raw, number=number, start=start)
            else:
                blank.append(number)
            start += len(raw)
            if len(checked.lines) > limits.batch_requests:
                message = f"The batch input file contains more than the maximum of {limits.batch_requests} requests."
                checked.errors = [_problem("too_many_requests", message, None, line=None)]
                return checked
    if not checked.lines and not checked.errors:
        checked.errors.append(_problem(*_EMPTY, line=None))
    if start > limits.batch_bytes:
        message = f"The batch input file is larger than the {limits.batch_bytes} maximum for the {checked.model} model"
        checked.errors.insert(0, _problem("invalid_request", message, None, line=None))
    return checked


_NOT_JSON = ("invalid_json_line", "This line is not parseable as valid JSON.", None)
_EMPTY = (
    "empty_file",
    "The input file is empty. Please ensure that the batch contains at least one request.",
    None,
)


def _check_line(reader: _Reader, checked: Checked, raw: bytes, *, number: int, start: int) -> None:
    try:
        request = reader.read(raw)
    except _Bad as bad:
        checked.errors.append(_problem(bad.code, bad.message, bad.param, line=number))
        return
    checked.model = reader.model
    if not checked.errors:
        tokens = reader.count(request["body"])
        checked.lines.append(Line(start, len(raw), request["custom_id"], tokens))
        checked.prompt_tokens += tokens


class _Reader:
    """Reads lines and remembers what must agree between them."""

    def __init__(self, endpoint: Endpoint, answerer: Answerer) -> None:
        self.model: str | None = None
        self._endpoint = endpoint
        self._models = answerer.models
        self._seen: set[str] = set()
        self._embedding_inputs = 0

    def read(self, raw: bytes) -> dict[str, Any]:
        """The request of a line, or `_Bad`."""
        request = parse_line(raw)
        if request is None:
            raise _Bad(*_NOT_JSON)
        for name in ("custom_id", "method", "url", "body"):
            if request.get(name) in (None, ""):
                raise _Bad("missing_required_parameter", f"Missing required parameter: '{name}'.", name)
        custom_id = request["custom_id"]
        if not isinstance(custom_id, str):
            raise _Bad("invalid_type", "Invalid type for 'custom_id': expected a string.", "custom_id")
        if request["method"] != "POST":
            raise _Bad("invalid_method", "The HTTP method for this request must be POST.", "method")
        if request["url"] != self._endpoint.path:
            message = "The URL provided for this request does not match the batch endpoint."
            raise _Bad("invalid_url", message, "url")
        self._check_body(request["body"])
        if custom_id in self._seen:
            message = (
                f"The custom_id '{custom_id}' for this request is a duplicate of another request. The custom_id "
                "parameter must be unique for each request in a batch."
            )
            raise _Bad("duplicate_custom_id", message, "custom_id")
        self._seen.add(custom_id)
        return request

    def count(self, body: dict[str, Any]) -> int:
        """The input tokens of a request."""
        return self._endpoint.count_input(body)

    def _check_body(self, body: Any) -> None:
        if not isinstance(body, dict):
            raise _Bad("invalid_type", "Invalid type for 'body': expected an object.", "body")
        model = body.get("model")
        if not model or not isinstance(model, str):
            raise _Bad("invalid_request", "Model parameter is required.", "body.model")
        if not is_known(model, self._models):
            message = f"The provided model '{model}' is not supported by the Batch API."
            raise _Bad("model_not_found", message, "body.model")
        if self.model is not None and model != self.model:
            message = (
                f"The model '{model}' for this request does not match the rest of the batch. Each batch must contain "
                "requests for a single model."
            )
            raise _Bad("mismatched_model", message, "body.model")
        self.model = model
        missing = self._endpoint.missing_in_batch(body)
        if missing is not None:
            raise _Bad("invalid_request", f"{missing[0]} parameter is required.", missing[1])
        if body.get("stream"):
            message = "Chat Completions: Streaming is not supported in the Batch API."
            raise _Bad("streaming_unsupported", message, "body.stream")
        if self._endpoint.path.endswith("embeddings"):
            self._embedding_inputs += len(embedding_inputs(body))
            if self._embedding_inputs > _MOST_EMBEDDING_INPUTS:
                message = f"The batch contains more than the maximum of {_MOST_EMBEDDING_INPUTS} embedding inputs."
                raise _Bad("invalid_request", message, "body.input")


def parse_line(raw: bytes) -> dict[str, Any] | None:
    """The JSON object in a line, or None if it holds none that can be stored."""
    try:
        request = json.loads(raw.decode("utf-8"), parse_constant=_refuse_constant)
        if not isinstance(request, dict):
            return None
        str(request.get("custom_id")).encode("utf-8")
    except (ValueError, RecursionError):
        return None
    return request


def _refuse_constant(text: str) -> Any:
    raise ValueError(f"{text} is not JSON")


def _problem(code: str, message: str, param: str | None, *, line: int | None) -> dict[str, Any]:
    return {"code": code, "message": message, "param": param, "line": line}

"""Make the lines of result files: what becomes of one request of a batch, in fair weather and foul."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from gpt_batch_api.sandbox.answering import Answerer, Reply
from gpt_batch_api.sandbox.batch_check import parse_line
from gpt_batch_api.sandbox.billing import Usage
from gpt_batch_api.sandbox.chance import Asker, dice, fingerprint, hexadecimal
from gpt_batch_api.sandbox.endpoint import Endpoint
from gpt_batch_api.sandbox.errors import INVALID, ApiError
from gpt_batch_api.sandbox.plan import ANSWER_FAULTS, LineRule

UNFINISHED = {
    "batch_expired": "This request could not be executed before the completion window expired.",
    "batch_cancelled": "This request was not executed because the batch was cancelled.",
    "request_timeout": "This request timed out.",
}
BILLING_CODES = frozenset(
    (
        "insufficient_quota",
        "credit_balance_exhausted",
        "organization_spend_limit_exceeded",
        "project_spend_limit_exceeded",
        "organization_usage_limit_exceeded",
        "billing_hard_limit_reached",
        "billing_not_active",
    )
)
TOO_LARGE = "request_too_large"
"""A name of ours for plans: the service gives such a request the same code as one that only has to wait."""
_ANSWERED = ("missing", "doubled", "broken", "unknown_id", *ANSWER_FAULTS)


@dataclass(frozen=True)
class Made:
    """What a request leaves in the result files, and what it is charged for."""

    output: bytes = b""
    error: bytes = b""
    failed: bool = False
    usage: Usage | None = None


@dataclass(frozen=True)
class LineMaker:
    """Makes the lines of one batch."""

    answerer: Answerer
    endpoint: Endpoint
    batch_seq: int
    batch_id: str

    def make(self, raw: bytes, *, tokens: int, at: float, rule: LineRule | None) -> Made:
        """Answer the input line *raw*, or let *rule* befall it."""
        request = parse_line(raw)
        if request is None:
            raise ValueError(f"batch {self.batch_id}: a line was changed after its validation")
        custom_id = request["custom_id"]
        if self.answerer.plan.billing_error is not None:
            return self._http(custom_id, _as_reply(billing_error(self.answerer.plan.billing_error)))
        if rule is None:
            return self._http(custom_id, self._reply(request, tokens, at, None))
        charged = rule.charged if rule.charged is not None else rule.fault in _ANSWERED
        reply = self._reply(request, tokens, at, rule.fault) if charged or rule.fault in _ANSWERED else None
        made = self._befallen(custom_id, rule, reply, str(request["body"]["model"]))
        usage = reply.usage if reply is not None and charged else None
        return Made(made.output, made.error, made.failed, usage)

    def unfinished(self, custom_id: str, code: str) -> bytes:
        """The error line of a request that was not, or not wholly, executed."""
        return self._line(custom_id, None, {"code": code, "message": UNFINISHED[code]})

    def _reply(self, request: dict[str, Any], tokens: int, at: float, fault: str | None) -> Reply:
        body, custom_id = request["body"], request["custom_id"]
        asker = Asker(self.answerer.plan.seed, fingerprint(body), custom_id)
        try:
            self.answerer.check(self.endpoint, body)
            spoilt = self.answerer.spoilt(str(body["model"]), custom_id, self.batch_seq, fault=fault)
            return self.answerer.answer(self.endpoint, body, tokens=tokens, asker=asker, at=at, spoilt=spoilt)
        except ApiError as error:
            return _as_reply(error)

    def _http(self, custom_id: str, reply: Reply) -> Made:
        line = self._response(custom_id, reply)
        if reply.status == 200:
            return Made(output=line, usage=reply.usage)
        return Made(error=line, failed=True)

    def _befallen(self, custom_id: str, rule: LineRule, reply: Reply | None, model: str) -> Made:
        if rule.fault == "infrastructure" or (rule.fault == "status" and rule.status == 0):
            # The counts of the batch claim success.
            response = {"status_code": 0, "request_id": "", "body": {}}
            return Made(error=self._line(custom_id, response, None))
        if rule.fault in ("expired", "timeout"):
            code = "batch_expired" if rule.fault == "expired" else "request_timeout"
            return Made(error=self.unfinished(custom_id, code), failed=True)
        if rule.fault in ("status", "fatal"):
            status = 400 if rule.fault == "fatal" and rule.status == 500 else rule.status
            return self._http(custom_id, _as_reply(fault_error(rule, status=status, model=model)))
        if rule.fault == "missing" or reply is None:
            return Made()
        made = self._http(custom_id, reply)
        if rule.fault == "doubled":
            return Made(made.output * 2, made.error * 2, made.failed)
        if rule.fault == "broken":
            return Made(_broken(made.output), _broken(made.error), made.failed)
        if rule.fault == "unknown_id":
            stranger = self._response(f"unknown-{hexadecimal(8, self.batch_id, custom_id)}", reply)
            return Made(made.output + stranger, made.error, made.failed)
        return made

    def _response(self, custom_id: str, reply: Reply) -> bytes:
        request_id = hexadecimal(32, "request", self.batch_id, custom_id)
        return self._line(custom_id, {"status_code": reply.status, "request_id": request_id, "body": reply.body}, None)

    def _line(self, custom_id: str, response: dict[str, Any] | None, error: dict[str, Any] | None) -> bytes:
        line_id = f"batch_req_{hexadecimal(32, 'line', self.batch_id, custom_id)}"
        return dump_line({"id": line_id, "custom_id": custom_id, "response": response, "error": error})


def dump_line(document: Any) -> bytes:
    """*document* as a line of JSON. Text is not escaped: U+2028 and its like do occur within lines."""
    try:
        return (json.dumps(document, ensure_ascii=False) + "\n").encode()
    except UnicodeEncodeError:  # half of a surrogate pair
        return (json.dumps(document) + "\n").encode()


def finishing_order(requests: int, *, seed: int, batch_seq: int) -> list[int]:
    """In which order the requests of a batch finish: a shuffled list of their numbers from 0."""
    order = list(range(requests))
    dice(seed, "order", batch_seq).shuffle(order)
    return order


def billing_error(code: str) -> ApiError:
    """What the service says when the account cannot pay."""
    message = "You exceeded your current quota, please check your plan and billing details."
    return ApiError(429, message, type=code, code=code)


def fault_error(rule: Any, *, status: int, model: str) -> ApiError:
    """The error that a rule of the plan asks for; what it leaves open is what the service says in that case."""
    usual = _by_code(rule.code, status, model) or _by_status(status, model)
    code = usual.code if rule.code in (None, TOO_LARGE) else rule.code
    return ApiError(status, rule.message or usual.message, type=rule.type or usual.type, param=usual.param, code=code)


def flex_unavailable() -> ApiError:
    """What the service says when there is no room for the flex tier just now."""
    message = "The server is currently overloaded with flex requests. Please try again later."
    return ApiError(429, message, type="resource_unavailable", code="resource_unavailable")


def _by_code(code: str | None, status: int, model: str) -> ApiError | None:
    """What goes with a *code* that says more than its status does; None for any other."""
    if code in BILLING_CODES:
        return billing_error(str(code))
    if code == "resource_unavailable":
        return flex_unavailable()
    if code == "slow_down":
        message = "You are sending requests too quickly. Please slow down and try again later."
        return ApiError(status, message, type="slow_down", code=code)
    if code == "server_is_overloaded":
        return _by_status(503, model)
    if code == "context_length_exceeded":
        message = (
            "This model's maximum context length is 128000 tokens. However, your messages resulted in 200022 tokens. "
            "Please reduce the length of the messages."
        )
        return ApiError(status, message, param="messages", code=code)
    if code == TOO_LARGE:
        message = (
            f"Request too large for {model} in organization org-sandbox on tokens per min (TPM): Limit 30000, "
            "Requested 34307. The input or output tokens must be reduced in order to run successfully."
        )
        return ApiError(status, message, type="tokens", code="rate_limit_exceeded")
    return None


_BY_STATUS: dict[int, tuple[str, str | None, str]] = {
    401: (INVALID, "invalid_api_key", "Incorrect API key provided."),
    403: (
        "request_forbidden",
        "unsupported_country_region_territory",
        "Country, region, or territory not supported",
    ),
    408: ("timeout", "timeout", "Request timed out."),
    409: (INVALID, None, "The request conflicts with another one. Please try again."),
    413: (INVALID, None, "The request is too large."),
    422: (INVALID, None, "The request was well-formed, but could not be processed."),
    503: ("server_error", "server_is_overloaded", "The server is currently overloaded. Please try again later."),
}


def _by_status(status: int, model: str) -> ApiError:
    """What usually goes with *status*."""
    if status in _BY_STATUS:
        kind, code, message = _BY_STATUS[status]
        return ApiError(status, message, type=kind, code=code)
    if status == 404:
        message = f"The model `{model}` does not exist or you do not have access to it."
        return ApiError(status, message, code="model_not_found")
    if status == 429:
        message = f"Rate limit reached for {model} in organization org-sandbox on requests per min (RPM)."
        return ApiError(status, message, type="requests", code="rate_limit_exceeded")
    if status >= 500:
        message = "The server had an error while processing your request. Sorry about that!"
        return ApiError(status, message, type="server_error", code="server_error")
    return ApiError(status, "The request is invalid, says the plan of the sandbox.")


def _as_reply(error: ApiError) -> Reply:
    return Reply(error.status, error.body())


def _broken(line: bytes) -> bytes:
    return line[: len(line) // 2] + b"\n" if line else b""

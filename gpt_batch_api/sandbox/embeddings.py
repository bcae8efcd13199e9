"""`/v1/embeddings`: judge, count and answer a body. The same text always has the same unit vector."""

from __future__ import annotations

import base64
import math
import struct
from collections.abc import Collection

from gpt_batch_api.sandbox import counting, errors
from gpt_batch_api.sandbox.billing import Usage
from gpt_batch_api.sandbox.chance import dice
from gpt_batch_api.sandbox.endpoint import Answered, Asked, Body, check_model, check_names, check_number
from gpt_batch_api.sandbox.errors import ApiError
from gpt_batch_api.sandbox.models import embedding_size, is_known

MAX_INPUTS = 2_048
_MAX_TOKENS_EACH, _MAX_TOKENS = 8_192, 300_000
_PARAMETERS = frozenset(("dimensions", "encoding_format", "input", "model", "user"))
_FORMATS = ("float", "base64")


class Embeddings:
    """The Embeddings endpoint."""

    path = "/v1/embeddings"
    operation = "embeddings.create"

    def missing_in_batch(self, body: Body) -> tuple[str, str] | None:
        return None if body.get("input") else ("Input", "body.input")

    def check(self, body: Body, *, models: Collection[str]) -> None:
        model = check_model(body)
        check_names(body, _PARAMETERS)
        if not is_known(model, models):
            message = f"The model `{model}` does not exist or you do not have access to it."
            raise ApiError(404, message, code="model_not_found")
        check_number(body, "dimensions", least=1, most=embedding_size(model), whole=True)
        if body.get("encoding_format") not in (None, *_FORMATS):
            raise errors.wrong_value("encoding_format", value=body["encoding_format"], allowed=_FORMATS)
        _check_inputs(body)

    def count_input(self, body: Body) -> int:
        return sum(counting.count_embeddings(body))

    def overflow(self, tokens: int, limit: int) -> ApiError:
        message = f"Requested {tokens} tokens, max {limit} tokens per request."
        return ApiError(400, message, param="input", code="context_length_exceeded")

    def answer(self, asked: Asked) -> Answered:
        size = asked.body.get("dimensions") or embedding_size(asked.model)
        as_base64 = asked.body.get("encoding_format") == "base64"
        data = []
        for index, entry in enumerate([] if asked.spoilt.empty else counting.embedding_inputs(asked.body)):
            vector = unit_vector(size, asked.asker.seed, asked.model, entry)
            packed = base64.b64encode(struct.pack(f"<{size}f", *vector)).decode() if as_base64 else vector
            data.append({"object": "embedding", "index": index, "embedding": packed})
        tokens = asked.input_tokens
        document = {
            "object": "list",
            "data": data,
            "model": asked.model,
            "usage": {"prompt_tokens": tokens, "total_tokens": tokens},
        }
        return Answered(document, Usage(input=tokens))


def unit_vector(size: int, *identity: object) -> list[float]:
    """*size* numbers of length 1 together, which depend on *identity* only."""
    source = dice("embedding", *identity)
    values = [source.gauss(0.0, 1.0) for _ in range(size)]
    length = math.sqrt(sum(value * value for value in values))
    return [round(value / length, 8) for value in values]


def _check_inputs(body: Body) -> None:
    if body.get("input") is None:
        raise errors.missing_parameter("input")
    inputs = counting.embedding_inputs(body)
    if not inputs or any(len(entry) == 0 for entry in inputs):
        raise ApiError(400, "'input' cannot be an empty string or list.", param="input")
    if len(inputs) > MAX_INPUTS:
        message = f"Invalid 'input': array too long. Expected an array with maximum length {MAX_INPUTS}."
        raise ApiError(400, message, param="input", code="array_above_max_length")
    counts = counting.count_embeddings(body)
    if max(counts) > _MAX_TOKENS_EACH:
        message = (
            f"This model's maximum context length is {_MAX_TOKENS_EACH} tokens, however you requested {max(counts)} "
            "tokens. Please reduce your prompt."
        )
        raise ApiError(400, message, param="input", code="context_length_exceeded")
    if sum(counts) > _MAX_TOKENS:
        message = f"Requested {sum(counts)} tokens, max {_MAX_TOKENS} tokens per request."
        raise ApiError(400, message, param="input", code="max_tokens_per_request")

"""The Embeddings endpoint: vectors that depend on the text only, directly and in batches."""

from __future__ import annotations

import math
from typing import Any

import openai
import pytest

from tests.sandbox.rig import Rig

MODEL = "text-embedding-3-small"


def test_texts_have_unit_vectors_that_stay_the_same(rig: Rig) -> None:
    """In the order of the inputs, by whatever encoding the client asks for."""
    found = rig.client.embeddings.create(model=MODEL, input=["one", "two", "one"])
    vectors = [entry.embedding for entry in found.data]
    assert [entry.index for entry in found.data] == [0, 1, 2]
    assert vectors[0] == vectors[2] != vectors[1]
    assert all(len(vector) == 1536 for vector in vectors)
    assert math.isclose(sum(value * value for value in vectors[0]), 1, rel_tol=1e-3)
    plain = rig.client.embeddings.create(model=MODEL, input="one", encoding_format="float")
    assert plain.data[0].embedding == pytest.approx(vectors[0], abs=1e-6)
    assert plain.usage.prompt_tokens == plain.usage.total_tokens == 1


def test_fewer_dimensions_can_be_asked_for(rig: Rig) -> None:
    """And not more than the model has."""
    found = rig.client.embeddings.create(model=MODEL, input="one", dimensions=8)
    assert len(found.data[0].embedding) == 8
    with pytest.raises(openai.BadRequestError):
        rig.client.embeddings.create(model=MODEL, input="one", dimensions=1537)


@pytest.mark.parametrize(("count", "fits"), [(2_047, True), (2_048, True), (2_049, False)])
def test_the_limit_of_inputs_is_exact(rig: Rig, count: int, fits: bool) -> None:
    """2,048 in one request."""
    texts = ["a"] * count
    if fits:
        assert len(rig.client.embeddings.create(model=MODEL, input=texts, dimensions=1).data) == count
    else:
        with pytest.raises(openai.BadRequestError):
            rig.client.embeddings.create(model=MODEL, input=texts, dimensions=1)


@pytest.mark.parametrize("given", ["", [], ["a", ""], None])
def test_an_empty_input_is_refused(rig: Rig, given: Any) -> None:
    """As is none."""
    reply = rig.http.post(
        "/v1/embeddings", json={"model": MODEL, "input": given}, headers={"authorization": "Bearer sk-x"}
    )
    assert reply.status_code == 400
    assert reply.json()["error"]["param"] == "input"


def test_batches_of_embeddings_work_like_others(rig: Rig) -> None:
    """A line for each request, and usage of input tokens only."""
    lines = [
        {
            "custom_id": f"r{number}",
            "method": "POST",
            "url": "/v1/embeddings",
            "body": {"model": MODEL, "input": ["a", f"{number}"], "dimensions": 4, "encoding_format": "float"},
        }
        for number in range(3)
    ]
    batch = rig.finish(rig.submit(lines, endpoint="/v1/embeddings"))
    for line in rig.lines(batch.output_file_id):
        assert [len(entry["embedding"]) for entry in line["response"]["body"]["data"]] == [4, 4]
    assert batch.usage is not None
    assert (batch.usage.input_tokens, batch.usage.output_tokens) == (6, 0)

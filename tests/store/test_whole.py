"""A task as a whole."""

from __future__ import annotations

import json

from gpt_batch_api.domain.request import RequestKey
from gpt_batch_api.domain.states import RequestState
from gpt_batch_api.store import whole
from tests.store.rig import Desk, new_request


def test_requests_come_with_their_payloads(desk: Desk) -> None:
    """Also those that are final."""
    request = new_request("a")
    desk.answered(request, "b")
    desk.hand()
    found = list(whole.requests(desk.db))
    assert [(item.key, item.state) for item in found] == [
        (RequestKey("a"), RequestState.SUCCEEDED),
        (RequestKey("b"), RequestState.SUCCEEDED),
    ]
    assert found[0].body == request.prepared.body


def test_samples_come_with_their_states_and_rows(desk: Desk) -> None:
    """A sample of which nothing came has neither."""
    first, _ = desk.answered("a", "b")
    desk.hand({first: RequestState.SUCCEEDED}, rows=True, states={desk.sample_id("a"): '{"n": 1}'})
    one, other = whole.samples(desk.db)
    assert (one.key, one.state, [json.loads(row) for row in one.rows]) == ("a", '{"n": 1}', [{"request": first}])
    assert other == whole.WholeSample("b", None, ())

"""Faults of whole batches."""

from __future__ import annotations

from tests.sandbox.conftest import MakeRig
from tests.sandbox.rig import requests


def test_a_batch_can_fail(make_rig: MakeRig) -> None:
    """With the code and message that the plan gives; only the one that it names."""
    fault = {"fault": "fail", "nth": 2, "code": "odd_code", "message": "Odd."}
    rig = make_rig(batches=[fault])
    first, second = rig.submit(requests(2)), rig.submit(requests(2))
    assert rig.finish(first).status == "completed"
    second = rig.finish(second)
    assert second.status == "failed"
    assert second.errors is not None
    assert second.errors.data is not None
    assert second.errors.data[0].model_dump() == {"code": "odd_code", "message": "Odd.", "param": None, "line": None}


def test_a_batch_can_expire_early(make_rig: MakeRig) -> None:
    """When it would have been done, with a part of its requests done."""
    rig = make_rig(batches=[{"fault": "expire", "after_fraction": 0.3}])
    batch = rig.finish(rig.submit(requests(10)))
    assert (batch.status, batch.expired_at) == ("expired", batch.created_at + 2)
    assert (len(rig.lines(batch.output_file_id)), len(rig.lines(batch.error_file_id))) == (3, 7)
    assert rig.ledger()["total"]["requests"] == 3


def test_a_batch_can_expire_with_nothing_done(make_rig: MakeRig) -> None:
    """Then there is no output file."""
    rig = make_rig(batches=[{"fault": "expire", "after_fraction": 0}])
    batch = rig.finish(rig.submit(requests(4)))
    assert (batch.status, batch.output_file_id) == ("expired", None)
    assert len(rig.lines(batch.error_file_id)) == 4


def test_a_batch_can_be_cancelled_by_somebody_else(make_rig: MakeRig) -> None:
    """After a part of its requests."""
    rig = make_rig(
        batches=[{"fault": "cancel", "after_fraction": 0.5}], timing={"requests_per_s": 1, "validating_s": 0}
    )
    batch = rig.submit(requests(10))
    rig.advance(5.5)
    assert rig.client.batches.retrieve(batch.id).status == "cancelling"
    batch = rig.finish(batch)
    assert batch.status == "cancelled"
    assert len(rig.lines(batch.output_file_id)) == 6  # one was in flight
    assert len(rig.lines(batch.error_file_id)) == 4


def test_a_batch_can_be_stuck_for_ever_and_still_be_cancelled(make_rig: MakeRig) -> None:
    """It does not even expire."""
    rig = make_rig(batches=[{"fault": "stuck", "after_fraction": 0.5}])
    batch = rig.submit(requests(10))
    rig.advance(10 * 86_400)
    batch = rig.client.batches.retrieve(batch.id)
    assert batch.request_counts is not None
    assert (batch.status, batch.request_counts.completed) == ("in_progress", 5)
    rig.client.batches.cancel(batch.id)
    batch = rig.finish(batch)
    assert batch.status == "cancelled"
    assert len(rig.lines(batch.output_file_id)) == 5


def test_a_batch_can_show_a_status_that_nobody_knows(make_rig: MakeRig) -> None:
    """While it is processed; it completes all the same."""
    rig = make_rig(batches=[{"fault": "odd_status", "code": "simmering"}])
    batch = rig.submit(requests(10))
    rig.advance(1.5)
    assert str(rig.client.batches.retrieve(batch.id).status) == "simmering"
    assert rig.finish(batch).status == "completed"


def test_a_batch_can_have_no_counts(make_rig: MakeRig) -> None:
    """Nor usage, as with some providers."""
    rig = make_rig(batches=[{"fault": "no_counts"}])
    batch = rig.finish(rig.submit(requests(2)))
    assert (batch.status, batch.request_counts, batch.usage) == ("completed", None, None)


def test_a_batch_keeps_the_plan_that_it_was_created_under(make_rig: MakeRig) -> None:
    """Fair weather now does not help a batch created in a storm, nor the other way round."""
    rig = make_rig(lines=[{"fault": "missing"}])
    batch = rig.submit(requests(2))
    rig.plan()
    other = rig.submit(requests(2))
    rig.plan(lines=[{"fault": "missing"}])
    batch, other = rig.finish(batch), rig.finish(other)
    assert batch.output_file_id is None
    assert len(rig.lines(other.output_file_id)) == 2


def test_a_batch_can_have_blank_ids_instead_of_none(make_rig: MakeRig) -> None:
    """As with some providers."""
    rig = make_rig(batches=[{"fault": "blank_ids"}])
    batch = rig.submit(requests(2))
    assert (batch.output_file_id, batch.error_file_id) == ("", "")
    batch = rig.finish(batch)
    assert batch.output_file_id
    assert batch.error_file_id == ""


def test_a_batch_can_name_its_files_late(make_rig: MakeRig) -> None:
    """Its end is shown first."""
    rig = make_rig(batches=[{"fault": "late_ids", "seconds": 1_000_000}])
    batch = rig.finish(rig.submit(requests(2)))
    assert (batch.status, batch.output_file_id) == ("completed", None)
    rig.advance(1_000_000)
    assert rig.client.batches.retrieve(batch.id).output_file_id


def test_a_batch_can_have_an_empty_error_file(make_rig: MakeRig) -> None:
    """It is a file without lines."""
    rig = make_rig(batches=[{"fault": "empty_error_file"}])
    batch = rig.finish(rig.submit(requests(2)))
    assert batch.error_file_id is not None
    assert rig.client.files.content(batch.error_file_id).content == b""

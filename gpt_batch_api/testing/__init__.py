"""Check a task of your own: is it deterministic, does it survive kills, can it be wiped? In some seconds, without a key.

    from gpt_batch_api.testing import check_task

    def test_my_task():
        check_task(MyTask)

The task is run against the sandbox in calm, rough and stormy weather (docs/sandbox.md) by real processes that are
killed at seeded moments, restarted, wiped and restarted again. What breaks a promise is an AssertionError that names it
in one sentence, with the sample, both versions, and how to repeat. See docs/testing.md.
"""

from __future__ import annotations

from gpt_batch_api.testing.check import TaskCheckFailed, TaskChecks, TaskReport, check_task

__all__ = ["TaskCheckFailed", "TaskChecks", "TaskReport", "check_task"]

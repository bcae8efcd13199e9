"""How a run may end, and what it may say: an error only where the story has given it a reason, and never one of ours."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from tests.crash.harness import KILLED
from tests.property.seen import Seen
from tests.property.story_task import MISTAKE, Code

OURS = ("Traceback", "Please report", "InternalError", "StateConflict", "never retrieved")
"""Nothing that a user, a server or a kill does makes a run say one of these."""


@dataclass(frozen=True)
class Step:
    """A run of a story, before it begins."""

    values: Mapping[str, Any]
    takes_back: str | None
    kill_at: int | None
    code: Code
    fair: bool
    """Nothing has happened yet that may make a request fail."""
    before: Seen

    @property
    def reprocesses(self) -> bool:
        return self.takes_back == "reprocess"


def _nothing_to_show(step: Step) -> bool:
    shown = ("answered", "succeeded", "failed")
    return step.reprocesses and not any(request.state in shown for request in step.before.stored.requests)


EXPECTED: Mapping[str, Callable[[Step], bool]] = {
    MISTAKE: lambda step: step.code.breaks is not None,
    "All its good answers are safe": lambda step: not step.fair,
    "batches in a row have not passed": lambda step: not step.fair,
    "it has no answers yet": lambda step: step.reprocesses and not step.before.begun,
    "nothing to reprocess": _nothing_to_show,
    "A wipe of this task was begun and not finished": lambda step: (
        step.reprocesses and step.before.stored.wiping is not None
    ),
}
"""What a run says when it ends with exit code 1, and when that is right."""


def end_is_right(step: Step, *, code: int, log: str) -> None:
    """Look at the exit code of a run, and at all that it has said."""
    words = [word for word in OURS if word in log]
    assert not words, f"a run said {words[0]!r}:\n{log}"
    assert code in (0, 1, 3) or (code == KILLED and step.kill_at is not None), f"exit code {code}:\n{log}"
    if code == 1:
        said = [text for text in EXPECTED if text in log]
        assert said, f"exit code 1 for no reason that is known:\n{log}"
        assert all(EXPECTED[text](step) for text in said), f"exit code 1, but nothing gave a reason for it:\n{log}"

"""Each batch shows what was predicted beside what came, and warns where that is far off."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from gpt_batch_api.domain.errors import SettingError
from gpt_batch_api.sandbox.child import SandboxProcess
from tests.toy import ToyTask, query, settings_for


class Pictures(ToyTask):
    """A picture by URL: its size can only be guessed, and the sandbox takes another."""

    def payload(self, key: str) -> dict[str, Any]:
        picture = {"type": "image_url", "image_url": {"url": "https://example.com/a.png"}}
        text = {"type": "text", "text": f'Tell me about "{key}".'}
        return {**super().payload(key), "messages": [{"role": "user", "content": [text, picture]}]}


@pytest.mark.parametrize("force_direct", [False, True], ids=["batch", "direct group"])
def test_predicted_and_true_tokens_stand_side_by_side(
    server: SandboxProcess, tasks: Path, log: pytest.LogCaptureFixture, force_direct: bool
) -> None:
    ToyTask(**settings_for(server, tasks, force_direct=force_direct)).run()
    true_in, true_out = query(tasks, "SELECT sum(input_tokens), sum(output_tokens) FROM response")[0]
    assert f"{true_in} input tokens (predicted {true_in}), {true_out} completion tokens (assumed 400)" in log.text


@pytest.mark.parametrize(("factor", "warns"), [(1.5, True), (4, False)])
def test_assumed_completion_tokens_that_are_far_off_are_warned_of(
    server: SandboxProcess, tasks: Path, log: pytest.LogCaptureFixture, factor: float, warns: bool
) -> None:
    """800 assumed, some 240 used."""
    settings = settings_for(server, tasks, assumed_completion_ratio=1, warn_assumed_completion_factor=factor)
    ToyTask(**settings).run()
    found = re.findall(r"Batch 1: 800 completion tokens were assumed .* off by more than ([\d.]+) ", log.text)
    assert found == (["1.5"] if warns else [])


@pytest.mark.parametrize(("factor", "warns"), [(1.2, True), (60, False)])
def test_predicted_input_that_is_far_off_is_warned_of(
    server: SandboxProcess, tasks: Path, log: pytest.LogCaptureFixture, factor: float, warns: bool
) -> None:
    Pictures(**settings_for(server, tasks, warn_predicted_input_factor=factor)).run()
    assert ("(warn_predicted_input_factor)" in log.text) == warns


def test_after_enough_answers_the_assumption_is_right(
    server: SandboxProcess, tasks: Path, log: pytest.LogCaptureFixture
) -> None:
    """The first batch warns, the later ones have learnt."""

    class Many(ToyTask):
        count = 120

    settings = settings_for(server, tasks, max_batch_requests=40, max_unpushed_batches=1, max_remote_batches=1)
    Many(**settings).run()
    warned = re.findall(r"Batch (\d+): [\d,]+ completion tokens were assumed", log.text)
    assert warned[0] == "1"
    assert "3" not in warned


FREE: dict[str, Any] = {
    f"cost_{name}_mtoken": 0
    for name in ("input_direct", "input_cached", "input_batch", "output_direct", "output_batch")
}


def test_a_model_that_nobody_knows_is_told_once(
    server: SandboxProcess, tasks: Path, log: pytest.LogCaptureFixture
) -> None:
    """Without a price nothing else matters; with one, that its tokens are guessed."""

    class Unknown(ToyTask):
        defaults = {"model": "gpt-99", "max_completion_tokens": 100}  # noqa: RUF012

    settings = settings_for(server, tasks)
    with pytest.raises(SettingError, match="Model 'gpt-99' is not in the price lists"):
        Unknown(**settings).run()
    assert "of no known family" not in log.text
    Unknown(**settings, **FREE, max_session_requests=0).run()
    assert log.text.count("of no known family") == 1

"""`map`: a whole job in one call, its results in the order of the items."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

import gpt_batch_api
from gpt_batch_api.domain.errors import PayloadError, SchemaError, SettingError, UserError
from gpt_batch_api.sandbox.child import SandboxProcess
from tests.toy import MODEL, QUICK_PLAN, ask, books, query, sandbox, settings_for

PROMPT = 'Tell me about "{text}".'


class Remark(BaseModel):
    """What is asked about each item."""

    word: str
    stars: int


class Job:
    """A `map` against one server, in one folder."""

    def __init__(self, server: SandboxProcess, folder: Path) -> None:
        self.server = server
        self.folder = folder
        self.settings = settings_for(server, folder, name="job", model=MODEL, max_completion_tokens=100)

    def map(self, items: Any, prompt: Any = PROMPT, schema: Any = None, **arguments: Any) -> Any:
        return gpt_batch_api.map(items, prompt, schema, **{**self.settings, **arguments})

    def asked(self) -> int:
        """How many requests were ever sent."""
        return int(query(self.folder, "SELECT coalesce(sum(requests), 0) FROM ledger", "job")[0][0])

    def prompts(self) -> list[Any]:
        """What stands in the payloads."""
        keys = [key for (key,) in query(self.folder, "SELECT key FROM sample ORDER BY id", "job")]
        from gpt_batch_api.store.standings import look_up, payload_of

        store = self.folder / "job_state.db"
        found = look_up(store, keys)
        return [json.loads(payload_of(store, found[key].request_id))["messages"] for key in keys]


@pytest.fixture
def job(server: SandboxProcess, tasks: Path) -> Job:
    return Job(server, tasks)


def items(count: int) -> list[dict[str, str]]:
    return [{"id": f"i{number}", "text": f"word {number}"} for number in range(count)]


class TestResults:
    def test_each_item_has_its_result_in_order(self, job: Job) -> None:
        given = items(120)
        results = job.map(given, schema=Remark)
        assert results.complete
        found = list(results)
        assert [result.item for result in found] == given
        assert all(isinstance(result.value, Remark) and result.ok and result.status == "ok" for result in found)
        assert sum(result.cost_pico for result in found) == books(job.folder, "job").spent
        assert all(result.usage.output_tokens > 0 and result.cost > 0 for result in found)

    def test_without_a_schema_values_are_texts(self, job: Job) -> None:
        (result,) = job.map(["thimble"], 'Tell me about "{item}".')
        assert isinstance(result.value, str)
        assert result.value

    def test_with_a_json_schema_values_are_dicts(self, job: Job) -> None:
        schema = {
            "type": "object",
            "properties": {"stars": {"type": "integer"}},
            "required": ["stars"],
            "additionalProperties": False,
        }
        (result,) = job.map(items(1), schema=schema)
        assert isinstance(result.value["stars"], int)

    def test_results_can_be_read_again(self, job: Job) -> None:
        results = job.map(iter(items(30)))
        assert [result.key for result in results] == [result.key for result in results]

    def test_a_failure_says_why(self, tmp_path: Path, tasks: Path) -> None:
        with sandbox(tmp_path / "server", QUICK_PLAN + "answers: {refusal_rate: 1}\n") as server:
            (result,) = Job(server, tasks).map(items(1), min_pass_ratio=0, max_pass_failures=9)
        assert not result.ok
        assert result.value is None
        assert (result.failure.status, result.failure.reason, result.failure.attempts) == ("failed", "refusal", 3)
        assert result.usage.input_tokens > 0, "all attempts count"

    def test_what_was_not_asked_yet_is_pending(self, job: Job) -> None:
        for given in (items(30), iter(items(30))):
            results = job.map(given, max_session_requests=0)
            assert not results.complete
            assert [result.failure.status for result in results] == ["pending"] * 30
        assert job.map(items(30)).complete


class TestPrompts:
    def test_a_function_gives_a_text_or_messages(self, job: Job) -> None:
        def prompt(item: dict[str, str]) -> Any:
            text = f"About {item['text']}"
            return text if item["id"] == "i0" else [{"role": "user", "content": text}]

        assert all(result.ok for result in job.map(items(2), prompt, system="Be brief."))
        system = {"role": "system", "content": "Be brief."}
        assert job.prompts() == [[system, {"role": "user", "content": f"About word {n}"}] for n in range(2)]

    def test_an_error_of_the_function_names_it_and_the_item(self, job: Job) -> None:
        def prompt(item: dict[str, str]) -> str:
            return item["nothing"]

        with pytest.raises(UserError, match=r"prompt\(\) raised KeyError for item 1"):
            job.map(items(2), prompt)

    def test_pictures_become_parts_of_the_message(self, job: Job) -> None:
        given = [{"text": "x", "picture": "https://example.org/a.png"}, {"text": "y", "picture": ""}]
        job.map(given, images="picture")
        first, second = job.prompts()
        assert first[0]["content"][1] == {"type": "image_url", "image_url": {"url": "https://example.org/a.png"}}
        assert second[0]["content"] == [{"type": "text", "text": 'Tell me about "y".'}]

    def test_a_missing_column_is_named_with_those_that_there_are(self, job: Job) -> None:
        for given in (items(2), iter(items(2))):
            with pytest.raises(
                UserError,
                match=r"'texd', which the list of items does not have. There are: id, text. Did you mean 'text'",
            ):
                job.map(given, "{texd}")

    def test_a_prompt_without_columns_is_refused(self, job: Job) -> None:
        with pytest.raises(UserError, match="The prompt names no column"):
            job.map(items(2), "the same for all")

    def test_without_a_model_nothing_begins(self, job: Job) -> None:
        with pytest.raises(SettingError, match="model is not given"):
            job.map(items(2), model=None)
        assert not (job.folder / "job_state.db").exists() or job.asked() == 0


class TestAgain:
    def test_the_same_call_pays_nothing_again(self, job: Job) -> None:
        first = [result.value for result in job.map(items(20))]
        spent = books(job.folder, "job").spent
        assert [result.value for result in job.map(iter(items(20)))] == first
        assert books(job.folder, "job").spent == spent
        assert job.asked() == 20

    def test_items_that_were_added_are_asked(self, job: Job) -> None:
        job.map(items(5))
        assert len(list(job.map(items(8)))) == 8
        assert job.asked() == 8

    def test_a_column_that_was_added_changes_nothing(self, job: Job) -> None:
        job.map(items(5))
        job.map([{**item, "label": "new"} for item in items(5)])
        assert job.asked() == 5

    def test_items_that_moved_are_told_of(self, job: Job, log: pytest.LogCaptureFixture) -> None:
        job.map(items(4))
        assert "have changed, moved or gone" not in log.text
        job.map([{"id": "new", "text": "new"}, *items(4)], max_session_requests=0)
        assert "4 rows that were asked about have changed, moved or gone, and 5 rows are new" in log.text

    def test_with_dedupe_items_that_moved_are_not_paid_again(self, job: Job) -> None:
        before = [result.value for result in job.map(items(4), dedupe=True)]
        after = list(job.map([{"id": "new", "text": "new"}, *items(4)], dedupe=True))
        assert [result.value for result in after[1:]] == before
        assert [result.cost_pico for result in after[1:]] == [0] * 4
        assert job.asked() == 5

    def test_by_key_items_may_move_and_go(self, job: Job) -> None:
        first = {result.key: result.value for result in job.map(items(6), key="id")}
        again = list(job.map(items(6)[:0:-1], key="id"))
        assert [result.key for result in again] == ["i5", "i4", "i3", "i2", "i1"]
        assert all(result.value == first[result.key] for result in again)
        assert job.asked() == 6

    def test_by_key_another_content_is_refused(self, job: Job) -> None:
        job.map(items(3), key="id")
        with pytest.raises(PayloadError, match="'i1' was asked before with another payload"):
            job.map([items(3)[0], {"id": "i1", "text": "changed"}], key="id")

    @pytest.mark.parametrize(
        ("change", "told"),
        [
            ({"prompt": "Other: {text}"}, "prompt was 'Tell me about"),
            ({"model": "gpt-4o"}, "model was 'gpt-4o-mini' and is 'gpt-4o' now"),
            ({"schema": Remark}, "schema was null"),
            ({"system": "Be brief."}, "system was null and is 'Be brief.' now"),
            ({"key": "id"}, "key was null"),
        ],
    )
    def test_another_question_is_refused_with_the_choices(self, job: Job, change: dict[str, Any], told: str) -> None:
        job.map(items(3))
        with pytest.raises(UserError) as caught:
            job.map(items(3), **change)
        assert told in str(caught.value)
        assert all(way in str(caught.value) for way in ("--task_prefix", "--reinit_meta", "--wipe_task"))
        assert job.asked() == 3

    def test_as_long_as_nothing_was_asked_the_question_can_be_put_right(self, job: Job) -> None:
        with pytest.raises(SettingError, match="not in the price lists"):
            job.map(items(3), "Odd: {text}", model="no-such-model")
        assert all(result.ok for result in job.map(items(3)))
        assert job.prompts()[0] == [{"role": "user", "content": 'Tell me about "word 0".'}]

    def test_reinit_meta_keeps_the_answers_and_asks_the_rest_the_new_way(self, job: Job) -> None:
        before = [result.value for result in job.map(items(3))]
        after = [result.value for result in job.map(items(5), "Other: {text}", reinit_meta=True)]
        assert after[:3] == before
        assert len(after) == 5
        assert job.prompts()[-1] == [{"role": "user", "content": "Other: word 4"}]


class TestInput:
    def test_doubled_keys_are_named_with_both_places_before_anything_is_sent(self, job: Job) -> None:
        """Also if the second one is far behind what is taken in at first."""
        with pytest.raises(UserError, match="The key 'i1' occurs twice in the list of items: item 2 and item 401"):
            job.map([*items(400), items(3)[1]], key="id", max_batch_requests=10)
        assert not list(job.folder.iterdir())

    def test_conditions_and_limits_choose(self, job: Job) -> None:
        results = job.map(items(30), where='"1" in text', limit=4)
        assert [result.number for result in results] == [2, 11, 12, 13]
        assert job.asked() == 4

    def test_a_file_is_read(self, job: Job, tmp_path: Path) -> None:
        path = tmp_path / "in.jsonl"
        path.write_text("".join(json.dumps(item) + "\n" for item in items(3)))
        assert [result.item["id"] for result in job.map(path)] == ["i0", "i1", "i2"]

    @pytest.mark.parametrize(
        "schema",
        [list[Remark], dict[str, int], Remark | None, Remark(word="a", stars=1), "x", 5, int],
        ids=repr,
    )
    def test_a_schema_that_is_none_is_told_with_the_ways_out(self, job: Job, schema: Any) -> None:
        with pytest.raises(SchemaError, match="pydantic") as caught:
            job.map(items(1), schema=schema)
        assert schema is int or "None for answers of plain text" in str(caught.value)
        assert not list(job.folder.iterdir())

    @pytest.mark.parametrize("limit", ["x", 1.5, -1])
    def test_a_limit_that_is_no_number_of_items_is_told(self, job: Job, limit: Any) -> None:
        with pytest.raises(SettingError, match=f"limit is {limit!r}, but must be a whole number, at least 0"):
            job.map(items(1), limit=limit)

    def test_a_broken_file_costs_nothing_and_leaves_nothing(self, job: Job, tmp_path: Path) -> None:
        path = tmp_path / "in.jsonl"
        path.write_text('{"text": "a"}\n' * 400 + "{broken\n")
        with pytest.raises(UserError, match="line 401, is no JSON"):
            job.map(path, max_batch_requests=10)
        assert not list(job.folder.iterdir())

    def test_a_generator_is_not_held_in_memory(self, job: Job) -> None:
        """It is pulled as the job goes on: what lies ahead of the first batch has not been made."""
        made = 0

        def generate() -> Iterator[dict[str, str]]:
            nonlocal made
            for item in items(20_000):
                made += 1
                yield item

        results = job.map(generate(), max_session_requests=0, max_batch_requests=10, max_unpushed_batches=1)
        assert made < 2_000
        assert sum(1 for _ in results) == 20_000


class TestAsync:
    def test_it_runs_in_a_loop_that_goes_on_meanwhile(self, job: Job) -> None:
        async def main() -> tuple[int, int]:
            ticks = 0

            async def tick() -> None:
                nonlocal ticks
                while True:
                    ticks += 1
                    await asyncio.sleep(0.001)

            ticking = asyncio.create_task(tick())
            results = await gpt_batch_api.amap(items(5), PROMPT, **job.settings)
            ticking.cancel()
            return ticks, sum(result.ok for result in results)

        ticks, done = asyncio.run(main())
        assert ticks > 3
        assert done == 5

    def test_cancelled_it_stops_and_continues_later(self, tmp_path: Path, tasks: Path) -> None:
        with sandbox(tmp_path / "server", "timing: {validating_s: 100000}\n") as server:
            job = Job(server, tasks)

            async def main() -> None:
                running = asyncio.create_task(gpt_batch_api.amap(items(5), PROMPT, **job.settings))
                while not ask(server, "/v1/batches")["data"]:
                    await asyncio.sleep(0.02)
                running.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await running

            asyncio.run(main())
            assert threading.active_count() < 10
            assert query(tasks, "SELECT outcome FROM session", "job") == [("interrupted",)]
            results = job.map(items(5), once=True)
            assert [result.failure.reason for result in results] == ["not_answered"] * 5
            assert len(ask(server, "/v1/batches")["data"]) == 1, "the batch was sent twice"

"""A plain model of a story: what may be paid, what must be answered, which rows must be there.

It knows nothing of batches, states and moves. It counts how often the server charged for each question, and how often
it may have: once for each sample, once more for each answer that was of no use or that the task sent back, for each
reply that was lost, and for what a wipe made forget.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping

from tests.property.seen import ON_SERVER, Answer, Request, Seen
from tests.property.story_task import KEYS, Code, question_of

OPEN = frozenset({"queued", "batched", "sending", "held", "twin"})
"""What a wipe of requests forgets. An answer that the task has not seen yet is kept."""
KINDS = ("requests", "failed", "task")


def row_of(key: str) -> dict[str, str]:
    """The one right row of a sample."""
    return {"key": key, "word": question_of(key)}


class PlainModel:
    """What is known of a story so far."""

    def __init__(self) -> None:
        self.fair = True
        """Nothing has happened yet that may make a request fail."""
        self._questions: dict[int, str] = {}
        """Which question is so many tokens long."""
        self._doubted: set[str] = set()
        self._done: frozenset[str] = frozenset()
        self._forgotten: Counter[str] = Counter()

    # ------------------------------------------------------------ what a run may do

    def run(self, before: Seen, after: Seen, *, code: Code, takes_back: str | None) -> None:
        """Take in what one run has made of *before*, and look for all that cannot be right."""
        self._doubted |= code.doubts
        self._learn_lengths(after)
        if after.stored.epoch > max(1, before.stored.epoch):
            self._forget(before, takes_back)
        if takes_back == "reprocess":
            self._done = frozenset()
        self._answers_are_right(after)
        self._rows_are_right(after)
        self._nothing_is_paid_twice(after)

    def _learn_lengths(self, seen: Seen) -> None:
        for request in seen.stored.requests:
            asked = self._questions.setdefault(request.input_tokens, request.question)
            assert asked == request.question, f"{request.question} is asked in as many tokens as {asked}"

    def _forget(self, before: Seen, takes_back: str | None) -> None:
        """A wipe was begun: what it forgets, and has been or may yet be paid, may be paid once more."""
        wanted = (takes_back or "").removeprefix("wipe_")
        kind = max((kind for kind in (wanted, before.stored.wiping) if kind in KINDS), key=KINDS.index)
        gone = [request for request in before.stored.requests if _is_forgotten(request, kind)]
        kept = {request.id for request in before.stored.requests} - {request.id for request in gone}
        booked = _count(a for a in before.stored.answers if a.cost_pico and a.request_id in kept)
        charged, under_way = self._charged(before), self._under_way(before)
        for question in {request.question for request in gone}:
            still = sum(r.question == question and r.state in ("batched", "sending") for r in gone)
            self._forgotten[question] = charged[question] - under_way[question] - booked[question] + still
        if kind == "task":
            self._done = frozenset()

    # ------------------------------------------------------------ answers and rows

    def _answers_are_right(self, seen: Seen) -> None:
        last = {request.id: request for request in seen.stored.requests}
        accepted: dict[int, Answer] = {}
        for answer in seen.stored.answers:
            who = f"answer {answer.number} to {answer.key}"
            assert answer.says in (None, answer.question), f"{who} is about {answer.says}"
            if answer.is_right:
                assert answer.verdict == "success", f"{who} is right, but judged {answer.verdict} ({answer.reason})"
                assert answer.task_verdict in (None, "success") or self._may_be_sent_back(answer), (
                    f"{who} is right, but became {answer.task_verdict} ({answer.task_reason})"
                )
                assert answer.request_id not in accepted, f"{answer.key} has two good answers"
                if not answer.was_sent_back:
                    accepted[answer.request_id] = answer
            else:
                assert answer.task_verdict != "success", f"{who} is of no use, but counts as a success"
        for request in last.values():
            is_answered = request.id in accepted
            assert request.state != "succeeded" or is_answered, f"{request.key} succeeded without a good answer"
            assert request.state not in ("queued", "failed") or not is_answered, (
                f"{request.key} has a good answer, but is {request.state}"
            )
            assert not (self.fair and request.state == "failed"), f"{request.key} failed, though nothing went wrong"

    def _may_be_sent_back(self, answer: Answer) -> bool:
        return answer.was_sent_back and answer.attempt == 1 and answer.key in self._doubted

    def _rows_are_right(self, seen: Seen) -> None:
        done = frozenset(request.key for request in seen.stored.requests if request.state == "succeeded")
        same_rows(seen.stored.rows, [row_of(key) for key in done], what="in the store")
        for row in seen.delivered:
            assert row == row_of(row["key"]), f"a wrong row was delivered: {row}"
        keys = [row["key"] for row in seen.delivered]
        assert len(keys) == len(set(keys)), "a row was delivered twice"
        lost = self._done - done
        assert not lost, f"{sorted(lost)} were done, and are not any more"
        self._done = done

    def has_come_to_an_end(self, seen: Seen, code: Code) -> None:
        """After a run that says that all is done: each sample has its row or has failed, and the file has all rows."""
        final = {r.key for r in seen.stored.requests if r.state in ("succeeded", "failed")}
        asked = set(KEYS[: code.count])
        assert final >= asked, f"{sorted(asked - final)} have no result, though all is said to be done"
        self.all_is_delivered(seen)

    @staticmethod
    def all_is_delivered(seen: Seen) -> None:
        """After a run that ended well, done or not, the file has the rows of the store."""
        same_rows(seen.delivered, seen.stored.rows, what="in the output file")

    # ------------------------------------------------------------ money

    def _nothing_is_paid_twice(self, seen: Seen) -> None:
        """The server has charged for what is booked, under way, lost or forgotten, and for nothing more than it may."""
        numbers = [batch.number for batch in seen.remote if batch.status != "failed"]
        twice = [number for number, times in Counter(numbers).items() if times > 1]
        assert not twice, f"batch {', '.join(twice)} was paid twice"
        stored = seen.stored
        charged, under_way = self._charged(seen), self._under_way(seen)
        booked = _count(answer for answer in stored.answers if answer.cost_pico)
        lost = _count(answer for answer in stored.answers if answer.reason == "lost_reply")
        useless = _count(a for a in stored.answers if a.cost_pico and (a.was_sent_back or not a.is_right))
        samples = Counter(request.question for request in stored.requests)
        unbooked = unwanted = 0
        for question in charged | booked:
            free = lost[question] + self._forgotten[question]
            missing = charged[question] - under_way[question] - booked[question]
            assert missing >= 0, f"answers to {question} are booked that the server has not charged"
            unbooked += max(0, missing - free)
            unwanted += max(0, charged[question] - samples[question] - useless[question] - free)
        told = f"{stored.unknown_calls} direct calls are unknown; charged: {_told(charged)}; booked: {_told(booked)}"
        assert unbooked <= stored.unknown_calls, f"{unbooked} answers were paid, but are not booked ({told})"
        assert unwanted <= stored.unknown_calls, f"{unwanted} answers were paid again ({told})"

    def _charged(self, seen: Seen) -> Counter[str]:
        return Counter(self._questions[charge.input_tokens] for charge in seen.charges)

    def _under_way(self, seen: Seen) -> Counter[str]:
        """What is charged already for batches whose answers are still to be fetched."""
        open_ones = {str(batch.id): batch.remote_id for batch in seen.stored.batches if batch.state in ON_SERVER}
        ids = {b.id for b in seen.remote if b.number in open_ones and open_ones[b.number] in (None, b.id)}
        return Counter(self._questions[charge.input_tokens] for charge in seen.charges if charge.batch in ids)


def _is_forgotten(request: Request, kind: str) -> bool:
    return kind == "task" or request.state in OPEN or (kind == "failed" and request.state == "failed")


def _count(answers: Iterable[Answer]) -> Counter[str]:
    return Counter(answer.question for answer in answers)


def _told(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{question} {number}×" for question, number in sorted(counts.items())) or "nothing"


def same_rows(found: Iterable[Mapping[str, object]], wanted: Iterable[Mapping[str, object]], *, what: str) -> None:
    """Both have the same rows, each as often."""
    has, should = (Counter(str(sorted(row.items())) for row in rows) for rows in (found, wanted))
    assert has == should, (
        f"rows {what}: {sorted((has - should).elements())} too much, {sorted((should - has).elements())} missing"
    )

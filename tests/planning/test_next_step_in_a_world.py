"""Whole stories: steps are chosen and done in a simple world, until it is over."""

from __future__ import annotations

from dataclasses import dataclass

from hypothesis import given
from hypothesis import strategies as st

from gpt_batch_api.domain.ending import Ending, Over
from gpt_batch_api.planning.next_step import (
    FindOrphans,
    Generator,
    Poll,
    Push,
    Resolve,
    Seal,
    Settle,
    Step,
    Sweep,
    Wait,
    next_step,
)
from tests.planning.world import Luck, Rules, World

MOST_STEPS = 600
"""Far more than a story of a dozen requests needs."""

"""They may take their time on a busy machine."""

WITH_SERVER = (Settle, Sweep, Resolve, FindOrphans, Poll, Push)

enqueued = st.sampled_from([(), (("a", 4),), (("a", 5), ("b", 8))])
"""What the server admits of a model at once: never less than a batch can hold."""
plain_rules = st.builds(
    Rules,
    batch_size=st.integers(1, 4),
    max_unpushed=st.integers(1, 3),
    max_remote=st.integers(1, 3),
    enqueued=enqueued,
    min_batch=st.integers(1, 6),
    failures_allowed=st.just(10**6),
)
"""Rules under which everything can be finished."""
any_rules = st.builds(
    Rules,
    batch_size=st.integers(1, 4),
    max_unpushed=st.integers(1, 3),
    max_remote=st.integers(0, 3),
    max_session=st.sampled_from([0, 3, 10**6]),
    enqueued=enqueued,
    min_batch=st.integers(1, 6),
    failures_allowed=st.integers(0, 2),
    max_bad=st.integers(1, 3),
    once=st.booleans(),
)
narrow_rules = st.builds(
    lambda size, more, unpushed: Rules(
        batch_size=size, max_unpushed=unpushed, max_remote=4, enqueued=(("a", size + more),), failures_allowed=10**6
    ),
    size=st.integers(1, 3),
    more=st.integers(0, 2),
    unpushed=st.integers(1, 3),
)
"""The server admits few batches of model a at once, and any number of others."""
jobs = st.lists(st.sampled_from("ab"), max_size=8)
dice = st.lists(st.integers(0, 59), max_size=60)


@dataclass
class Story:
    """What happened, and how it ended."""

    world: World
    steps: list[Step]
    over: Over


def play(world: World) -> Story:
    """Do steps until the run is over; no step but a wait may leave everything as it was."""
    steps: list[Step] = []
    while len(steps) < MOST_STEPS:
        step = next_step(world.situation())
        if isinstance(step, Over):
            return Story(world, steps, step)
        before, then = world.facts(), world.now
        world.do(step)
        assert world.facts() != before or world.now > then, f"{step} changed nothing"
        steps.append(step)
    raise AssertionError(f"no end after {MOST_STEPS} steps; the last: {steps[-6:]}")


@given(models=jobs, rules=plain_rules, dice=dice)
def test_in_any_weather_every_request_ends_with_exactly_one_result(
    models: list[str], rules: Rules, dice: list[int]
) -> None:
    """Nothing lost, nothing twice, nothing stuck, nothing left behind; and the run says that it is done."""
    story = play(World(list(models), Luck(dice), rules))
    world = story.world
    assert story.over == Over(Ending.DONE)
    assert sorted(world.results) == sorted(world.models)
    assert len(world.models) >= len(models)
    assert world.rows_delivered == len(world.results)
    assert (world.queue, world.sealed, world.orphans, world.files_left()) == ([], [], [], 0)


@given(models=jobs, rules=any_rules, dice=dice)
def test_every_run_ends_and_tells_what_it_left(models: list[str], rules: Rules, dice: list[int]) -> None:
    """Whatever the rules: it is done exactly if no request and no file is left; all that is paid for is delivered."""
    story = play(World(list(models), Luck(dice), rules))
    world, over = story.world, story.over
    left = bool(world.unfinished() or world.to_generate or world.leftovers or world.orphans)
    assert (over.ending is Ending.DONE) == (not left)
    assert not (over.ending is Ending.DONE and world.files_left())
    to_send = bool(world.queue or world.sealed or world.to_generate)
    assert (over.ending is Ending.STOPPED) == bool(world.failed or (world.bad >= rules.max_bad and to_send))
    assert over.reasons or over.ending is Ending.DONE or world.failed
    assert not world.to_hand
    assert not world.rows_waiting
    assert world.rows_delivered == len(world.results)
    assert len(set(world.results)) == len(world.results)


@given(models=jobs, rules=any_rules, dice=dice)
def test_the_limits_hold_all_the_way(models: list[str], rules: Rules, dice: list[int]) -> None:
    """Batches prepared, batches on the server and requests sent never pass their limits."""
    world = World(list(models), Luck(dice), rules)
    for _ in range(MOST_STEPS):
        step = next_step(world.situation())
        if isinstance(step, Over):
            return
        world.do(step)
        if isinstance(step, Seal):
            local = world.situation().sealed
            assert len([batch for batch in local if not batch.waits_for_model]) <= rules.max_unpushed
        assert len(world.remote) + len(world.doubtful) <= rules.max_remote
        assert world.sent <= rules.max_session


@given(rules=narrow_rules, models=st.lists(st.sampled_from("aaab"), min_size=8, max_size=14), dice=dice)
def test_what_the_server_admits_of_a_model_is_run_into_once(rules: Rules, models: list[str], dice: list[int]) -> None:
    """After that it is known: nothing is sent that the server would refuse for it, and all ends well."""
    story = play(World(list(models), Luck(dice), rules))
    assert story.over == Over(Ending.DONE)
    assert sorted(story.world.results) == sorted(story.world.models)
    assert len(story.world.refused) == len(set(story.world.refused))


@given(
    order=st.permutations("aaaaabbbbb"), size=st.integers(1, 2), max_unpushed=st.integers(1, 3), learnt=st.booleans()
)
def test_a_full_model_does_not_keep_the_others_from_being_finished(
    order: list[str], size: int, max_unpushed: int, learnt: bool
) -> None:
    """One batch of a fills what the server admits of it and never ends; every request of b gets its result."""
    rules = Rules(batch_size=size, max_unpushed=max_unpushed, max_remote=3, enqueued=(("a", size),), stuck="a")
    world = World(order, Luck([]), rules, learnt={"a": size} if learnt else {})
    for _ in range(MOST_STEPS):
        world.do(next_step(world.situation()))
        if world.rows_delivered == 5:
            break
    assert [world.models[id] for id in world.results] == ["b"] * 5
    assert len(world.remote) <= 1


@given(models=jobs, rules=any_rules, dice=dice)
def test_a_server_that_is_away_is_left_alone(models: list[str], rules: Rules, dice: list[int]) -> None:
    world = World(list(models), Luck(dice), rules)
    for _ in range(MOST_STEPS):
        step = next_step(world.situation())
        if isinstance(step, Over):
            return
        assert not isinstance(step, WITH_SERVER) or world.back_at <= world.now
        world.do(step)


@given(models=jobs, rules=plain_rules, first=dice, second=dice, third=st.integers(0, 40))
def test_a_run_that_is_broken_off_goes_on_where_it_was(
    models: list[str], rules: Rules, first: list[int], second: list[int], third: int
) -> None:
    """After a stop at any step, with other luck, and with only_process in between, all ends well."""
    world = World(list(models), Luck(first), rules)
    for _ in range(third):
        step = next_step(world.situation())
        if isinstance(step, Over):
            break
        world.do(step)
    sent, asked = world.sent, len(world.models) + len(world.to_generate)
    world.rules = Rules(**{**vars(rules), "only_process": True})
    world.luck = Luck(second)
    between = play(world)
    assert world.sent <= sent
    assert between.over.ending is (Ending.WORK_LEFT if world.unfinished() else Ending.DONE)
    assert (world.remote, world.doubtful, world.ended) == ([], [], [])
    assert (world.orphans, world.files_left()) == ([], 0)
    world.rules = rules
    assert play(world).over == Over(Ending.DONE)
    assert sorted(world.results) == sorted(world.models)
    assert len(world.models) >= asked


@given(models=jobs, dice=dice)
def test_once_never_waits_and_repeated_runs_finish_the_job(models: list[str], dice: list[int]) -> None:
    """For cron: each run does what can be done, time passes between them."""
    world = World(list(models), Luck(dice), Rules(once=True, failures_allowed=10**6))
    for _ in range(200):
        story = play(world)
        assert not any(isinstance(step, Wait) for step in story.steps)
        if story.over.ending is Ending.DONE:
            break
        world.now += 3600.0
    assert sorted(world.results) == sorted(world.models)
    assert not world.to_generate
    assert (world.orphans, world.files_left()) == ([], 0)
    assert world.situation().generator is Generator.EXHAUSTED

"""Settings on the command line: as users type them, and back."""

from __future__ import annotations

import argparse
import string
import subprocess
import sys
from contextlib import suppress
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from gpt_batch_api.cli.options import (
    add_settings,
    make_parser,
    settings_from_args,
    settings_from_config,
    to_args,
)
from gpt_batch_api.domain.errors import SettingError
from gpt_batch_api.domain.limits import effective_batch_limit
from gpt_batch_api.domain.options import Option, find, options
from gpt_batch_api.domain.settings import Settings, Source


def all_flags() -> argparse.ArgumentParser:
    parser = make_parser(prog="demo")
    add_settings(parser)
    return parser


PARSER = all_flags()


def parse(line: str) -> Settings:
    return settings_from_args(PARSER.parse_args(line.split()), environ={})


def refusal(line: str) -> str:
    with pytest.raises(SettingError) as caught:
        parse(line)
    assert "\n" not in str(caught.value)
    return str(caught.value)


MODEL_ARGS = (
    "--model gpt-4o-mini-2024-07-18 --cost_input_direct_mtoken 0.150 --cost_input_cached_mtoken 0.075 "
    "--cost_input_batch_mtoken 0.075 --cost_output_direct_mtoken 0.600 --cost_output_batch_mtoken 0.300"
)


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("--task char_codes --assumed_completion_ratio 0.25", {"task": "char_codes", "assumed_completion_ratio": 0.25}),
        (
            "--max_session_requests 0 --max_batch_requests 100 --max_unpushed_batches 1",
            {"max_session_requests": 0, "max_batch_requests": 100, "max_unpushed_batches": 1},
        ),
        (
            "--force_direct --direct_verbose always --max_session_requests 10 --dryrun",
            {"force_direct": True, "direct_verbose": "always", "max_session_requests": 10, "dryrun": True},
        ),
        ("--assumed_completion_ratio 0.35 --only_process", {"assumed_completion_ratio": 0.35, "only_process": True}),
        (
            "--wipe_requests --max_batch_cost 1.00 --max_session_cost 1.00",
            {"wipe_requests": True, "max_batch_cost": Decimal(1), "max_session_cost": Decimal(1)},
        ),
        ("--wipe_task --no_run", {"wipe_task": True, "run": False}),
        ("--max_remote_ktokens 5000", {"max_remote_ktokens": 5000}),
        ("--max_remote_ktokens 90 --max_batch_ktokens 90", {"max_remote_ktokens": 90, "max_batch_ktokens": 90}),
        ("--max_remote_batches 0 --max_unpushed_batches 3", {"max_remote_batches": 0, "max_unpushed_batches": 3}),
        ("--max_retries 5 --min_pass_ratio 0.8", {"max_retries": 5, "min_pass_ratio": 0.8}),
        (
            "--process_failed_batches 2 --retry_fatal_requests",
            {"process_failed_batches": 2, "retry_fatal_requests": True},
        ),
        ("--process_failed_batches -1", {"process_failed_batches": -1}),
        ("--reinit_meta --wipe_failed", {"reinit_meta": True, "wipe_failed": True}),
        ("--no_wandb", {"wandb": False}),
    ],
)
def test_documented_commands_are_understood(line: str, expected: dict[str, Any]) -> None:
    """What was typed is given, and nothing else is."""
    typed = parse(f"{MODEL_ARGS} {line}")
    assert {name: typed.value(name) for name in expected} == expected
    given_names = {option.name for option in options(Settings) if typed.given(option.name)}
    assert given_names == {
        *expected,
        "model",
        *(option.name for option in options(Settings) if "mtoken" in option.name),
    }
    assert typed.costs.cost_output_direct_mtoken == Decimal("0.6")
    assert {typed.source(name) for name in given_names} == {Source.COMMAND_LINE}


def test_a_flag_alone_shrinks_the_batch_limit() -> None:
    """The documented `--max_remote_ktokens 5000` needs no second flag."""
    assert effective_batch_limit(parse("--max_remote_ktokens 5000"), "ktokens") == 5000


def test_two_flags_that_contradict_are_one_line() -> None:
    assert refusal("--max_remote_ktokens 90 --max_batch_ktokens 100") == (
        "max_batch_ktokens is 100, but max_remote_ktokens is 90: a full batch would never fit on the server. Lower "
        "max_batch_ktokens to at most 90, or raise max_remote_ktokens."
    )


@pytest.mark.parametrize("option", options(Settings), ids=lambda option: option.name)
def test_every_setting_has_its_flags(option: Option) -> None:
    """With underscores and with dashes; a boolean both ways; another name too."""
    for name in (option.name, *option.aliases):
        for flag in {f"--{name}", f"--{name.replace('_', '-')}"}:
            words = [flag] if option.kind is bool else [flag, example(option)]
            namespace = PARSER.parse_args(words)
            assert set(vars(namespace)) == {option.name}
    if option.kind is bool:
        for flag in (f"--no_{option.name}", f"--no-{option.name.replace('_', '-')}"):
            assert getattr(PARSER.parse_args([flag]), option.name) is False


def example(option: Option) -> str:
    if option.default is not None:
        return option.text(option.default)
    checked = {"endpoint": "/v1/x", "url": "http://h", "deadline": "6h"}
    return next((text for part, text in checked.items() if part in option.name), "1")


@pytest.mark.parametrize("option", options(Settings), ids=lambda option: option.name)
def test_the_help_shows_the_flag_that_changes_something(option: Option) -> None:
    """`--NAME` for what is off or has a value, `--no_NAME` for what is on; dashes and other ways are not shown."""
    shown = [line.split()[0] for line in PARSER.format_help().splitlines() if line.startswith("  --")]
    assert (f"--{option.name}" in shown) == (option.default is not True)
    assert (f"--no_{option.name}" in shown) == (option.kind is bool and option.default is not False)
    assert not [flag for flag in shown if "-" in flag.removeprefix("--")]


def test_the_help_warns_of_what_destroys() -> None:
    cautious = [option.name for option in options(Settings) if option.caution]
    assert PARSER.format_help().count("CAUTION: ") == len(cautious) == 4


def one_line_help() -> str:
    return " ".join(PARSER.format_help().split())


@pytest.mark.parametrize(
    "text",
    [
        "usage: demo [-h] [--SETTING [VALUE]] options:",
        "--max_batch_requests NUM most requests in one batch (default: 50_000)",
        "--lock_timeout NUM how long to wait for another process that holds this task; none: as long as it takes "
        "(s; default: none)",
        "--endpoint PATH endpoint that requests go to; only /v1/chat/completions is supported "
        "(default: $OPENAI_ENDPOINT, else /v1/chat/completions)",
        "--openai_api_key KEY key for the API; never stored, never logged (default: $OPENAI_API_KEY)",
        "--no_run show the status, apply wipes, and stop --postprocess_output {never,if_written,always}",
        "--wipe_task CAUTION: forget everything, output included, and start from scratch (implies wipe_requests) ",
        "--task_dir DIR folder of the task's files (default: ./tasks)",
        "(also --completion_ratio; default: calibrated)",
    ],
)
def test_help_tells_what_happens_unit_default_and_environment(text: str) -> None:
    assert text in one_line_help()


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("", None),
        ("--wandb", True),
        ("--no_wandb", False),
        ("--no-wandb", False),
        ("--wandb --no_wandb", False),
    ],
)
def test_wandb_has_three_states(line: str, expected: bool | None) -> None:
    assert parse(line).wandb.wandb is expected
    assert parse(line).given("wandb") == bool(line)


def test_the_last_of_two_flags_wins() -> None:
    assert parse("--max_retries 1 --max-retries 3").requester.max_retries == 3
    assert parse("--completion_ratio 0.1 --assumed_completion_ratio 0.2").costs.assumed_completion_ratio == 0.2
    assert parse("--no_run --run").task.run is True


def test_none_can_be_typed_over_a_file() -> None:
    namespace = PARSER.parse_args(["--lock_timeout", "none", "--deadline", "none"])
    merged = settings_from_args(namespace, environ={}, config={"lock_timeout": 5, "deadline": "6h"})
    assert merged.requester.lock_timeout is None
    assert merged.extra.deadline is None


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("--max_retries -1", "max_retries is -1, but must be at least 0."),
        ("--max-retries many", "max_retries is 'many', but must be a whole number, at least 0."),
        ("--direct_verbose maybe", "direct_verbose is 'maybe', but must be one of never, error, warn, always."),
        ("--max_retries", "argument --max_retries: expected one argument. See demo --help."),
        ("--max_retry 3", "unrecognized arguments: --max_retry 3. Did you mean --max_retries?"),
        ("--max-retry=3", "unrecognized arguments: --max-retry=3. Did you mean --max_retries?"),
        ("--max_batch_req 3", "unrecognized arguments: --max_batch_req 3. Did you mean --max_batch_requests?"),
        ("--openai-apikey sk-1", "unrecognized arguments: --openai-apikey sk-…. Did you mean --openai_api_key?"),
        ("--xyzzy", "unrecognized arguments: --xyzzy. See demo --help."),
    ],
)
def test_a_typing_mistake_is_one_line(line: str, expected: str) -> None:
    assert refusal(line) == expected


def test_a_parser_of_the_user_reports_in_its_own_way(capsys: pytest.CaptureFixture[str]) -> None:
    parser = argparse.ArgumentParser(prog="mine")
    add_settings(parser)
    with pytest.raises(SystemExit) as caught:
        parser.parse_args(["--max_retries", "-1"])
    assert caught.value.code == 2
    assert capsys.readouterr().err.endswith("mine: error: max_retries is -1, but must be at least 0.\n")


def test_a_script_keeps_its_own_arguments() -> None:
    """Names that are no settings are left alone, and settings that the script uses for itself can be ignored."""
    parser = make_parser(prog="mine")
    parser.add_argument("--input")
    parser.add_argument("--task", default="mine")
    parser.add_argument("--deadline", default="tomorrow")
    add_settings(parser, exclude=("task", "deadline"))
    typed = settings_from_args(parser.parse_args(["--input", "x"]), environ={}, ignore=("deadline",))
    assert typed.script.task == "mine"
    assert typed.extra.deadline is None


def test_groups_and_exclusions_are_obeyed() -> None:
    parser = make_parser(prog="mine")
    add_settings(parser, groups=("costs", "limits"), exclude=("max_batch_mb", "completion_ratio"))
    shown = parser.format_help()
    assert "--max_batch_requests" in shown
    assert "--cost_input_batch_mtoken" in shown
    assert "--max_batch_mb" not in shown
    assert "completion_ratio" not in shown
    assert "--max_retries" not in shown
    with pytest.raises(SettingError, match="There is no group of settings 'limit'"):
        add_settings(make_parser(), groups=("limit",))
    with pytest.raises(SettingError, match="Did you mean max_batch_mb"):
        add_settings(make_parser(), exclude=("max_batch_mbs",))


def test_a_script_has_defaults_of_its_own() -> None:
    """They show in the help, they apply, and they do not count as given."""
    defaults = {"max_retries": 7, "keep_responses": False, "completion_ratio": 0.2}
    parser = make_parser(prog="mine")
    add_settings(parser, defaults=defaults)
    shown = " ".join(parser.format_help().split())
    assert "expiry and cancellation do not count (default: 7)" in shown
    assert " --keep_responses keep raw responses" in shown
    assert "--no_keep_responses" not in shown
    typed = settings_from_args(parser.parse_args([]), environ={}, defaults=defaults)
    assert (typed.requester.max_retries, typed.extra.keep_responses) == (7, False)
    assert typed.costs.assumed_completion_ratio == 0.2
    assert not typed.given("max_retries")


def test_sources_of_a_script_lie_over_each_other() -> None:
    typed = settings_from_args(
        PARSER.parse_args(["--max_retries", "4"]),
        environ={"OPENAI_ENDPOINT": "/environ"},
        config={"max_retries": 3, "show_errors": 3, "endpoint": "/file"},
        defaults={"show_errors": 1, "show_warnings": 1},
    )
    assert [typed.source(name) for name in ("max_retries", "endpoint", "show_errors", "show_warnings")] == [
        Source.COMMAND_LINE,
        Source.ENVIRONMENT,
        Source.FILE,
        Source.DEFAULT,
    ]


def test_a_namespace_is_a_configuration_too() -> None:
    namespace = PARSER.parse_args(["--max_retries", "4"])
    assert settings_from_config(namespace, environ={}) == settings_from_args(namespace, environ={})


def test_subcommands_can_have_settings() -> None:
    parser = make_parser(prog="tool")
    add_settings(parser.add_subparsers(dest="command").add_parser("run"), groups=("requester",))
    namespace = parser.parse_args(["run", "--max_retries", "4"])
    assert settings_from_args(namespace, environ={}).requester.max_retries == 4
    with pytest.raises(SettingError, match=r"^max_retries is -4"):
        parser.parse_args(["run", "--max_retries", "-4"])


def test_secrets_do_not_come_back_as_arguments() -> None:
    secret = Settings.from_values({"openai_api_key": "sk-1", "max_retries": 3}, environ={})
    assert to_args(secret) == ["--max_retries", "3"]


TEXTS = st.text(string.printable + "é–☃\0", min_size=1)
VALUES: dict[type, st.SearchStrategy[Any]] = {
    bool: st.booleans(),
    int: st.integers(-1000, 10**9),
    float: st.floats(0, 10**9) | st.floats(0, 2),
    Decimal: st.decimals(0, 10**6, places=6),
    str: TEXTS | st.sampled_from(["-x", "--run", "none", "a b", "/v1/x", "http://host", "6h", "17:30"]),
    Path: TEXTS.map(Path) | st.sampled_from([Path("~"), Path("-"), Path("/a b")]),
}


@st.composite
def any_settings(draw: st.DrawFn) -> Settings:
    """Some settings, each with some value that obeys its rule."""
    names = draw(
        st.sets(st.sampled_from([option.name for option in options(Settings) if not option.secret]), max_size=6)
    )
    legal = {}
    for name in sorted(names):
        option = find(Settings, name)
        value = draw(st.sampled_from(option.choices) if option.choices else VALUES[option.kind])
        with suppress(SettingError):
            legal[name] = option.read(value)
    try:
        return Settings.from_values(legal, Source.COMMAND_LINE, environ={})
    except SettingError:
        assume(False)
        raise


@given(any_settings())
def test_settings_survive_the_way_through_arguments(settings: Settings) -> None:
    """Settings -> arguments -> settings: same values, same sources."""
    again = settings_from_args(PARSER.parse_args(to_args(settings)), environ={})
    assert again == settings
    assert again.sources == settings.sources
    assert to_args(again) == to_args(settings)


def test_help_needs_nothing_heavy() -> None:
    """`--help` must be instant: no client, no vocabulary, no YAML, no terminal library."""
    program = "import sys, gpt_batch_api.cli.options as o; o.add_settings(o.make_parser()); print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True).stdout.split()
    assert not set(loaded) & {
        "openai",
        "pydantic",
        "tiktoken",
        "yaml",
        "rich",
        "wandb",
        "omegaconf",
        "hydra",
        "asyncio",
    }

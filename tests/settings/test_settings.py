"""The settings: where values come from, which one wins, what contradicts what."""

from __future__ import annotations

import copy
import json
import pickle
from collections.abc import Mapping
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from gpt_batch_api.domain.errors import SettingError
from gpt_batch_api.domain.options import by_name, options
from gpt_batch_api.domain.settings import Settings, Source

KEY = "sk-very-secret"


def settings(environ: Mapping[str, str] | None = None, /, **values: Any) -> Settings:
    return Settings.from_values(values, environ=environ or {})


def refusal(**values: Any) -> str:
    with pytest.raises(SettingError) as caught:
        settings(**values)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_nothing_given_means_all_defaults() -> None:
    plain = settings()
    assert plain == Settings()
    assert not any(plain.given(option.name) for option in options(Settings))
    assert {plain.source(option.name) for option in options(Settings)} == {Source.DEFAULT}


def test_every_default_obeys_its_own_rule() -> None:
    for option in options(Settings):
        assert option.read(option.default) == option.default


def test_names_are_unique_over_all_groups() -> None:
    names = [name for option in options(Settings) for name in (option.name, *option.aliases)]
    assert len(names) == len(set(names)) == len(by_name(Settings))


def test_every_setting_has_a_help_and_a_group() -> None:
    for option in options(Settings):
        assert option.help
        assert option.group
        assert getattr(Settings(), option.section).__doc__
        if option.default is True:
            assert option.help_off


def test_values_are_found_by_group_and_by_name() -> None:
    given = settings(max_retries="5", task_dir="jobs", cost_input_batch_mtoken=0.075)
    assert given.requester.max_retries == given.value("max_retries") == 5
    assert given.script.task_dir == Path("jobs")
    assert given.costs.cost_input_batch_mtoken == Decimal("0.075")
    assert given.given("max_retries")
    assert not given.given("min_pass_ratio")


def test_layers_lie_over_each_other_in_order() -> None:
    """Default < script's default < file < environment < command line < keyword, and each value knows its source."""
    layers: dict[Source, dict[str, Any]] = {
        Source.KEYWORD: {"max_retries": 5},
        Source.COMMAND_LINE: {"max_retries": 4, "endpoint": "/line"},
        Source.FILE: {"max_retries": 3, "endpoint": "/file", "client_base_url": "http://file", "show_errors": 3},
        Source.DEFAULT: {"show_errors": 1, "show_warnings": 1},
    }
    environ = {"OPENAI_ENDPOINT": "/environ", "OPENAI_BASE_URL": "http://environ", "OPENAI_API_KEY": KEY}
    merged = Settings.from_layers(layers, environ=environ)
    found = {
        name: (merged.value(name), merged.source(name))
        for name in ("max_retries", "endpoint", "client_base_url", "show_errors", "show_warnings", "openai_api_key")
    }
    assert found == {
        "max_retries": (5, Source.KEYWORD),
        "endpoint": ("/line", Source.COMMAND_LINE),
        "client_base_url": ("http://environ", Source.ENVIRONMENT),
        "show_errors": (3, Source.FILE),
        "show_warnings": (1, Source.DEFAULT),
        "openai_api_key": (KEY, Source.ENVIRONMENT),
    }


@pytest.mark.parametrize(
    ("variable", "name", "value"),
    [
        ("OPENAI_API_KEY", "openai_api_key", "sk-1"),
        ("OPENAI_ORG_ID", "openai_organization", "org-1"),
        ("OPENAI_PROJECT_ID", "openai_project", "proj_1"),
        ("OPENAI_BASE_URL", "client_base_url", "https://api.example.com/v1"),
        ("OPENAI_ENDPOINT", "endpoint", "/v1/responses"),
    ],
)
def test_a_variable_of_the_environment_is_a_default(variable: str, name: str, value: str) -> None:
    """Set: it counts. Empty: it counts as not set. Given otherwise: that wins."""
    assert settings({variable: value}).value(name) == value
    assert settings({variable: value}).source(name) is Source.ENVIRONMENT
    assert settings({variable: " "}) == settings({variable: ""}) == settings()
    assert settings({variable: "?? ??"}, **{name: value}).value(name) == value


def test_without_an_environment_given_the_process_has_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    assert Settings.from_values({}).general.openai_api_key == KEY


def test_a_wrong_variable_is_named() -> None:
    with pytest.raises(SettingError) as caught:
        settings({"OPENAI_ENDPOINT": "v1"})
    assert str(caught.value) == (
        "endpoint is 'v1' (from OPENAI_ENDPOINT), but must be a path that starts with '/', such as /v1/chat/completions."
    )


def test_none_means_not_given() -> None:
    layers: dict[Source, dict[str, Any]] = {Source.KEYWORD: {"max_retries": None}, Source.FILE: {"max_retries": 3}}
    assert Settings.from_layers(layers, environ={}).requester.max_retries == 3


def test_the_word_none_takes_a_value_back() -> None:
    layers: dict[Source, dict[str, Any]] = {
        Source.COMMAND_LINE: {"lock_timeout": "none"},
        Source.FILE: {"lock_timeout": 3},
    }
    merged = Settings.from_layers(layers, environ={})
    assert merged.requester.lock_timeout is None
    assert merged.source("lock_timeout") is Source.COMMAND_LINE


def test_a_file_that_repeats_a_default_gives_nothing() -> None:
    """A YAML file names every setting; only what differs from our default was meant."""
    values = {"max_batch_ktokens": 20_000, "max_remote_ktokens": 5000, "show_errors": 25}
    merged = Settings.from_layers({Source.FILE: values, Source.DEFAULT: {"show_errors": 1}}, environ={})
    assert not merged.given("max_batch_ktokens")
    assert merged.source("max_remote_ktokens") is Source.FILE
    assert merged.requester.show_errors == 25


def test_a_keyword_that_repeats_a_default_is_given() -> None:
    assert settings(max_batch_ktokens=20_000).given("max_batch_ktokens")


def test_completion_ratio_is_another_name() -> None:
    assert settings(completion_ratio=0.3) == settings(assumed_completion_ratio=0.3)
    assert settings(completion_ratio=0.3).given("assumed_completion_ratio")
    assert settings().replace(completion_ratio=0.3).costs.assumed_completion_ratio == 0.3
    assert refusal(completion_ratio=0.3, assumed_completion_ratio=0.4) == (
        "assumed_completion_ratio and completion_ratio are two names of one setting, but both are given. Give one."
    )


def test_an_unknown_name_is_refused_in_every_layer() -> None:
    assert refusal(max_retry=1) == "There is no setting 'max_retry'. Did you mean max_retries?"
    with pytest.raises(SettingError, match="Did you mean max_batch_mb"):
        Settings.from_layers({Source.FILE: {"max-batch-mb": None}}, environ={})


def test_replace_gives_new_settings() -> None:
    before = settings(max_retries=5, show_errors=3)
    after = before.replace(max_retries=None, show_warnings="7")
    assert (after.requester.max_retries, after.source("max_retries")) == (2, Source.DEFAULT)
    assert (after.requester.show_warnings, after.source("show_warnings")) == (7, Source.KEYWORD)
    assert after.requester.show_errors == 3
    assert before == settings(max_retries=5, show_errors=3)
    with pytest.raises(SettingError, match="max_retries is -1"):
        before.replace(max_retries=-1)


def test_secrets_stay_secret() -> None:
    """Not in repr, not in what is stored, not in an error."""
    secret = settings(openai_api_key=KEY, openai_organization="org-x", openai_project="proj_x")
    for shown in (repr(secret), json.dumps(secret.public())):
        assert not any(value in shown for value in (KEY, "org-x", "proj_x"))
    assert "openai_api_key" not in secret.public()
    assert KEY not in refusal(openai_api_key=f"{KEY}\n")


def test_public_values_are_json_and_give_the_same_settings_again() -> None:
    given = settings(max_task_cost="12.50", task_dir="~/jobs", wandb=False, deadline=3600, temperature=0.5)
    stored = json.loads(json.dumps(given.public()))
    assert stored["max_task_cost"] == "12.50"
    assert settings(**stored) == given
    assert len(stored) == len([option for option in options(Settings) if not option.secret])


def test_settings_can_be_copied_and_pickled() -> None:
    given = settings(max_retries=5)
    for copied in (copy.deepcopy(given), pickle.loads(pickle.dumps(given))):
        assert copied == given
        assert copied.given("max_retries")
    assert hash(given) == hash(settings(max_retries=5))


# name: (values that are allowed at the border, values just beyond it)
BORDERS: dict[str, tuple[list[Any], list[Any]]] = {
    "task_prefix": (["a", "char_codes", "a" * 100], ["a/b", "a\\b", ".a", "a" * 101, ""]),
    "chat_endpoint": (["/v1/responses"], ["v1/responses", "/v1 /x", "https://host/v1"]),
    "endpoint": (["/"], ["v1"]),
    "temperature": ([0, 2], [-0.1, 2.1]),
    "top_p": ([0, 1], [-0.1, 1.1]),
    "max_completion_tokens": ([1], [0]),
    "opinions_min": ([1], [0]),
    "opinions_max": ([1], [0]),
    "confidence": ([0, 1], [-0.1, 1.1]),
    "openai_api_key": (["sk-1"], ["sk 1", "sk-1\n", "sk-é"]),
    "openai_organization": (["org-1"], ["org 1"]),
    "openai_project": (["proj_1"], ["proj\t1"]),
    "client_base_url": (["http://h", "https://h/v1"], ["h/v1", "ftp://h", "https://me:pw@h", "http://h /v1"]),
    "postprocess_output": (["never", "if_written", "always"], ["sometimes"]),
    "process_failed_batches": ([-1, 0, 1], [0.5]),
    "lock_timeout": ([0, "none"], [-0.1]),
    "lock_poll_interval": ([0.001], [0]),
    "lock_status_interval": ([0.001], [0]),
    "token_estimator_warn": (["never", "once", "always"], ["twice"]),
    "remote_update_interval": ([0.001], [0]),
    "wait_save_interval": ([0], [-0.1]),
    "direct_verbose": (["never", "error", "warn", "always"], ["info"]),
    "show_warnings": ([0], [-1]),
    "show_errors": ([0], [-1]),
    "max_retries": ([0], [-1]),
    "warn_predicted_input_factor": ([1], [0.99]),
    "warn_assumed_completion_factor": ([1], [0.99]),
    "min_pass_ratio": ([0, 1], [-0.01, 1.01]),
    "max_pass_failures": ([1], [0]),
    "max_task_requests": ([0], [-1]),
    "max_task_ktokens": ([0, 0.5], [-0.5]),
    "max_task_cost": ([0, 9_000_000], [-0.01, 9_000_000.01]),
    "max_session_requests": ([0], [-1]),
    "max_session_ktokens": ([0], [-0.5]),
    "max_session_cost": ([0, 9_000_000], [-0.01, 9_000_001]),
    "max_direct_requests": ([1], [0]),
    "max_direct_ktokens": ([0.5], [0]),
    "max_direct_cost": ([0, 9_000_000], [-0.01, 9_000_001]),
    "max_direct_concurrency": ([1, "adaptive"], [0]),
    "min_batch_requests": ([0], [-1]),
    "max_batch_requests": ([1], [0]),
    "max_batch_mb": ([0.5], [0]),
    "max_batch_ktokens": ([0.5], [0]),
    "max_batch_cost": ([0, 9_000_000], [-0.01, 9_000_001]),
    "max_unpushed_batches": ([1], [0]),
    "max_remote_batches": ([0], [-1]),
    "max_remote_requests": ([0], [-1]),
    "max_remote_mb": ([0], [-0.5]),
    "max_remote_ktokens": ([0], [-0.5]),
    "max_remote_cost": ([0, 9_000_000], [-0.01, 9_000_001]),
    "max_mb_safety": ([1], [0.99]),
    "max_token_safety": ([1], [0.99]),
    "cost_input_direct_mtoken": ([0, "0.000001", 1_000_000], ["-0.01", "0.0000001", 1_000_001]),
    "cost_input_cached_mtoken": ([0, "0.000001", 1_000_000], ["-0.01", "0.0000001", 1_000_001]),
    "cost_input_batch_mtoken": ([0, "0.000001", 1_000_000], ["-0.01", "0.0000001", 1_000_001]),
    "cost_output_direct_mtoken": ([0, "0.000001", 1_000_000], ["-0.01", "0.0000001", 1_000_001]),
    "cost_output_batch_mtoken": ([0, "0.000001", 1_000_000], ["-0.01", "0.0000001", 1_000_001]),
    "assumed_completion_ratio": ([0, 1, "calibrated"], [-0.01, 1.01]),
    "deadline": (["6h", "17:30", 60, "none"], ["soon", 0]),
    "list_lag_wait": ([0], [-0.1]),
    "stuck_after": ([0.1], [0]),
    "max_expiries": ([1], [0]),
    "verbosity": (["quiet", "normal", "verbose"], ["loud"]),
    "tracker": (["wandb", "trackio"], ["mlflow"]),
}


def test_every_rule_is_tried_at_its_border() -> None:
    assert {option.name for option in options(Settings) if option.check} <= set(BORDERS)


@pytest.mark.parametrize("name", BORDERS)
def test_each_setting_keeps_its_limits(name: str) -> None:
    """At the limit a value is taken, beyond it refused, with the setting's name and its rule."""
    allowed, refused = BORDERS[name]
    for value in allowed:
        settings(**{name: value})
    for value in refused:
        text = refusal(**{name: value})
        assert text.startswith(f"{name} is ")
        assert ", but must be " in text


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({"max_retries": -1}, "max_retries is -1, but must be at least 0."),
        ({"min_pass_ratio": 80}, "min_pass_ratio is 80, but must be between 0 and 1."),
        ({"max_mb_safety": 0.9}, "max_mb_safety is 0.9, but must be at least 1. 1 means: no margin."),
        (
            {"max_direct_requests": 0},
            "max_direct_requests is 0, but must be at least 1. To keep remainders off the direct API set "
            "min_batch_requests to 0.",
        ),
        (
            {"cost_output_batch_mtoken": "0.0000001"},
            "cost_output_batch_mtoken is 0.0000001, but must be between 0 and 1_000_000, with at most 6 decimals.",
        ),
        (
            {"client_base_url": "https://me:pw@host"},
            "client_base_url is 'https://…@host', but must be an address that starts with http:// or https://, without a "
            "user name or password in it.",
        ),
        (
            {"max_batch_ktokens": 100, "max_remote_ktokens": 90},
            "max_batch_ktokens is 100, but max_remote_ktokens is 90: a full batch would never fit on the server. Lower "
            "max_batch_ktokens to at most 90, or raise max_remote_ktokens.",
        ),
        (
            {"opinions_min": 5, "opinions_max": 3},
            "opinions_min is 5, but opinions_max is only 3. Lower the one or raise the other.",
        ),
        (
            {"sandbox": True, "client_base_url": "http://host"},
            "sandbox is on, but client_base_url is 'http://host': requests can go to one of them only. Leave one out.",
        ),
        (
            {"sandbox_plan": "storm"},
            "sandbox_plan is 'storm', but sandbox is off, so requests would go to a provider. Turn sandbox on, or leave "
            "sandbox_plan out.",
        ),
        (
            {"wipe_requests": True, "only_process": True},
            "wipe_requests is on, but only_process is on too: the wipe would throw away what is to be processed. Run with "
            "only_process first, then again with wipe_requests.",
        ),
    ],
)
def test_an_error_says_what_is_wrong_and_what_to_do(values: dict[str, Any], expected: str) -> None:
    assert refusal(**values) == expected


@pytest.mark.parametrize("measure", ["requests", "mb", "ktokens", "cost"])
def test_only_two_given_limits_contradict(measure: str) -> None:
    """A batch may be as large as what may be on the server, never larger; one limit alone is always fine, and so is 0."""
    batch, remote = f"max_batch_{measure}", f"max_remote_{measure}"
    settings(**{batch: 90, remote: 90})
    settings(**{batch: 89, remote: 90})
    settings(**{remote: 1})
    settings(**{batch: 8_000_000})
    settings(**{batch: 90, remote: 0})
    text = refusal(**{batch: 91, remote: 90})
    assert batch in text
    assert remote in text


def test_a_file_and_the_command_line_can_contradict() -> None:
    layers: dict[Source, dict[str, Any]] = {
        Source.FILE: {"max_remote_mb": 5},
        Source.COMMAND_LINE: {"max_batch_mb": "6"},
    }
    with pytest.raises(SettingError) as caught:
        Settings.from_layers(layers, environ={})
    assert caught.value.names == ("max_batch_mb", "max_remote_mb")


def test_preparing_without_sending_is_legal() -> None:
    settings(max_session_requests=0)
    settings(max_remote_batches=0, max_unpushed_batches=3)


def test_opinions_may_be_equal_or_given_alone() -> None:
    settings(opinions_min=3, opinions_max=3)
    settings(opinions_min=3)
    settings(opinions_max=3)


def test_only_a_server_that_was_typed_too_contradicts_the_sandbox() -> None:
    """One from the environment or a file is simply not asked."""
    assert settings({"OPENAI_BASE_URL": "http://host"}, sandbox=True).general.sandbox
    layers: dict[Source, dict[str, Any]] = {
        Source.FILE: {"client_base_url": "http://host", "sandbox_plan": "storm"},
        Source.COMMAND_LINE: {"sandbox": True},
    }
    assert Settings.from_layers(layers, environ={}).general.sandbox
    assert refusal(client_base_url="http://host", sandbox=True).startswith(
        "sandbox is on, but client_base_url is 'http://host': requests can go to one of them only."
    )


def test_a_sandbox_plan_needs_a_word_about_the_sandbox() -> None:
    """From a file it may lie ready; a program may turn the sandbox off and still name the plan."""
    assert refusal(sandbox_plan="storm").startswith("sandbox_plan is 'storm', but sandbox is off")
    assert settings(sandbox=True, sandbox_plan="storm").general.sandbox
    assert not settings(sandbox=False, sandbox_plan="storm").general.sandbox
    assert not Settings.from_values({"sandbox_plan": "storm"}, Source.FILE, environ={}).general.sandbox


@pytest.mark.parametrize("wipe", ["wipe_requests", "wipe_failed", "wipe_task"])
def test_a_wipe_and_only_process_are_two_runs(wipe: str) -> None:
    settings(**{wipe: True, "run": False})
    settings(only_process=True)
    assert refusal(**{wipe: True, "only_process": True}).startswith(f"{wipe} is on, but only_process")


@pytest.mark.parametrize("name", ["wipe_requests", "wipe_failed", "wipe_task", "reinit_meta", "estimate"])
def test_a_reprocess_is_done_by_itself(name: str) -> None:
    """Only one of the two can be meant."""
    with pytest.raises(SettingError, match=f"reprocess is on, but {name} is on too"):
        Settings.from_values({"reprocess": True, name: True})

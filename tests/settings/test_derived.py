"""One declaration, four forms: arguments, YAML, reference page and the table below agree."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
import yaml

from gpt_batch_api.cli.options import add_settings, make_parser, settings_from_config
from gpt_batch_api.domain.errors import SettingError
from gpt_batch_api.domain.options import options
from gpt_batch_api.domain.settings import Settings, Source
from scripts.make_settings_docs import DOCS_FILE, YAML_FILE, docs_text, yaml_text

# Written by hand: names and defaults are a promise to users and change only on purpose.
PROMISED: dict[str, dict[str, Any]] = {
    "script": {
        "task": None,
        "task_prefix": None,
        "task_dir": Path("./tasks"),
        "chat_endpoint": None,
        "model": None,
        "temperature": None,
        "top_p": None,
        "max_completion_tokens": None,
        "opinions_min": None,
        "opinions_max": None,
        "confidence": None,
    },
    "general": {
        "dryrun": False,
        "openai_api_key": None,
        "openai_organization": None,
        "openai_project": None,
        "client_base_url": None,
        "endpoint": "/v1/chat/completions",
        "sandbox": False,
        "sandbox_plan": "calm",
    },
    "wandb": {
        "wandb": None,
        "tracker": "wandb",
        "wandb_dir": None,
        "wandb_entity": None,
        "wandb_project": "gpt_batch_api",
        "wandb_run_id": None,
        "wandb_name": None,
        "wandb_group": None,
    },
    "task": {"run": True, "postprocess_output": "if_written", "wipe_failed": False, "reinit_meta": False},
    "requester": {
        "only_process": False,
        "process_failed_batches": 0,
        "retry_fatal_requests": False,
        "wipe_requests": False,
        "wipe_task": False,
        "autocreate_working_dir": True,
        "lock_timeout": None,
        "lock_poll_interval": 0.25,
        "lock_status_interval": 5,
        "token_estimator_warn": "once",
        "remote_update_interval": 10,
        "wait_save_interval": 900,
        "direct_verbose": "never",
        "show_warnings": 50,
        "show_errors": 25,
        "max_retries": 2,
        "auto_parse": True,
        "force_direct": False,
        "warn_predicted_input_factor": 1.2,
        "warn_assumed_completion_factor": 1.6,
        "min_pass_ratio": 0.5,
        "max_pass_failures": 2,
    },
    "limits": {
        "max_task_requests": 10_000_000,
        "max_task_ktokens": 5_000_000,
        "max_task_cost": 1000,
        "max_session_requests": 5_000_000,
        "max_session_ktokens": 2_500_000,
        "max_session_cost": 500,
        "max_direct_requests": 50,
        "max_direct_ktokens": 500,
        "max_direct_cost": 5,
        "max_direct_concurrency": None,
        "min_batch_requests": 101,
        "max_batch_requests": 50_000,
        "max_batch_mb": 100,
        "max_batch_ktokens": 20_000,
        "max_batch_cost": 50,
        "max_unpushed_batches": 5,
        "max_remote_batches": 15,
        "max_remote_requests": 5_000_000,
        "max_remote_mb": 10_000,
        "max_remote_ktokens": 60_000,
        "max_remote_cost": 150,
        "max_mb_safety": 1.01,
        "max_token_safety": 1.05,
    },
    "costs": {
        "cost_input_direct_mtoken": None,
        "cost_input_cached_mtoken": None,
        "cost_input_batch_mtoken": None,
        "cost_output_direct_mtoken": None,
        "cost_output_batch_mtoken": None,
        "assumed_completion_ratio": None,
    },
    "extra": {
        "once": False,
        "deadline": None,
        "strict_budget": False,
        "list_lag_wait": 600,
        "stuck_after": 26,
        "max_expiries": 3,
        "keep_responses": True,
        "price_file": None,
        "estimate": False,
        "reprocess": False,
        "yes": False,
        "verbosity": "normal",
        "dedupe": False,
    },
}
NAMES = [name for group in PROMISED.values() for name in group]


def test_names_and_defaults_are_as_promised() -> None:
    declared: dict[str, dict[str, Any]] = {}
    for option in options(Settings):
        declared.setdefault(option.section, {})[option.name] = option.default
    assert declared == PROMISED
    assert [list(group) for group in declared.values()] == [list(group) for group in PROMISED.values()]


def test_money_is_decimal() -> None:
    """Sums of money are exact; counts and times are what they are."""
    for option in options(Settings):
        assert (option.kind is Decimal) == ("cost" in option.name)


def test_environment_and_secrets_are_as_promised() -> None:
    assert {option.env: option.name for option in options(Settings) if option.env} == {
        "OPENAI_API_KEY": "openai_api_key",
        "OPENAI_ORG_ID": "openai_organization",
        "OPENAI_PROJECT_ID": "openai_project",
        "OPENAI_BASE_URL": "client_base_url",
        "OPENAI_ENDPOINT": "endpoint",
    }
    assert [option.name for option in options(Settings) if option.secret] == [
        "openai_api_key",
        "openai_organization",
        "openai_project",
    ]
    assert {option.name for option in options(Settings) if option.caution} == {
        "wipe_failed",
        "reinit_meta",
        "wipe_requests",
        "wipe_task",
    }


def test_written_files_are_up_to_date() -> None:
    """If this fails: python -m scripts.make_settings_docs."""
    assert YAML_FILE.read_text(encoding="utf-8") == yaml_text()
    assert DOCS_FILE.read_text(encoding="utf-8") == docs_text()


def test_arguments_are_the_declared_settings() -> None:
    parser = make_parser()
    add_settings(parser)
    shown = {word.strip("[],.()") for word in parser.format_help().split() if word.startswith("--")}
    expected = {
        f"--no_{name}" if value is True else f"--{name}" for group in PROMISED.values() for name, value in group.items()
    }
    assert expected <= shown
    for flag in shown - expected - {"--SETTING", "--help"}:
        assert flag in {"--no_wandb", "--completion_ratio;"} or flag.rstrip(";") == "--completion_ratio"


def test_yaml_has_the_declared_settings_and_defaults() -> None:
    loaded = yaml.safe_load(YAML_FILE.read_text(encoding="utf-8"))
    assert list(loaded) == NAMES
    for option in options(Settings):
        assert option.read(loaded[option.name]) == option.default
        assert (loaded[option.name] is None) == (option.default is None)


def test_yaml_as_it_is_gives_the_defaults() -> None:
    """And does not count as given, so that it contradicts nothing."""
    loaded = yaml.safe_load(YAML_FILE.read_text(encoding="utf-8"))
    plain = settings_from_config(loaded, environ={})
    assert plain == Settings()
    assert not any(plain.given(name) for name in NAMES)
    changed = settings_from_config({**loaded, "max_remote_ktokens": 5000}, environ={})
    assert changed.source("max_remote_ktokens") is Source.FILE


def test_the_reference_page_has_the_declared_settings_and_defaults() -> None:
    rows = [
        [cell.strip() for cell in line.strip("|\n").split("|")]
        for line in DOCS_FILE.read_text(encoding="utf-8").splitlines()
        if line.startswith("| `")
    ]
    assert [row[0].split("`")[1] for row in rows] == NAMES
    for option, (_, default, values, meaning, environment) in zip(options(Settings), rows, strict=True):
        if option.default is None:
            assert default == option.empty
        else:
            assert option.read(default.strip("`")) == option.default
        assert option.rule in values
        assert option.unit in values
        assert option.help in meaning
        assert ("CAUTION" in meaning) == option.caution
        assert environment.strip("`") == (option.env or "")


def test_a_plain_dict_is_a_configuration() -> None:
    given = settings_from_config({"max_retries": 5, "deadline": "17:30", "model": None}, environ={})
    assert (given.requester.max_retries, given.extra.deadline) == (5, "17:30")
    assert given.source("max_retries") is Source.FILE


def test_a_key_that_is_no_setting_is_refused_unless_ignored() -> None:
    with pytest.raises(SettingError, match=r"^There is no setting 'max_retrys'. Did you mean max_retries\?$"):
        settings_from_config({"max_retrys": 5}, environ={})
    assert settings_from_config({"input": "x.csv"}, environ={}, ignore=("input",)) == Settings()


def test_a_wrong_value_in_a_file_says_that_it_is_there() -> None:
    with pytest.raises(SettingError) as caught:
        settings_from_config({"max_retries": -1}, environ={})
    assert str(caught.value) == "max_retries is -1 (from the configuration), but must be at least 0."

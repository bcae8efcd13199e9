"""The packaged YAML as a node of a hydra app."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from gpt_batch_api.cli.options import settings_from_config
from gpt_batch_api.domain.settings import Settings, Source
from scripts.make_settings_docs import DOCS_FILE, YAML_FILE
from tests.toy import query, rows_of

hydra = pytest.importorskip("hydra")

APP = """\
import json
import hydra
from gpt_batch_api.cli.options import settings_from_config

@hydra.main(version_base="1.3", config_path=".", config_name="config")
def main(config):
    settings = settings_from_config(config.gpt)
    names = ("max_retries", "endpoint", "max_batch_ktokens", "show_errors")
    print(json.dumps({name: [settings.value(name), settings.source(name)] for name in names}))

main()
"""


def test_the_yaml_composes_to_the_defaults() -> None:
    with hydra.initialize_config_dir(str(YAML_FILE.parent), version_base="1.3"):
        node = hydra.compose("gpt_batch_api")
        assert settings_from_config(node, environ={}) == Settings()


def test_overrides_are_read() -> None:
    with hydra.initialize_config_dir(str(YAML_FILE.parent), version_base="1.3"):
        node = hydra.compose(
            "gpt_batch_api",
            ["max_retries=5", "wandb=false", "max_task_cost=0.1", "deadline='17:30'", "wandb_name=${endpoint}"],
        )
    expected = {
        "max_retries": 5,
        "wandb": False,
        "max_task_cost": "0.1",
        "deadline": "17:30",
        "wandb_name": "/v1/chat/completions",
    }
    given = settings_from_config(node, environ={})
    assert given == Settings.from_values(expected, environ={})
    assert given.source("max_retries") is Source.FILE
    assert not given.given("endpoint")


def test_the_documented_app_works(tmp_path: Path) -> None:
    """The YAML of the reference page, in a real app: what is typed wins over the environment and counts as typed."""
    config = re.search(r"```yaml\n(.*?)```", DOCS_FILE.read_text(encoding="utf-8"), re.DOTALL)
    assert config
    (tmp_path / "config.yaml").write_text(config[1], encoding="utf-8")
    (tmp_path / "app.py").write_text(APP, encoding="utf-8")
    root = Path(__file__).parents[2]
    environ = {**os.environ, "PYTHONPATH": str(root), "OPENAI_ENDPOINT": "/environ"}

    def run(*overrides: str) -> dict[str, list[object]]:
        command = [sys.executable, "app.py", *overrides]
        done = subprocess.run(command, cwd=tmp_path, env=environ, check=True, capture_output=True, text=True)
        found: dict[str, list[object]] = json.loads(done.stdout)
        return found

    assert run() == {
        "max_retries": [5, "file"],
        "endpoint": ["/environ", "environment"],
        "max_batch_ktokens": [20_000, "default"],
        "show_errors": [25, "default"],
    }
    assert run("gpt.endpoint=/typed", "gpt.max_batch_ktokens=20000", "++gpt.show_errors=1") == {
        "max_retries": [5, "file"],
        "endpoint": ["/typed", "command line"],
        "max_batch_ktokens": [20_000, "command line"],
        "show_errors": [1, "command line"],
    }


def test_the_example_app_runs_and_knows_where_its_settings_come_from(tmp_path: Path) -> None:
    """Its own configuration, the packaged one as a node of it, the environment, and what is typed."""
    root = Path(__file__).parents[2]
    environ = {
        **os.environ,
        "PYTHONPATH": str(root),
        "OPENAI_ENDPOINT": "/v1/chat/completions",
        "OPENAI_ORG_ID": "ours",
    }
    typed = ["gpt.sandbox=true", "gpt.max_session_cost=0.25", 'question="How many stars, 1 to 5, for the food?"']
    command = [sys.executable, str(root / "examples" / "hydra_app" / "app.py"), *typed]
    done = subprocess.run(command, cwd=tmp_path, env=environ, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert dict(re.findall(r"(\w+) is from the ([\w ]+)", done.stdout)) == {
        "endpoint": "environment",
        "max_retries": "file",
        "max_session_cost": "command line",
        "model": "file",
        "openai_organization": "environment",
        "sandbox": "command line",
    }
    [(used,)] = query(tmp_path / "tasks", "SELECT settings FROM session", prefix="reviews")
    assert [json.loads(used)[name] for name in ("max_session_cost", "max_retries")] == ["0.25", 5], used
    assert sorted(row["id"] for row in rows_of(tmp_path / "tasks", "reviews")) == ["r1", "r2", "r3"]
    assert [path.name for path in tmp_path.iterdir()] == ["tasks"], "hydra writes no files of its own"

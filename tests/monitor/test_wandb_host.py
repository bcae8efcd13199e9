"""What is told of wandb without importing it is what wandb itself would say."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

BOTH = """
import sys
from pathlib import Path
from gpt_batch_api.monitor.wandb_host import expected_host, told_offline, wandb_folder
found = expected_host(), told_offline()
assert "wandb" not in sys.modules
import wandb
wandb.setup(settings=wandb.Settings(silent=True))
settings = wandb.setup().settings
print(found[0], found[1], wandb_folder(Path().absolute()))
keyed = wandb.login(prompt=False, verify=False) and settings.mode == "online"
print(settings.base_url if keyed else None, settings.mode == "offline", settings.wandb_dir)
"""
KEY = "k" * 40


@pytest.mark.parametrize(
    ("files", "variables"),
    [
        ({}, {"WANDB_API_KEY": KEY}),
        ({}, {}),
        ({}, {"WANDB_API_KEY": KEY, "WANDB_BASE_URL": "https://one.example/"}),
        ({"wandb/settings": "[default]\nbase_url = https://two.example\n"}, {"WANDB_API_KEY": KEY}),
        (
            {
                "wandb/settings": "[default]\nproject = other\n",
                ".config/wandb/settings": "[default]\nbase_url = https://three.example\n",
            },
            {"WANDB_API_KEY": KEY},
        ),
        ({"settings/settings": "[default]\nmode = offline\n"}, {"WANDB_API_KEY": KEY, "WANDB_CONFIG_DIR": "settings"}),
        ({"wandb/settings": "no settings"}, {"WANDB_API_KEY": KEY}),
        ({".netrc": f"machine four.example login me password {KEY}\n"}, {"WANDB_BASE_URL": "https://four.example"}),
        ({".netrc": f"machine four.example login me password {KEY}\n"}, {"WANDB_BASE_URL": "https://five.example"}),
        ({".netrc": f"machine api.wandb.ai login me password {KEY}\n"}, {}),
        ({".netrc": "machine broken"}, {}),
        ({".wandb/settings": "[default]\nbase_url = https://six.example\n"}, {"WANDB_API_KEY": KEY}),
    ],
    ids="key,none,variable,folder,user,offline,broken,netrc,other_netrc,old_netrc,broken_netrc,dot".split(","),
)
def test_host_key_and_mode_are_those_of_wandb(tmp_path: Path, files: dict[str, str], variables: dict[str, str]) -> None:
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
        (tmp_path / name).chmod(0o600)
    done = subprocess.run(
        [sys.executable, "-c", BOTH],
        cwd=tmp_path,
        env={
            "PATH": os.environ["PATH"],
            "PYTHONPATH": str(Path(__file__).parents[2]),
            "HOME": str(tmp_path),
            "WANDB_ERROR_REPORTING": "false",
            **variables,
        },
        capture_output=True,
        text=True,
        check=True,
    )
    ours, theirs = done.stdout.splitlines()
    assert ours == theirs

"""Shell completion, asked of a real shell."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from gpt_batch_api.cli.completion import SHELLS
from gpt_batch_api.cli.main import COMMANDS, main, make_parser
from tests.cli.rig import command


@pytest.fixture(scope="module")
def script(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What bash is to read."""
    folder = tmp_path_factory.mktemp("completion")
    done = command("completion", "bash", folder=folder)
    assert done.returncode == 0, done.stderr
    path = folder / "completion.bash"
    path.write_text(done.stdout, encoding="utf-8")
    return path


def offered(script: Path, *words: str) -> list[str]:
    """What bash offers for the last of *words*."""
    ask = 'f=$(complete -p gpt-batch-api | sed "s/.*-F \\([^ ]*\\).*/\\1/"); $f; printf "%s\\n" "${COMPREPLY[@]}"'
    lines = f"source {script}; COMP_WORDS=(gpt-batch-api {' '.join(map(repr, words))}); COMP_CWORD={len(words)}; {ask}"
    done = subprocess.run(
        ["bash", "--norc", "-c", lines], cwd=script.parent, capture_output=True, text=True, timeout=30, check=True
    )
    assert done.stderr == ""
    return done.stdout.split()


def test_bash_offers_every_command(script: Path) -> None:
    assert sorted(offered(script, "")) == sorted(COMMANDS)
    assert offered(script, "rep") == ["reprocess"]


@pytest.mark.parametrize("name", COMMANDS)
def test_bash_offers_every_flag_of_a_command(script: Path, name: str) -> None:
    """Those that its help shows."""
    shown = [
        flag
        for action in make_parser(name)._actions
        if action.help != "==SUPPRESS=="
        for flag in action.option_strings
        if flag.startswith("--")
    ]
    assert sorted(offered(script, name, "--")) == sorted(shown)


def test_bash_offers_the_values_of_a_flag(script: Path) -> None:
    """Choices of arguments, flags and settings; files where a file is meant."""
    assert offered(script, "wipe", "") == ["requests", "failed", "task"]
    assert offered(script, "export", "--what", "re") == ["responses", "requests"]
    assert offered(script, "reprocess", "--verbosity", "q") == ["quiet"]
    (script.parent / "reviews.py").touch()
    (script.parent / "folder").mkdir(exist_ok=True)
    assert offered(script, "reprocess", "rev") == ["reviews.py"]
    assert offered(script, "status", "--task_dir", "fo") == ["folder"]


@pytest.mark.parametrize("shell", SHELLS)
def test_each_shell_has_a_script(shell: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["completion", shell]) == 0
    text = capsys.readouterr().out
    assert all(name in text for name in COMMANDS)


def test_without_its_library_the_missing_group_is_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "shtab", None)
    assert main(["completion", "bash"]) == 1
    assert "pip install 'gpt-batch-api[completion]'" in capsys.readouterr().err

"""Write what derives from the settings declaration: the hydra YAML and the reference page.

    python -m scripts.make_settings_docs

A test compares both files with what this script would write.
"""

import textwrap
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import yaml

from gpt_batch_api.cli.options import default_text
from gpt_batch_api.domain.options import Option, options
from gpt_batch_api.domain.settings import Settings

ROOT = Path(__file__).parents[1]
YAML_FILE = ROOT / "gpt_batch_api" / "config" / "gpt_batch_api.yaml"
DOCS_FILE = ROOT / "docs" / "settings.md"

YAML_HEAD = """\
# Settings of gpt_batch_api with their defaults, for hydra and for whoever likes files: docs/settings.md tells more.
# Made by scripts/make_settings_docs.py from the declaration; do not edit.
# null means: not given, so that the environment or the default decides. Put a time of day in quotes ("17:30").
"""

DOCS_HEAD = """\
# Settings

<!-- Made by scripts/make_settings_docs.py from gpt_batch_api/domain/settings.py; do not edit. -->

Every setting has one name: as a flag (`--max_batch_requests 100`, `--max-batch-requests 100` too), as a keyword argument
(`max_batch_requests=100`), and as a key in YAML (`max_batch_requests: 100`). Names are always written in full.

- **Which value wins.** Later ones: default, YAML or hydra, environment, command line, keyword argument. What is typed to a
  hydra app (`max_retries=5`) counts as command line. A variable of the environment that is empty counts as not set, and so
  does a `null` in YAML and a `None` in Python.
- **On and off.** What is off by default has a flag `--NAME`, what is on by default a flag `--no_NAME`; the other of the two
  works too. `wandb` has both, and decides by itself if neither is given.
- **Numbers** may be written `5000000`, `5_000_000` or `5e6`. Prices and costs are in whichever currency you use throughout.
- **MB** are 10<sup>6</sup> bytes, **ktokens** 1000 tokens.
- **Limits.** `max_batch_X` must not exceed `max_remote_X`. A limit on batches that was left at its default shrinks to what
  may be on the server; only two values that were both given can contradict each other. `max_session_requests 0` and
  `max_remote_batches 0` mean: prepare, but send nothing.
- **A time** (`deadline`) is a duration (`6h`, `90m`, `1d12h`), a number of seconds, or a moment (`17:30`,
  `2026-12-01T06:00`; local time, unless it names a zone). In YAML put a time of day in quotes.
- **CAUTION** marks what destroys something.

With hydra, add the packaged YAML to your configuration under a name of your choice:

```yaml
# config.yaml of your app
defaults:
  - gpt_batch_api@gpt
  - _self_
gpt:
  max_retries: 5
hydra:
  searchpath: [pkg://gpt_batch_api.config]
```

and give `cfg.gpt` to `settings_from_config`.
"""


def yaml_text() -> str:
    """The hydra YAML: every setting with its default, a null where there is none."""
    parts = [YAML_HEAD]
    for title, members in _by_group().items():
        parts.append(f"\n# === {title} ===\n")
        for option in members:
            parts.append(_comment(_meaning(option) + _facts(option)))
            parts.append(yaml.safe_dump({option.name: _for_yaml(option.default)}, allow_unicode=True))
    return "".join(parts)


def docs_text() -> str:
    """The reference page: one table per group."""
    parts = [DOCS_HEAD]
    for title, members in _by_group().items():
        parts.append(f"\n## {title[0].upper()}{title[1:]}\n\n{getattr(Settings(), members[0].section).__doc__}\n\n")
        parts.append("| name | default | values | meaning | environment |\n|---|---|---|---|---|\n")
        parts += (_row(option) for option in members)
    return "".join(parts)


def main() -> None:
    YAML_FILE.write_text(yaml_text(), encoding="utf-8")
    DOCS_FILE.write_text(docs_text(), encoding="utf-8")
    print(f"{YAML_FILE.relative_to(ROOT)}, {DOCS_FILE.relative_to(ROOT)}: {len(options(Settings))} settings")


def _by_group() -> dict[str, list[Option]]:
    groups: dict[str, list[Option]] = {}
    for option in options(Settings):
        groups.setdefault(option.group, []).append(option)
    return groups


def _meaning(option: Option) -> str:
    off = f"; off: {option.help_off}" if option.help_off else ""
    return f"{'CAUTION: ' if option.caution else ''}{option.help}{off}"


def _facts(option: Option) -> str:
    facts = [option.unit, ", ".join(option.choices)]
    if option.secret:
        facts.append(f"better not here but in the environment: {option.env}")
    elif option.default is None and (told := default_text(option, None)):
        facts.append(f"default: {told}")
    told_facts = "; ".join(filter(None, facts))
    return f" ({told_facts})" if told_facts else ""


def _comment(text: str) -> str:
    return textwrap.fill(text, 116, initial_indent="# ", subsequent_indent="#   ", break_long_words=False) + "\n"


def _for_yaml(default: Any) -> Any:
    if isinstance(default, Path):
        return f"./{default}"
    if isinstance(default, Decimal | float):
        return int(default) if default == int(default) else float(default)
    return default


def _row(option: Option) -> str:
    without_environment = replace(option, env=None)
    told_default = default_text(without_environment, option.default)
    names = ", also ".join(f"`{name}`" for name in (option.name, *option.aliases))
    cells = (
        names,
        option.empty if option.default is None else f"`{told_default}`",
        option.rule + (f"; {option.unit}" if option.unit else ""),
        _meaning(option),
        f"`{option.env}`" if option.env else "",
    )
    return f"| {' | '.join(cell.replace('|', '/') for cell in cells)} |\n"


if __name__ == "__main__":
    main()

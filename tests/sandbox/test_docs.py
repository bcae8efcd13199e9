"""The documentation: complete, and true where it can be run."""

from __future__ import annotations

import re
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any, get_args

import pytest
import yaml

from gpt_batch_api.sandbox import plan as plan_module
from gpt_batch_api.sandbox.operations import OPERATIONS
from gpt_batch_api.sandbox.plan import BatchRule, CallRule, LineRule, Plan
from gpt_batch_api.sandbox.plan_file import load_plan, parse_plan, plan_names

TEXT = (Path(__file__).parents[2] / "docs" / "sandbox.md").read_text(encoding="utf-8")
ROWS = dict(re.findall(r"^\| `(\w+)` \| ([^|]*) \|", TEXT, re.MULTILINE))


def plan_keys(cls: Any = Plan) -> list[tuple[str, Any]]:
    """Every key of a plan with its default, those of the sections too."""
    found = []
    for field in fields(cls):
        if is_dataclass(field.default) and type(field.default).__name__ != "Lag":
            found += plan_keys(type(field.default))
        else:
            found.append((field.name, field.default))
    return found


@pytest.mark.parametrize(("name", "default"), plan_keys())
def test_every_key_of_a_plan_is_documented_with_its_default(name: str, default: Any) -> None:
    """As the table says it."""
    said = ROWS[name].strip().strip("`")
    if default is None:
        assert said in ("none", "by model")
    elif isinstance(default, bool):
        assert said == str(default).lower()
    elif isinstance(default, tuple):
        assert said == "[]"
    elif isinstance(default, str):
        assert said == default
    else:
        assert float(said) == float(default if isinstance(default, int | float) else 0)


def test_every_key_of_a_rule_and_every_fault_is_documented() -> None:
    """In the lists of rules."""
    for rule in (CallRule, LineRule, BatchRule):
        for field in fields(rule):
            assert f"`{field.name}`" in TEXT, field.name
    for kinds in (plan_module.CallFault, plan_module.LineFaultKind, plan_module.BatchFaultKind):
        for kind in get_args(kinds):
            assert f"`{kind}`" in TEXT, kind


def test_every_operation_and_every_packaged_plan_is_documented() -> None:
    """By its name."""
    for name in (*OPERATIONS, *plan_names()):
        assert f"`{name}`" in TEXT


def test_the_example_is_a_plan(tmp_path: Path) -> None:
    """It can be read as it stands."""
    [example] = re.findall(r"```yaml\n(.*?)```", TEXT, re.DOTALL)
    path = tmp_path / "example.yaml"
    path.write_text(example, encoding="utf-8")
    plan = load_plan(path)
    assert (plan.seed, len(plan.faults), len(plan.lines), len(plan.batches)) == (7, 3, 2, 1)


def snippets() -> list[str]:
    """The plans in the tables of verdicts."""
    tables = TEXT.partition("### Every verdict on demand")[2].partition("\n## ")[0]
    return re.findall(
        r"`((?:faults|lines|batches|answers|limits|rate_limits|billing_error|flex|enq)\w*: [^`]*)`", tables
    )


@pytest.mark.parametrize("snippet", snippets())
def test_each_plan_in_the_tables_of_verdicts_is_one(snippet: str) -> None:
    """A user copies it."""
    document = yaml.load(snippet, yaml.BaseLoader)
    [(name, value)] = document.items()
    if isinstance(value, list):  # words stay words in the base loader, and rules have numbers
        value = [{key: _number(entry) for key, entry in rule.items()} for rule in value]
    else:
        value = {key: _number(entry) for key, entry in value.items()} if isinstance(value, dict) else _number(value)
    parse_plan({name: value})


def _number(text: str) -> Any:
    loaded = yaml.safe_load(text)
    return loaded if isinstance(loaded, int | float) else text


def test_the_tables_of_verdicts_name_every_fault() -> None:
    """So none is forgotten there."""
    tables = TEXT.partition("### Every verdict on demand")[2].partition("\n## ")[0]
    for kinds in (plan_module.CallFault, plan_module.LineFaultKind, plan_module.BatchFaultKind):
        for kind in set(get_args(kinds)) - {"fatal"}:
            assert f"fault: {kind}" in tables, kind

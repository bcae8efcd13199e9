"""Every setting, declared once: name, type, default, unit, meaning, rule.

Flags (`cli.options`), the hydra YAML, docs/settings.md and all checks derive from this file; tests prove that they agree.
A setting's name is unique over all groups and never changes its meaning. `Settings` is the whole tree; it is made in
layers (defaults, file, environment, command line, keywords) and remembers where each value came from, because only two
values that somebody gave can contradict each other. What the limits mean in tokens, bytes and picodollars is told by
`limits`; whether files and servers named here exist is found out where they are used.
"""

# ruff: noqa: RUF009 - `setting` and `group` are `dataclasses.field` with more to say

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from enum import StrEnum
from pathlib import Path
from typing import Any

from gpt_batch_api.domain.errors import SettingError
from gpt_batch_api.domain.options import (
    DEADLINE,
    Check,
    Option,
    at_least,
    between,
    find,
    group,
    more_than,
    options,
    setting,
)

_PER_TASK = "per task"
_PRICE_UNIT = "currency per million tokens"
# Picodollars are kept in 64 bits, a price in whole picodollars per token.
_PRICE = Check(
    "between 0 and 1_000_000, with at most 6 decimals",
    lambda price: 0 <= price <= 1_000_000 and not price * 10**6 % 1,
)
_BUDGET = between(0, 9_000_000)
_FACTOR = at_least(1, "1 means: no margin.")
_RATIO = between(0, 1)
_ENDPOINT = Check(
    "a path that starts with '/', such as /v1/chat/completions",
    lambda path: path.startswith("/") and not any(letter.isspace() for letter in path),
)
_FILE_PREFIX = Check(
    "the beginning of a file name: without '/', not starting with '.', at most 100 characters",
    lambda prefix: not set(prefix) & {"/", "\\"} and not prefix.startswith(".") and len(prefix) <= 100,
)
_ONE_WORD = Check(
    "one word of plain characters, without spaces and line breaks",
    lambda word: word.isascii() and word.isprintable() and " " not in word,
)
_SERVER = Check(
    "an address that starts with http:// or https://, without a user name or password in it",
    lambda address: address.startswith(("http://", "https://")) and "@" not in address and _ONE_WORD.passes(address),
)


@dataclass(frozen=True, kw_only=True)
class ScriptSettings:
    """What a task script is about. model and all below it are fixed when the task is created (see reinit_meta)."""

    task: str | None = setting(None, empty="–", metavar="NAME", help="which demo task to run")
    task_prefix: str | None = setting(
        None, empty="the task's name", check=_FILE_PREFIX, help="prefix of the name of every file of this task"
    )
    task_dir: Path = setting(Path("tasks"), metavar="DIR", help="folder of the task's files")
    chat_endpoint: str | None = setting(
        None,
        empty="the value of endpoint",
        check=_ENDPOINT,
        metavar="PATH",
        help="endpoint that the demo sends its requests to",
    )
    model: str | None = setting(None, empty=_PER_TASK, metavar="NAME", help="model that answers the requests")
    temperature: float | None = setting(
        None, empty=_PER_TASK, check=between(0, 2), help="how freely the model chooses its words"
    )
    top_p: float | None = setting(
        None, empty=_PER_TASK, check=_RATIO, help="share of the likeliest words that the model chooses from"
    )
    max_completion_tokens: int | None = setting(
        None,
        empty=_PER_TASK,
        unit="tokens",
        check=at_least(1),
        help="most output tokens that a request may use; longer answers are cut off",
    )
    opinions_min: int | None = setting(
        None, empty=_PER_TASK, check=at_least(1), help="how many answers each sample gets at least"
    )
    opinions_max: int | None = setting(
        None, empty=_PER_TASK, check=at_least(1), help="how many answers each sample gets at most"
    )
    confidence: float | None = setting(
        None, empty=_PER_TASK, check=_RATIO, help="stop asking for opinions once the majority is so sure"
    )


@dataclass(frozen=True, kw_only=True)
class GeneralSettings:
    """Which server is asked, as whom, and whether for real."""

    dryrun: bool = setting(
        False, help="call no API and change nothing on disk; show what would be done from the present state"
    )
    openai_api_key: str | None = setting(
        None,
        empty="–",
        env="OPENAI_API_KEY",
        check=_ONE_WORD,
        metavar="KEY",
        secret=True,
        help="key for the API; never stored, never logged",
    )
    openai_organization: str | None = setting(
        None,
        empty="–",
        env="OPENAI_ORG_ID",
        check=_ONE_WORD,
        metavar="ID",
        secret=True,
        help="organization that pays, if the account has several",
    )
    openai_project: str | None = setting(
        None,
        empty="–",
        env="OPENAI_PROJECT_ID",
        check=_ONE_WORD,
        metavar="ID",
        secret=True,
        help="project that usage is booked on",
    )
    client_base_url: str | None = setting(
        None,
        empty="the provider's own",
        env="OPENAI_BASE_URL",
        check=_SERVER,
        metavar="URL",
        help="address of the server; any OpenAI-compatible one will do",
    )
    endpoint: str = setting(
        "/v1/chat/completions",
        env="OPENAI_ENDPOINT",
        check=_ENDPOINT,
        metavar="PATH",
        help="endpoint that requests go to; only /v1/chat/completions is supported",
    )
    sandbox: bool = setting(False, help="ask the embedded sandbox server instead of a provider: answers are made up")
    sandbox_plan: str = setting(
        "calm", metavar="NAME_OR_FILE", help="what goes wrong in the sandbox: a named plan or a file with one"
    )


@dataclass(frozen=True, kw_only=True)
class WandbSettings:
    """Logging to Weights & Biases, or to Trackio in its place. No trouble there stops a run."""

    wandb: bool | None = setting(
        None,
        empty="auto",
        help="log to Weights & Biases; auto: where it is installed and logged in, and not in a dry run",
        help_off="do not log to Weights & Biases",
    )
    tracker: str = setting(
        "wandb",
        choices=("wandb", "trackio"),
        help="what the figures are logged to; trackio, where it is chosen, needs no login and takes project, run_id and "
        "group from the settings below",
    )
    wandb_dir: Path | None = setting(None, empty="–", metavar="DIR", help="folder of the wandb files")
    wandb_entity: str | None = setting(
        None, empty="–", metavar="NAME", help="user or team that the wandb run belongs to"
    )
    wandb_project: str = setting("gpt_batch_api", metavar="NAME", help="wandb project of the run")
    wandb_run_id: str | None = setting(None, empty="–", metavar="ID", help="resume the wandb run with this id")
    wandb_name: str | None = setting(None, empty="–", metavar="NAME", help="display name of the wandb run")
    wandb_group: str | None = setting(
        None, empty="class name of the task", metavar="NAME", help="wandb group that the run belongs to"
    )


@dataclass(frozen=True, kw_only=True)
class TaskSettings:
    """What is done with the task as a whole."""

    run: bool = setting(
        True,
        help="run the task until it is complete or a limit is met",
        help_off="show the status, apply wipes, and stop",
    )
    postprocess_output: str = setting(
        "if_written",
        choices=("never", "if_written", "always"),
        help="call the task's post-processing of its output when the task is complete",
    )
    wipe_failed: bool = setting(
        False,
        caution=True,
        help="forget failed samples and all ongoing requests, so that they are tried again with all their retries",
    )
    reinit_meta: bool = setting(
        False, caution=True, help="capture the task metadata anew from the arguments of this run"
    )


@dataclass(frozen=True, kw_only=True)
class RequesterSettings:
    """How requests are made, sent, waited for and judged."""

    only_process: bool = setting(
        False, help="wait for what is on the server and process it; generate, commit and push nothing"
    )
    process_failed_batches: int = setting(
        0,
        help="how many failed batches may be processed all the same in this run; 0: a failed batch stops the run; "
        "below 0: all may",
    )
    retry_fatal_requests: bool = setting(
        False, help="where a failed batch is processed all the same, retry its requests with fatal errors too"
    )
    wipe_requests: bool = setting(
        False,
        caution=True,
        help="forget all ongoing requests and batches: they are cancelled and deleted on the server; finished results "
        "are kept",
    )
    wipe_task: bool = setting(
        False,
        caution=True,
        help="forget everything, output included, and start from scratch (implies wipe_requests)",
    )
    autocreate_working_dir: bool = setting(
        True, help="create task_dir if its parent exists", help_off="refuse a task_dir that does not exist"
    )
    lock_timeout: float | None = setting(
        None,
        unit="s",
        check=at_least(0, "0 means: do not wait."),
        help="how long to wait for another process that holds this task; none: as long as it takes",
    )
    lock_poll_interval: float = setting(
        0.25, unit="s", check=more_than(0), help="how often to look whether that process is done"
    )
    lock_status_interval: float = setting(
        5.0, unit="s", check=more_than(0), help="how often to say that we wait for that process"
    )
    token_estimator_warn: str = setting(
        "once",
        choices=("never", "once", "always"),
        help="warn about parts of a payload whose tokens can only be guessed",
    )
    remote_update_interval: float = setting(
        10.0, unit="s", check=more_than(0), help="how often to ask the server how its batches are doing"
    )
    wait_save_interval: float = setting(
        900.0,
        unit="s",
        check=at_least(0),
        help="least time between two saves of a status that changed in its counts only, while waiting",
    )
    direct_verbose: str = setting(
        "never",
        choices=("never", "error", "warn", "always"),
        help="print requests and responses of direct calls: those with an error, with a warning too, or all",
    )
    show_warnings: int = setting(
        50,
        check=at_least(0),
        help="how many warnings of a kind to show per batch, fewer if earlier ones have shown some; then only a count",
    )
    show_errors: int = setting(
        25,
        check=at_least(0),
        help="how many errors of a kind to show per batch, fewer if earlier ones have shown some; then only a count",
    )
    max_retries: int = setting(
        2,
        check=at_least(0),
        help="how often a request is tried again after its first attempt; expiry and cancellation do not count",
    )
    auto_parse: bool = setting(
        True,
        help="validate requests, and parse structured responses into Python objects",
        help_off="send requests as they are and do not parse responses",
    )
    force_direct: bool = setting(False, help="send everything by the direct API")
    warn_predicted_input_factor: float = setting(
        1.2, unit="factor", check=_FACTOR, help="warn if a batch's true input tokens are off the prediction by more"
    )
    warn_assumed_completion_factor: float = setting(
        1.6, unit="factor", check=_FACTOR, help="warn if a batch's true output tokens are off the assumption by more"
    )
    min_pass_ratio: float = setting(
        0.5,
        check=_RATIO,
        help="a batch with a smaller share of successes has not passed; expired requests count as successes here, unless "
        "nothing else succeeded",
    )
    max_pass_failures: int = setting(
        2, check=at_least(1), help="stop the run after so many batches in a row that have not passed"
    )


@dataclass(frozen=True, kw_only=True)
class LimitSettings:
    """What may be asked, waited for and spent: by the task, by this run, in one batch, on the server, in direct calls."""

    max_task_requests: int = setting(10_000_000, check=at_least(0), help="most requests of the whole task")
    max_task_ktokens: float = setting(
        5_000_000.0, unit="1000 input tokens", check=at_least(0), help="most input tokens of the whole task"
    )
    max_task_cost: Decimal = setting(
        Decimal(1000), unit="currency", check=_BUDGET, help="most cost of the whole task: input and assumed output"
    )
    max_session_requests: int = setting(
        5_000_000,
        check=at_least(0),
        help="most requests sent by this run; 0: prepare, but send nothing",
    )
    max_session_ktokens: float = setting(
        2_500_000.0, unit="1000 input tokens", check=at_least(0), help="most input tokens sent by this run"
    )
    max_session_cost: Decimal = setting(Decimal(500), unit="currency", check=_BUDGET, help="most cost of this run")
    max_direct_requests: int = setting(
        50,
        check=at_least(1, "To keep remainders off the direct API set min_batch_requests to 0."),
        help="most direct requests that are booked together",
    )
    max_direct_ktokens: float = setting(
        500.0,
        unit="1000 input tokens",
        check=more_than(0),
        help="most input tokens of the direct requests that are booked together",
    )
    max_direct_cost: Decimal = setting(
        Decimal(5), unit="currency", check=_BUDGET, help="most cost of the direct requests that are booked together"
    )
    max_direct_concurrency: int | None = setting(
        None,
        empty="adaptive",
        check=at_least(1),
        help="most direct requests on their way at once; adaptive: as many as the server takes",
    )
    min_batch_requests: int = setting(
        101,
        check=at_least(0, "0 means: nothing goes by the direct API."),
        help="a remainder of fewer requests goes by the direct API",
    )
    max_batch_requests: int = setting(50_000, check=at_least(1), help="most requests in one batch")
    max_batch_mb: float = setting(100.0, unit="MB", check=more_than(0), help="greatest size of the file of one batch")
    max_batch_ktokens: float = setting(
        20_000.0, unit="1000 input tokens", check=more_than(0), help="most input tokens in one batch"
    )
    max_batch_cost: Decimal = setting(Decimal(50), unit="currency", check=_BUDGET, help="most cost of one batch")
    max_unpushed_batches: int = setting(
        5, check=at_least(1), help="generate no more while so many local batches wait to be pushed"
    )
    max_remote_batches: int = setting(
        15,
        check=at_least(0),
        help="most batches on the server at once; 0: prepare, but send nothing",
    )
    max_remote_requests: int = setting(
        5_000_000, check=at_least(0), help="most requests in the batches on the server at once"
    )
    max_remote_mb: float = setting(
        10_000.0, unit="MB", check=at_least(0), help="greatest size of the batches on the server at once"
    )
    max_remote_ktokens: float = setting(
        60_000.0,
        unit="1000 input tokens",
        check=at_least(0),
        help="most input tokens in the batches on the server at once: the batch queue limit of your account",
    )
    max_remote_cost: Decimal = setting(
        Decimal(150), unit="currency", check=_BUDGET, help="most cost of the batches on the server at once"
    )
    max_mb_safety: float = setting(1.01, unit="factor", check=_FACTOR, help="divide all limits in MB by this")
    max_token_safety: float = setting(1.05, unit="factor", check=_FACTOR, help="divide all limits in tokens by this")


@dataclass(frozen=True, kw_only=True)
class CostSettings:
    """What tokens cost. Prices come from the catalogue by model; a price given here wins over it."""

    cost_input_direct_mtoken: Decimal | None = setting(
        None, empty="catalogue", unit=_PRICE_UNIT, check=_PRICE, help="price of input, direct API"
    )
    cost_input_cached_mtoken: Decimal | None = setting(
        None, empty="catalogue", unit=_PRICE_UNIT, check=_PRICE, help="price of input that the server had in its cache"
    )
    cost_input_batch_mtoken: Decimal | None = setting(
        None, empty="catalogue", unit=_PRICE_UNIT, check=_PRICE, help="price of input, Batch API"
    )
    cost_output_direct_mtoken: Decimal | None = setting(
        None, empty="catalogue", unit=_PRICE_UNIT, check=_PRICE, help="price of output, direct API"
    )
    cost_output_batch_mtoken: Decimal | None = setting(
        None, empty="catalogue", unit=_PRICE_UNIT, check=_PRICE, help="price of output, Batch API"
    )
    assumed_completion_ratio: float | None = setting(
        None,
        empty="calibrated",
        aliases=("completion_ratio",),
        check=_RATIO,
        help="expected output tokens as a share of a request's maximum (of 2048 where it has none); calibrated: 0.5 at "
        "first, then learnt from the answers",
    )


@dataclass(frozen=True, kw_only=True)
class ExtraSettings:
    """When to stop and wait, what to keep, and what to show."""

    once: bool = setting(
        False, help="do what can be done now and do not wait for the server; exit 3 if work is left (for cron)"
    )
    deadline: str | None = setting(
        None,
        check=DEADLINE,
        metavar="TIME",
        help="what the Batch API will not finish by then goes by flex or by the direct API, within the budget; a duration "
        "counts from the start of each run",
    )
    strict_budget: bool = setting(
        False,
        help="reserve the most that a request can cost instead of what is expected, so that no limit on cost can be "
        "passed at all",
    )
    list_lag_wait: float = setting(
        600.0,
        unit="s",
        check=at_least(0),
        help="how long to look for a lost batch or file on the server before it is sent again",
    )
    stuck_after: float = setting(
        26.0, unit="h", check=more_than(0), help="warn when a batch has not moved for so long, and say what can be done"
    )
    max_expiries: int = setting(
        3,
        check=at_least(1),
        help="a request that expired so often goes by the direct API, or fails if it may not",
    )
    keep_responses: bool = setting(
        True,
        help="keep raw responses in the store, compressed, so that they can be reprocessed",
        help_off="do not keep raw responses: they cannot be reprocessed then",
    )
    price_file: Path | None = setting(None, metavar="FILE", help="your own prices, which win over the catalogue")
    estimate: bool = setting(False, help="print tokens, cost and time of what is not done yet, and stop")
    reprocess: bool = setting(
        False,
        help="show stored answers to the present task code once more, without a call: tell what would change, ask, apply it",
    )
    yes: bool = setting(False, help="do not ask before what was told is done (reprocess; the command wipe)")
    verbosity: str = setting("normal", choices=("quiet", "normal", "verbose"), help="how much the terminal shows")
    dedupe: bool = setting(
        False, help="ask identical payloads once and give the answer to all; never where several answers are wanted"
    )


class Source(StrEnum):
    """Where a value came from; a later one wins over an earlier one."""

    DEFAULT = "default"
    FILE = "file"
    ENVIRONMENT = "environment"
    COMMAND_LINE = "command line"
    KEYWORD = "keyword"


@dataclass(frozen=True, kw_only=True)
class Settings:
    """All settings, by group. Make it with `from_values` or `from_layers`: they check what they are given."""

    script: ScriptSettings = group("task script", ScriptSettings)
    general: GeneralSettings = group("general", GeneralSettings)
    wandb: WandbSettings = group("wandb", WandbSettings)
    task: TaskSettings = group("task manager", TaskSettings)
    requester: RequesterSettings = group("requester", RequesterSettings)
    limits: LimitSettings = group("limits", LimitSettings)
    costs: CostSettings = group("costs", CostSettings)
    extra: ExtraSettings = group("extra", ExtraSettings)
    sources: Mapping[str, Source] = field(default_factory=dict, repr=False, compare=False)

    @classmethod
    def from_values(
        cls,
        values: Mapping[str, Any],
        source: Source = Source.KEYWORD,
        *,
        environ: Mapping[str, str] | None = None,
    ) -> Settings:
        """Settings from *values* by name, over the environment and the defaults. None means: not given."""
        return cls.from_layers({source: values}, environ=environ)

    @classmethod
    def from_layers(
        cls, layers: Mapping[Source, Mapping[str, Any]], *, environ: Mapping[str, str] | None = None
    ) -> Settings:
        """Lay *layers* over each other in the order of `Source`, and check the result.

        *environ* is the process's environment unless given. The layer DEFAULT holds a script's own defaults. A file
        names every setting, so what it repeats of our defaults does not count as given. An unknown name is an error
        wherever it stands; a wrong value only where it would be used.
        """
        found = {source: _by_own_name(layer) for source, layer in layers.items()}
        found[Source.ENVIRONMENT] = _from_environment(os.environ if environ is None else environ)
        values: dict[str, Any] = {}
        sources: dict[str, Source] = {}
        for option in options(Settings):
            source = next((source for source in reversed(Source) if option.name in found.get(source, {})), None)
            if source is None:
                continue
            value = option.read(found[source][option.name], origin=_origin(option, source))
            repeats_default = source is Source.FILE and value == option.default
            values[option.name] = value
            sources[option.name] = Source.DEFAULT if repeats_default else source
        return cls()._with(values, sources)

    def replace(self, **values: Any) -> Settings:
        """The same settings with some replaced, which counts as given by keyword; None gives a default back."""
        changed: dict[str, Any] = {}
        sources: dict[str, Source] = {}
        for name, value in values.items():
            option = find(Settings, name)
            changed[option.name] = option.default if value is None else option.read(value)
            sources[option.name] = Source.DEFAULT if value is None else Source.KEYWORD
        return self._with(changed, sources)

    def value(self, name: str) -> Any:
        """The value of the setting *name*, whatever its group."""
        option = find(Settings, name)
        return getattr(getattr(self, option.section), option.name)

    def source(self, name: str) -> Source:
        """Where the value of the setting *name* came from."""
        return self.sources.get(find(Settings, name).name, Source.DEFAULT)

    def given(self, name: str) -> bool:
        """Whether somebody gave the setting *name*: it is not a default."""
        return self.source(name) is not Source.DEFAULT

    def public(self) -> dict[str, Any]:
        """All values by name, fit for JSON and for the eyes of others: no secrets."""
        shown = (option for option in options(Settings) if not option.secret)
        return {option.name: _for_json(option, self.value(option.name)) for option in shown}

    def _with(self, values: Mapping[str, Any], sources: Mapping[str, Source]) -> Settings:
        by_section: dict[str, dict[str, Any]] = {}
        for name, value in values.items():
            by_section.setdefault(find(Settings, name).section, {})[name] = value
        changed = {section: dataclasses.replace(getattr(self, section), **part) for section, part in by_section.items()}
        settings = dataclasses.replace(self, **changed, sources={**self.sources, **sources})
        check_settings(settings)
        return settings


def check_settings(settings: Settings) -> None:
    """Refuse what contradicts itself. Each value is right alone; a limit left at its default never contradicts."""
    for what in ("requests", "mb", "ktokens", "cost"):
        _check_batch_fits_remote(settings, f"max_batch_{what}", f"max_remote_{what}")
    _check_opinions(settings)
    _check_sandbox(settings)
    _check_wipes(settings)
    _check_reprocess(settings)


def _check_batch_fits_remote(settings: Settings, batch: str, remote: str) -> None:
    if not (settings.given(batch) and settings.given(remote) and settings.value(remote)):
        return  # at 0 nothing is sent anyway
    if settings.value(batch) > settings.value(remote):
        most = _text(settings, remote)
        raise SettingError(
            f"{batch} is {_text(settings, batch)}, but {remote} is {most}: a full batch would never fit on the server. "
            f"Lower {batch} to at most {most}, or raise {remote}.",
            batch,
            remote,
        )


def _check_opinions(settings: Settings) -> None:
    least, most = settings.script.opinions_min, settings.script.opinions_max
    if least is not None and most is not None and least > most:
        raise SettingError(
            f"opinions_min is {least}, but opinions_max is only {most}. Lower the one or raise the other.",
            "opinions_min",
            "opinions_max",
        )


def _check_sandbox(settings: Settings) -> None:
    """Somebody who types what only makes sense with the sandbox must not end up at a paid provider, nor the other way."""
    if settings.general.sandbox and _typed(settings, "sandbox") and _typed(settings, "client_base_url"):
        raise SettingError(
            f"sandbox is on, but client_base_url is {settings.general.client_base_url!r}: requests can go to one of them "
            "only. Leave one out.",
            "sandbox",
            "client_base_url",
        )
    if _typed(settings, "sandbox_plan") and not settings.given("sandbox"):
        raise SettingError(
            f"sandbox_plan is {settings.general.sandbox_plan!r}, but sandbox is off, so requests would go to a provider. "
            "Turn sandbox on, or leave sandbox_plan out.",
            "sandbox_plan",
            "sandbox",
        )


def _check_wipes(settings: Settings) -> None:
    """A wipe comes before all else: with only_process it would throw away just what the user wants processed."""
    if not settings.requester.only_process:
        return
    for name in ("wipe_requests", "wipe_failed", "wipe_task"):
        if settings.value(name):
            raise SettingError(
                f"{name} is on, but only_process is on too: the wipe would throw away what is to be processed. Run with "
                f"only_process first, then again with {name}.",
                name,
                "only_process",
            )


def _check_reprocess(settings: Settings) -> None:
    """Only one of them can be meant: a wipe forgets answers, a reprocess uses them, an estimate changes nothing."""
    for name in ("wipe_requests", "wipe_failed", "wipe_task", "reinit_meta", "estimate"):
        if settings.extra.reprocess and settings.value(name):
            raise SettingError(
                f"reprocess is on, but {name} is on too. Leave one out: each is done by itself.", "reprocess", name
            )


def _typed(settings: Settings, name: str) -> bool:
    return settings.source(name) in (Source.COMMAND_LINE, Source.KEYWORD)


def _text(settings: Settings, name: str) -> str:
    return find(Settings, name).text(settings.value(name))


def _for_json(option: Option, value: Any) -> Any:
    return option.text(value) if isinstance(value, Decimal | Path) else value


def _by_own_name(layer: Mapping[str, Any]) -> dict[str, Any]:
    """What *layer* gives, without its Nones, under each setting's first name."""
    found: dict[str, Any] = {}
    for name, value in layer.items():
        option = find(Settings, name)
        if value is None:
            continue
        if option.name in found:
            names = " and ".join((option.name, *option.aliases))
            raise SettingError(f"{names} are two names of one setting, but both are given. Give one.", option.name)
        found[option.name] = value
    return found


def _from_environment(environ: Mapping[str, str]) -> dict[str, str]:
    """What the environment gives; a variable that is empty counts as not set."""
    named = ((option.name, environ.get(option.env, "")) for option in options(Settings) if option.env)
    return {name: value for name, value in named if value.strip()}


def _origin(option: Option, source: Source) -> str:
    if source is Source.ENVIRONMENT:
        return f"from {option.env}"
    return "from the configuration" if source is Source.FILE else ""

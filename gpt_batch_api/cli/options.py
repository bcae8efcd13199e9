"""Settings as command line flags, and back.

`add_settings` gives any argparse parser a flag per setting: `--max_batch_requests NUM`, also `--max-batch-requests`;
`--dryrun` for what is off by default, `--no_run` for what is on. The namespace then holds only what was typed, and
`settings_from_args` lays that over file and environment. `settings_from_config` does the same for a plain dict or a hydra
node. A wrong value is one line: a `SettingError` from our own parsers, a usage error (exit 2) from a parser of yours.
Nothing heavy is imported here, so that `--help` is instant.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Collection, Iterable, Mapping, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any, NoReturn

from gpt_batch_api.domain.errors import SettingError
from gpt_batch_api.domain.options import Option, by_name, find, options
from gpt_batch_api.domain.settings import Settings, Source


def make_parser(**arguments: Any) -> argparse.ArgumentParser:
    """A parser made for settings: full flag names only, a short usage line, errors raised as `SettingError`."""
    return SettingsParser(**arguments)


def add_settings(
    parser: argparse.ArgumentParser,
    *,
    groups: Collection[str] | None = None,
    exclude: Collection[str] = (),
    defaults: Mapping[str, Any] | None = None,
) -> None:
    """Give *parser* a flag for every setting, under a title per group.

    *groups* are attributes of `Settings` (all unless given), *exclude* single settings to leave out. *defaults* are the
    script's own: shown in the help, and to be given to `settings_from_args` too.
    """
    left_out = {find(Settings, name).name for name in exclude}
    own_defaults = {find(Settings, name).name: value for name, value in (defaults or {}).items()}
    chosen = [option for option in options(Settings) if groups is None or option.section in groups]
    _refuse_unknown_groups(groups or ())
    for section in dict.fromkeys(option.section for option in chosen):
        members = [option for option in chosen if option.section == section and option.name not in left_out]
        if members:
            titled = parser.add_argument_group(members[0].group, _description(section))
            for option in members:
                _add_flags(titled, option, default=option.read(own_defaults.get(option.name, option.default)))


def add_chosen_settings(parser: argparse.ArgumentParser, chosen: Mapping[str, Collection[str]]) -> None:
    """Give *parser* the settings that are named, by group; no names: all of the group."""
    for group, names in chosen.items():
        others = [option.name for option in options(Settings) if option.section == group and option.name not in names]
        add_settings(parser, groups=(group,), exclude=others if names else ())


def settings_from_args(
    namespace: argparse.Namespace,
    *,
    environ: Mapping[str, str] | None = None,
    config: Mapping[str, Any] | None = None,
    defaults: Mapping[str, Any] | None = None,
    ignore: Collection[str] = (),
) -> Settings:
    """What was typed, over the environment, over *config* (from a file), over the script's *defaults*, over ours.

    Names in *namespace* that are no settings are the script's own, and so are the settings that *ignore* names.
    """
    known = by_name(Settings)
    typed = {name: value for name, value in vars(namespace).items() if name in known and name not in ignore}
    layers = {Source.DEFAULT: defaults or {}, Source.FILE: config or {}, Source.COMMAND_LINE: typed}
    return Settings.from_layers(layers, environ=environ)


def settings_from_config(
    config: Mapping[str, Any] | argparse.Namespace,
    *,
    environ: Mapping[str, str] | None = None,
    ignore: Collection[str] = (),
) -> Settings:
    """Settings from a dict, a hydra node or an argparse namespace; a null, or None, means: not given.

    Values of a hydra node that were typed on the command line of the app count as typed; all others come from a file.
    A key that is no setting is an error, unless *ignore* names it.
    """
    if isinstance(config, argparse.Namespace):
        return settings_from_args(config, environ=environ, ignore=ignore)
    values = {str(name): value for name, value in config.items() if name not in ignore}
    overridden = _typed_in_hydra() if type(config).__module__.startswith("omegaconf.") else frozenset()
    typed = {name: value for name, value in values.items() if name in overridden}
    written = {name: value for name, value in values.items() if name not in overridden}
    return Settings.from_layers({Source.FILE: written, Source.COMMAND_LINE: typed}, environ=environ)


def to_args(settings: Settings) -> list[str]:
    """The flags that give *settings* again: what is not a default, without secrets."""
    given = (option for option in options(Settings) if settings.given(option.name) and not option.secret)
    return [word for option in given for word in _words(option, settings.value(option.name))]


class SettingAction(argparse.Action):
    """A flag of a setting: reads, checks and keeps the value that was typed."""

    def __init__(
        self, option_strings: Sequence[str], dest: str, *, option: Option, const: Any = None, **rest: Any
    ) -> None:
        super().__init__(option_strings, dest, nargs=None if const is None else 0, const=const, **rest)
        self.option = option

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: str | Sequence[Any] | None,
        option_string: str | None = None,
    ) -> None:
        typed = values if self.const is None else self.const
        try:
            value = self.option.read(typed)
        except SettingError as wrong:
            if isinstance(parser, SettingsParser):
                raise
            parser.error(str(wrong))
        # "none" stays a word: a None would mean that nothing was typed.
        setattr(namespace, self.dest, typed if value is None else value)


class SettingsHelp(argparse.HelpFormatter):
    """Help whose usage line leaves the settings out: they are listed below anyway."""

    def add_usage(
        self,
        usage: str | None,
        actions: Iterable[argparse.Action],
        groups: Iterable[Any],
        prefix: str | None = None,
    ) -> None:
        own = [action for action in actions if not isinstance(action, SettingAction)]
        if len(own) < len(list(actions)):
            own.append(argparse.Action(["--SETTING"], dest="setting", nargs="?", metavar="VALUE"))
        super().add_usage(usage, own, groups, prefix)


class SettingsParser(argparse.ArgumentParser):
    """See `make_parser`."""

    def __init__(self, **arguments: Any) -> None:
        super().__init__(**{"allow_abbrev": False, "formatter_class": SettingsHelp, **arguments})

    def error(self, message: str) -> NoReturn:
        told = re.sub(r"\bsk-\S+", "sk-…", message)  # a key after a mistyped flag
        raise SettingError(f"{told}. {self._meant(message) or f'See {self.prog} --help.'}")

    def _meant(self, message: str) -> str:
        """Which flag is meant where *message* is about one that is not known."""
        from difflib import get_close_matches

        if not message.startswith("unrecognized arguments"):
            return ""
        known = [flag for action in self._actions for flag in action.option_strings if flag.startswith("--")]
        for word in message.split():
            typed = word.partition("=")[0].rstrip(":").replace("-", "_")
            if word.startswith("--") and (close := get_close_matches(f"--{typed.lstrip('_')}", known, n=1)):
                return f"Did you mean {close[0]}?"
        return ""


def default_text(option: Option, default: Any) -> str:
    """How help and docs tell a default."""
    if default is None:
        text = option.empty
    elif isinstance(default, int | float | Decimal) and not isinstance(default, bool) and default >= 10_000:
        text = f"{int(default):_}"  # a form that can be typed, too
    elif isinstance(default, Path) and not default.is_absolute():
        text = f"./{default}"
    else:
        text = option.text(default)
    return ", else ".join(filter(None, (f"${option.env}" if option.env else "", text if text != "–" else "")))


def _refuse_unknown_groups(groups: Collection[str]) -> None:
    known = list(dict.fromkeys(option.section for option in options(Settings)))
    for unknown in set(groups) - set(known):
        raise SettingError(f"There is no group of settings {unknown!r}. There are {', '.join(known)}.", unknown)


def _description(section: str) -> str:
    return str(getattr(Settings(), section).__doc__)


def _add_flags(group: Any, option: Option, *, default: Any) -> None:
    """Add the flags of *option*: one or two that the help shows, the other ways to write it hidden."""
    shown: dict[str, bool | None] = {}
    hidden: dict[str, bool | None] = {}
    for name in (option.name, *option.aliases):
        (shown if name == option.name else hidden)[f"--{name}"] = True if option.kind is bool else None
    if option.kind is bool:
        (hidden if default is False else shown)[f"--no_{option.name}"] = False
        if default is True:
            hidden[f"--{option.name}"] = shown.pop(f"--{option.name}")
    for flag, const in {**shown, **hidden}.items():
        if "_" in flag:
            hidden["--" + flag[2:].replace("_", "-")] = const
    for flag, const in {**shown, **hidden}.items():
        group.add_argument(
            flag,
            action=SettingAction,
            option=option,
            dest=option.name,
            const=const,
            default=argparse.SUPPRESS,
            metavar=_metavar(option),
            help=_help(option, const, default) if flag in shown else argparse.SUPPRESS,
        )


def _metavar(option: Option) -> str | None:
    if option.choices:
        return f"{{{','.join(option.choices)}}}"
    return option.metavar or ("NUM" if option.kind in (int, float, Decimal) else "TEXT")


def _help(option: Option, const: bool | None, default: Any) -> str:
    text = option.help
    if const is False:
        text = option.help_off or f"turn {option.name} off"
    facts = [option.unit] if option.unit else []
    facts += [f"also --{alias}" for alias in option.aliases]
    told_by_flag = option.kind is bool and default is not None
    if not told_by_flag and (told := default_text(option, default)):
        facts.append(f"default: {told}")
    caution = "CAUTION: " if option.caution else ""
    more = f" ({'; '.join(facts)})" if facts else ""
    return f"{caution}{text}{more}".replace("%", "%%")


def _words(option: Option, value: Any) -> list[str]:
    if isinstance(value, bool):
        return [f"--{option.name}" if value else f"--no_{option.name}"]
    text = option.text(value)
    if value is None and option.kind is bool:
        return []
    return [f"--{option.name}={text}"] if text.startswith("-") else [f"--{option.name}", text]


def _typed_in_hydra() -> frozenset[str]:
    """Last parts of the keys that were typed to the running hydra app, if there is one."""
    module = sys.modules.get("hydra.core.hydra_config")
    if module is None or not module.HydraConfig.initialized():
        return frozenset()
    words = module.HydraConfig.get().overrides.task
    return frozenset(word.partition("=")[0].lstrip("+~").rpartition(".")[2] for word in words)

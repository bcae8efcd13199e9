"""`python -m gpt_batch_api.sandbox`: serve a sandbox until it is told to stop."""

from __future__ import annotations

import argparse
import json
import os
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

_HARD_END_S = 3.0


def main(argv: Sequence[str] | None = None) -> int:
    """Serve as the arguments say."""
    parser = argparse.ArgumentParser(prog="python -m gpt_batch_api.sandbox", allow_abbrev=False)
    add_arguments(parser)
    return serve(parser.parse_args(argv))


def serve(options: argparse.Namespace) -> int:
    """Serve; print one line of JSON when listening. Returns 0 when told to stop, 1 if it cannot start."""
    # Heavy, and not needed for --help.
    from gpt_batch_api.sandbox.plan_file import PlanError, load_plan, with_overrides
    from gpt_batch_api.sandbox.sandbox import Sandbox, SandboxInUse
    from gpt_batch_api.sandbox.server import SandboxServer, stop_on_signals
    from gpt_batch_api.sandbox.store import StoreDamaged

    try:
        plan = None if options.plan is None else load_plan(options.plan)
        if options.seed is not None or options.time_scale is not None:
            plan = with_overrides(plan or load_plan("calm"), seed=options.seed, time_scale=options.time_scale)
        sandbox = Sandbox(options.db, plan=plan)
    except (PlanError, SandboxInUse, StoreDamaged, OSError) as error:
        sys.stderr.write(f"{error}\n")
        return 1
    with sandbox:
        try:
            server = SandboxServer(sandbox, host=options.host, port=options.port)
        except OSError as error:
            sys.stderr.write(f"Cannot listen on {options.host}:{options.port}: {os.strerror(error.errno or 0)}.\n")
            return 1
        stop_on_signals(server, ignore_interrupt=options.until_stdin_closes)
        if options.until_stdin_closes:
            _watch_stdin(server.stop)
        facts = {"sandbox": sandbox.uuid, "list_lag_s": sandbox.force.plan.list_lag_s.longest}
        _announce(server.url, facts, when=server.wait_until_listening)
        server.serve()
    return 0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What may be typed."""
    parser.description = "An emulated OpenAI API with its state on disk, for trying things out without paying."
    parser.add_argument(
        "--db",
        type=Path,
        default=Path("sandbox.db"),
        metavar="PATH",
        help="the file that holds all state (default: %(default)s)",
    )
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default: %(default)s)")
    parser.add_argument("--port", type=int, default=0, metavar="NUM", help="port to listen on (default: a free one)")
    parser.add_argument(
        "--plan",
        metavar="NAME|FILE",
        help="calm, rough, storm, or a YAML or JSON file (default: as last time, or calm)",
    )
    parser.add_argument("--seed", type=int, metavar="NUM", help="replaces the plan's seed")
    parser.add_argument(
        "--time_scale", type=float, metavar="NUM", help="simulated seconds per real second; replaces the plan's"
    )
    parser.add_argument("--until_stdin_closes", action="store_true", help="end when standard input does")


def _announce(url: str, facts: Mapping[str, object], *, when: Callable[[float], bool]) -> None:
    """Print where the server is as soon as it listens."""

    def wait_and_print() -> None:
        if when(60.0):
            sys.stdout.write(json.dumps({"url": url, "pid": os.getpid(), **facts}) + "\n")
            if sys.stdout.isatty():
                sys.stdout.write(f"Use it with:  export OPENAI_BASE_URL={url} OPENAI_API_KEY=sandbox\n")
            sys.stdout.flush()

    threading.Thread(target=wait_and_print, daemon=True).start()


def _watch_stdin(stop: Callable[[], None]) -> None:
    """Call *stop* when standard input ends: the parent is gone. Whatever still runs a little later is cut off."""

    def watch() -> None:
        while os.read(0, 4096):
            pass
        threading.Timer(_HARD_END_S, os._exit, (0,)).start()
        stop()

    threading.Thread(target=watch, daemon=True).start()


if __name__ == "__main__":
    sys.exit(main())

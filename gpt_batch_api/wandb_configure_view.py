"""Set up a workspace view in Weights & Biases that shows what matters about your tasks.

    python -m gpt_batch_api.wandb_configure_view --wandb_project my_project

Runs are logged with `--wandb` on any task script; docs/wandb.md has the whole story.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence

from gpt_batch_api.domain.settings import Settings


def main(argv: Sequence[str] | None = None) -> int:
    """Set the view up, or print its definition. The exit code: 0 done, 1 not done, with one line that says why."""
    arguments = make_parser().parse_args(argv)
    if arguments.json or arguments.dry_run:
        from gpt_batch_api.monitor.wandb_view import definition, lines

        sys.stdout.write(json.dumps(definition(), indent=2) + "\n" if arguments.json else "\n".join(lines()) + "\n")
        return 0
    try:
        address = set_up(entity=arguments.wandb_entity, project=arguments.wandb_project, name=arguments.name)
    except ImportError as error:
        sys.stderr.write(f'error: {error.name or error} is not installed: pip install "gpt-batch-api[wandb]"\n')
        return 1
    except KeyboardInterrupt:
        return 130
    except Exception as error:  # of many kinds, from the network to the account
        text = " ".join(str(error).split()) or type(error).__name__
        sys.stderr.write(
            f"error: The view could not be set up: {text.rstrip('.')}. Look at `wandb login`, --wandb_entity and "
            "--wandb_project; --json prints the definition.\n"
        )
        return 1
    sys.stdout.write(f"The view is at {address}\n")
    return 0


def make_parser() -> argparse.ArgumentParser:
    """What may be typed."""
    parser = argparse.ArgumentParser(
        prog="python -m gpt_batch_api.wandb_configure_view",
        description=(__doc__ or "").partition("\n")[0],
        allow_abbrev=False,
    )
    defaults = Settings.from_values({}).wandb
    parser.add_argument("--wandb_entity", "--wandb-entity", metavar="NAME", help="user or team (default: your own)")
    parser.add_argument(
        "--wandb_project",
        "--wandb-project",
        metavar="NAME",
        default=defaults.wandb_project,
        help="(default: %(default)s)",
    )
    parser.add_argument("--name", default="gpt_batch_api", help="name of the view (default: %(default)s)")
    parser.add_argument("--dry_run", "--dry-run", action="store_true", help="only say which panels it would have")
    parser.add_argument("--json", action="store_true", help="only print the definition")
    return parser


def set_up(*, entity: str | None, project: str, name: str) -> str:
    """Save the view on the server; its address. Raises ImportError, or whatever wandb raises."""
    import wandb

    from gpt_batch_api.monitor.wandb_host import REACH_TIMEOUT_S, Reach
    from gpt_batch_api.monitor.wandb_view import workspace

    address = wandb.setup(settings=wandb.Settings(silent=True)).settings.base_url
    if not Reach(address).answers(within_s=REACH_TIMEOUT_S):
        raise RuntimeError(f"{address} does not answer")
    if not wandb.login(prompt=False, verify=False):
        raise RuntimeError("there is no key (wandb login)")
    view = workspace(entity=entity or wandb.Api(timeout=20).default_entity, project=project, name=name)
    view.save()
    return str(view.url)


if __name__ == "__main__":
    raise SystemExit(main())

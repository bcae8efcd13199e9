"""`gpt-batch-api sandbox`."""

from __future__ import annotations

import argparse

from gpt_batch_api.sandbox.__main__ import add_arguments, serve

__all__ = ["add_arguments", "run"]


def run(arguments: argparse.Namespace) -> int:
    return serve(arguments)

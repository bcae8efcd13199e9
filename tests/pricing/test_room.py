"""The room stays light: prices are needed by `--help`-fast commands too."""

from __future__ import annotations

import subprocess
import sys

HEAVY = ("yaml", "openai", "pydantic", "tiktoken", "rich", "httpx2")


def test_importing_and_asking_needs_no_heavy_library() -> None:
    """Not even YAML, unless there is a YAML file."""
    program = (
        "import sys\n"
        "from gpt_batch_api.pricing import cost\n"
        "from gpt_batch_api.pricing.catalogue import Catalogue\n"
        "Catalogue.load().prices('gpt-6-luna')\n"
        f"print([name for name in {HEAVY!r} if name in sys.modules])\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"

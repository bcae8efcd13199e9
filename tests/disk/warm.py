"""Imported once by the fork server, so that each forked run starts at once."""

import tests.disk.harness  # noqa: F401
from tests.crash.edges import preload

preload()

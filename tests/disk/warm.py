"""Imported once by the fork server, so that each forked run starts at once."""

import tests.crash.warm
import tests.disk.harness  # noqa: F401

"""Imported once by the fork server, so that each forked run starts at once."""

from tests.crash.edges import preload

preload()

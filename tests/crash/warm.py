"""Imported once by the fork server, so that each forked run starts at once.

A whole job has run in it: all that a run imports, compiles or makes once is there. Certificates are left out, as no
run goes beyond this machine, and reading them would take a quarter of its time. Together a run takes a third of what
it would.
"""

from __future__ import annotations

import gc
import logging
import ssl
import tempfile
from pathlib import Path

from tests.crash import jobs
from tests.toy import sandbox


def _context_without_certificates(*arguments: object, **keywords: object) -> ssl.SSLContext:
    return ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)


def warm() -> None:
    """Run a job by both roads."""
    setattr(ssl, "create_default_context", _context_without_certificates)  # noqa: B010
    logging.disable(logging.CRITICAL)
    with tempfile.TemporaryDirectory() as folder, sandbox(Path(folder) / "server") as server:
        for name, job in (("batches", jobs.two_batches), ("direct", jobs.direct)):
            (Path(folder) / name).mkdir()
            if job(Path(folder) / name, server.url) != 0:
                raise RuntimeError(f"the job {name} does not run")
    logging.disable(logging.NOTSET)
    gc.collect()
    gc.freeze()
    gc.disable()


warm()

"""`python -m tests.crash`: see `command.py`."""

from tests.crash.command import main

raise SystemExit(main())

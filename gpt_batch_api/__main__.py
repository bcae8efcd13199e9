"""`python -m gpt_batch_api` is `gpt-batch-api`."""

from gpt_batch_api.cli.main import main

raise SystemExit(main())

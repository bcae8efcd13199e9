"""Run huge LLM jobs through the OpenAI Batch API, safely restartable at every moment."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from gpt_batch_api.domain.errors import GPTBatchError, ServerError, UserError
    from gpt_batch_api.domain.request import GPTRequest
    from gpt_batch_api.domain.settings import Settings
    from gpt_batch_api.gpt_requester import GPTRequester
    from gpt_batch_api.mapping import Failure, MapResults, RowResult, amap
    from gpt_batch_api.mapping import map as map
    from gpt_batch_api.task_manager import (
        DataclassListOutputFile,
        DataclassOutputFile,
        Majority,
        OpinionPoll,
        Result,
        Sample,
        TaskManager,
        TaskOutputFile,
    )

_PUBLIC = {
    "DataclassListOutputFile": "task_manager",
    "DataclassOutputFile": "task_manager",
    "Failure": "mapping",
    "GPTBatchError": "domain.errors",
    "GPTRequest": "domain.request",
    "GPTRequester": "gpt_requester",
    "Majority": "task_manager",
    "MapResults": "mapping",
    "OpinionPoll": "task_manager",
    "Result": "task_manager",
    "RowResult": "mapping",
    "Sample": "task_manager",
    "ServerError": "domain.errors",
    "Settings": "domain.settings",
    "TaskManager": "task_manager",
    "TaskOutputFile": "task_manager",
    "UserError": "domain.errors",
    "amap": "mapping",
    "map": "mapping",
}

__all__ = [
    "DataclassListOutputFile",
    "DataclassOutputFile",
    "Failure",
    "GPTBatchError",
    "GPTRequest",
    "GPTRequester",
    "Majority",
    "MapResults",
    "OpinionPoll",
    "Result",
    "RowResult",
    "Sample",
    "ServerError",
    "Settings",
    "TaskManager",
    "TaskOutputFile",
    "UserError",
    "__version__",
    "amap",
]  # `map` is public too, but must not take the place of Python's own by `import *`


def __getattr__(name: str) -> Any:
    """Public names are imported when they are first used: `import gpt_batch_api` costs nothing."""
    if name not in _PUBLIC:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_PUBLIC[name]}"), name)

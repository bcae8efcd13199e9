"""Every error this library raises, split by whose move it is next.

    GPTBatchError
    ├── UserError            the user's: a setting, a payload, a file, the task's code
    │   ├── SettingError         a setting is wrong, or two contradict each other
    │   ├── PayloadError         a request that cannot be sent as it is
    │   │   └── SchemaError          its response schema is outside the strict subset
    │   ├── TaskCodeError        the task's own code raised; names sample and line
    │   ├── TaskLocked           another process holds this task
    │   ├── StoreError           the store is damaged, newer than we are, or of another task
    │   ├── OutputError          an output file was changed by hand, or cannot be written
    │   ├── WrongServer          things of this task are on another server
    │   └── MissingExtra         an optional library is not installed
    ├── ServerError          the server's: it refused, or cannot be reached
    │   ├── AccountError         key, permission or billing: nothing of this account will pass
    │   ├── Unreachable          no reply, several times in a row
    │   └── SafetyStop           too many answers are bad; the run stops before it costs more
    └── InternalError        ours: a promise of this library does not hold
        └── StateConflict        a row was not in the state that it must leave

The command line shows the first two as one line, the third with its traceback. Expected trouble (a refusal, a cut-off
answer, a rate limit, an expiry) is no exception but an `Outcome`.
"""

from __future__ import annotations


class GPTBatchError(Exception):
    """Base of all errors raised on purpose. The text says what happened, to what, and what to do next."""


class UserError(GPTBatchError):
    """Only the user can move on: the text says how."""


class SettingError(UserError):
    """A setting is wrong, or two contradict each other. `names` are the settings concerned."""

    def __init__(self, message: str, *names: str) -> None:
        super().__init__(message)
        self.names = names


class PayloadError(UserError):
    """The request of sample `sample_key` cannot be sent as it is."""

    def __init__(self, message: str, *, sample_key: str | None = None) -> None:
        super().__init__(message)
        self.sample_key = sample_key


class SchemaError(PayloadError):
    """A response schema lies outside the strict subset that the server accepts; `path` says where."""

    def __init__(self, message: str, *, path: str = "", sample_key: str | None = None) -> None:
        super().__init__(message, sample_key=sample_key)
        self.path = path


class TaskCodeError(UserError):
    """The task's own code raised while it handled `sample_key`, at `location` (file:line)."""

    def __init__(self, message: str, *, sample_key: str | None, location: str) -> None:
        super().__init__(message)
        self.sample_key = sample_key
        self.location = location


class TaskLocked(UserError):
    """Another process works on this task; `holder` describes it."""

    def __init__(self, message: str, *, holder: str) -> None:
        super().__init__(message)
        self.holder = holder


class StoreError(UserError):
    """The store cannot be used as it is."""


class OutputError(UserError):
    """An output file was changed by hand, or cannot be written."""


class WrongServer(UserError):
    """Remote things of this task are on another server than the one configured now."""


class MissingExtra(UserError):
    """A library of the optional group `extra` is needed and not installed."""

    def __init__(self, extra: str, purpose: str) -> None:
        super().__init__(f"{purpose} needs the optional group '{extra}': pip install 'gpt-batch-api[{extra}]'")
        self.extra = extra


class ServerError(GPTBatchError):
    """The server's move, or its account's owner's."""


class AccountError(ServerError):
    """Key, permission or billing: nothing of this account will pass until that is mended."""

    def __init__(self, message: str, *, code: str | None = None, status: int | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.status = status


class Unreachable(ServerError):
    """The server gave no usable reply, several times in a row. Nothing is known to have happened."""

    def __init__(self, message: str, *, retry_after_s: float | None = None) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s

    @property
    def happened(self) -> str:
        """What came of the last try, without a word on the server as a whole: that may be there for others."""
        return str(self.__cause__ or self)


class SafetyStop(ServerError):
    """Answers are bad; the run stops before it costs more. Everything so far is kept."""


class InternalError(GPTBatchError):
    """A promise of this library does not hold. Please report it."""


class StateConflict(InternalError):
    """Rows were not in the state that they must leave."""

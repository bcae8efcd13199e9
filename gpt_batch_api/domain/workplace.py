"""Where a task's files lie and how they are called."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from gpt_batch_api.domain.settings import Settings


@dataclass(frozen=True)
class Workplace:
    """The folder of a task and the prefix of all its files."""

    folder: Path
    prefix: str

    @classmethod
    def of(cls, settings: Settings, *, default_prefix: str) -> Workplace:
        """Where the task of these settings lies."""
        return cls(settings.script.task_dir, settings.script.task_prefix or default_prefix)

    @property
    def store(self) -> Path:
        return self.folder / f"{self.prefix}_state.db"

    @property
    def lock(self) -> Path:
        return self.folder / f"{self.prefix}.lock"

    @property
    def sandbox(self) -> Path:
        return self.folder / f"{self.prefix}_sandbox.db"

    def batch_file_name(self, batch_id: int, *, task_uuid: str) -> str:
        """The local file of a batch. It carries the task's own mark, so that sweeping never meets another's file."""
        return f"{self.prefix}_batch{batch_id}_{task_uuid[:8]}.jsonl"

    def spool(self, batch_id: int, role: str, *, task_uuid: str) -> Path:
        """Where a result file is downloaded to."""
        return self.folder / f"{self.prefix}_spool{batch_id}_{task_uuid[:8]}_{role}.jsonl"

    def upload_name(self, batch_id: int, *, task_uuid: str, nonce: str) -> str:
        """What a batch's file is called on the server: by this name it is found again."""
        prefix = re.sub(r"[^A-Za-z0-9._-]", "_", self.prefix)[:60]
        return f"{prefix}_batch{batch_id}_{task_uuid}_{nonce}.jsonl"

    def work_files(self, *, task_uuid: str) -> Iterator[tuple[Path, int]]:
        """(file, batch number) of all batch and spool files of this task, unfinished ones included."""
        pattern = re.compile(rf"{re.escape(self.prefix)}_(?:batch|spool)(\d+)_{task_uuid[:8]}[^/]*\.jsonl(?:\.\w+)?")
        for path in sorted(self.folder.iterdir()):
            if match := pattern.fullmatch(path.name):
                yield path, int(match.group(1))

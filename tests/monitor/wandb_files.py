"""Read back what wandb wrote to disk: its files are logs of LevelDB's form, whose records are protobuf messages."""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

BLOCK = 32768
FILE_HEAD, RECORD_HEAD = 7, 7
FULL, LAST = 1, 4


@dataclass
class WrittenRun:
    """One run as one process wrote it."""

    id: str = ""
    project: str = ""
    group: str = ""
    name: str = ""
    config: dict[str, Any] = field(default_factory=dict)
    rows: list[dict[str, Any]] = field(default_factory=list)
    """The history: what was logged at each step."""
    axes: dict[str, str] = field(default_factory=dict)
    """What the charts of some figures run over."""
    finished: bool = False
    tables: list[dict[str, Any]] = field(default_factory=list)

    @property
    def steps(self) -> list[int]:
        return [row["_step"] for row in self.rows]


def read_run(folder: Path) -> WrittenRun:
    """What is written in a run's folder by now."""
    from wandb.proto.wandb_internal_pb2 import Record

    run = WrittenRun()
    for path in folder.glob("run-*.wandb"):
        for message in messages(path.read_bytes()):
            record = Record()
            record.ParseFromString(message)
            take(record, run)
    for path in sorted(folder.glob("files/media/table/*.json"), key=lambda path: path.stat().st_mtime_ns):
        run.tables.append(json.loads(path.read_text(encoding="utf-8")))
    return run


def take(record: Any, run: WrittenRun) -> None:
    match record.WhichOneof("record_type"):
        case "run":
            run.id, run.project = record.run.run_id, record.run.project
            run.group, run.name = record.run.run_group, record.run.display_name
            run.config |= {item.key: json.loads(item.value_json) for item in record.run.config.update}
        case "config":
            run.config |= {item.key or item.nested_key[0]: json.loads(item.value_json) for item in record.config.update}
        case "history":
            run.rows.append(
                {"/".join(item.nested_key) or item.key: json.loads(item.value_json) for item in record.history.item}
            )
        case "metric":
            run.axes[record.metric.glob_name or record.metric.name] = record.metric.step_metric
        case "exit":
            run.finished = True


def messages(data: bytes) -> Iterator[bytes]:
    """The whole records of a log; one that is cut off at the end is left out."""
    position, message = FILE_HEAD, b""
    while position + RECORD_HEAD <= len(data):
        left = BLOCK - position % BLOCK
        if left < RECORD_HEAD:
            position += left
            continue
        _, length, kind = struct.unpack("<IHB", data[position : position + RECORD_HEAD])
        begin = position + RECORD_HEAD
        if not kind or begin + length > len(data):
            return
        message += data[begin : begin + length]
        position = begin + length
        if kind in (FULL, LAST):
            yield message
            message = b""

"""As much of a W&B server as wandb needs to log a run: it keeps the history, and can fall silent in the midst of it."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

HISTORY = "wandb-history.jsonl"


class WandbServer:
    """What a server of W&B knows of one run."""

    def __init__(self, *, silent_after: str = "nothing", denies: bool = False) -> None:
        self.rows: list[dict[str, Any]] = []
        self.heard: list[bytes] = []
        self.address = ""
        self.silent_after = silent_after
        """From the first request whose text has this in it the server accepts connections, and never answers."""
        self.silent = threading.Event()
        """Once this is cleared the server answers what it was asked meanwhile."""
        self.answers = 0
        self.denies = denies
        self._run: dict[str, Any] | None = None
        self._summary = "{}"

    def answer(self, path: str, body: bytes) -> dict[str, Any]:
        self.heard.append(body)
        if self.silent_after in body.decode(errors="replace") + path:
            self.silent.set()
        document = json.loads(body or b"{}")
        if path.endswith("/file_stream"):
            return self._stream(document)
        query, variables = document.get("query", ""), document.get("variables") or {}
        data = self._data(query, variables)
        return {"data": data} if data else {"data": None, "errors": [{"message": "permission denied"}]}

    def _stream(self, document: dict[str, Any]) -> dict[str, Any]:
        files = document.get("files", {})
        if HISTORY in files:
            offset, lines = files[HISTORY]["offset"], files[HISTORY]["content"]
            self.rows[offset:] = [json.loads(line) for line in lines]
        if "wandb-summary.json" in files:
            self._summary = files["wandb-summary.json"]["content"][-1]
        return {"exitcode": None, "limits": {}}

    def _data(self, query: str, variables: dict[str, Any]) -> dict[str, Any] | None:
        project = {"id": "p", "name": "words", "entity": {"id": "e", "name": "me"}}
        if "RunResumeStatus" in query:
            return {"model": {**project, "bucket": self._run and {**self._run, **self._counts()}}}
        if "upsertBucket" in query and self.denies:
            return None
        if "upsertBucket" in query:
            if self._run is None:
                self._run = {
                    "id": "r",
                    "name": variables["name"],
                    "displayName": "",
                    "config": "{}",
                    "project": project,
                }
            return {"upsertBucket": {"bucket": {**self._run, "historyLineCount": len(self.rows)}, "inserted": True}}
        if "CreateRunFiles" in query:
            return {"createRunFiles": {"runID": "r", "uploadHeaders": [], "files": []}}
        if "CreateArtifact" in query:
            sequence = {"id": "s", "latestArtifact": None}
            return {"createArtifact": {"artifact": {"id": "a", "state": "COMMITTED", "artifactSequence": sequence}}}
        if "UseArtifact" in query:
            return {"useArtifact": {"artifact": {"id": "a"}}}
        if "Viewer" in query:
            return {"viewer": {"id": "u", "entity": "me", "username": "me", "flags": "{}", "teams": {"edges": []}}}
        return {"project": None, "serverInfo": {"features": []}}

    def _counts(self) -> dict[str, Any]:
        tail = [json.dumps(row) for row in self.rows[-1:]]
        return {
            "historyLineCount": len(self.rows),
            "eventsLineCount": 0,
            "logLineCount": 0,
            "historyTail": json.dumps(tail),
            "eventsTail": "[]",
            "summaryMetrics": self._summary,
            "tags": [],
            "notes": None,
            "wandbConfig": json.dumps({"t": 1}),
        }


@contextmanager
def wandb_server(*, silent_after: str = "nothing", denies: bool = False) -> Iterator[WandbServer]:
    """A server on loopback."""
    known = WandbServer(silent_after=silent_after, denies=denies)
    over = threading.Event()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self._reply({"rows": len(known.rows)})

        def do_POST(self) -> None:
            self._reply(known.answer(self.path, self.rfile.read(int(self.headers.get("Content-Length") or 0))))

        def _reply(self, document: dict[str, Any]) -> None:
            while known.silent.is_set():
                if over.wait(0.05):
                    return
            body = json.dumps(document).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)
            known.answers += 1

        def log_message(self, *values: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    known.address = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield known
    finally:
        over.set()
        server.shutdown()
        server.server_close()
        thread.join()

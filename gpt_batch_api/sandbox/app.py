"""The routes: HTTP in, the sandbox's methods, HTTP out. Every method runs in a thread, so that none holds up others."""

from __future__ import annotations

import asyncio
import functools
import json
import sys
import traceback
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from typing import Any, ParamSpec, TypeVar

from starlette.applications import Starlette
from starlette.datastructures import FormData, UploadFile
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import FileResponse, JSONResponse, Response
from starlette.routing import Route

from gpt_batch_api.sandbox import errors
from gpt_batch_api.sandbox.answering import ENDPOINTS
from gpt_batch_api.sandbox.batches import MAX_PAGE as MAX_BATCHES_PAGE
from gpt_batch_api.sandbox.calls import Call
from gpt_batch_api.sandbox.endpoint import Endpoint
from gpt_batch_api.sandbox.errors import ApiError
from gpt_batch_api.sandbox.files import MAX_PAGE as MAX_FILES_PAGE
from gpt_batch_api.sandbox.files import Upload, read_life
from gpt_batch_api.sandbox.gate import Gate
from gpt_batch_api.sandbox.models import EMBEDDING_SIZES, is_known
from gpt_batch_api.sandbox.plan import Plan
from gpt_batch_api.sandbox.plan_file import PlanError, load_plan, parse_plan
from gpt_batch_api.sandbox.sandbox import Sandbox

P = ParamSpec("P")
T = TypeVar("T")

_THREADS = 32
_BAD_JSON = (
    "We could not parse the JSON body of your request. (HINT: This likely means you aren't using your HTTP library "
    "correctly. The OpenAI API expects a JSON payload, but what was sent was not valid JSON.)"
)
_MODELS_SINCE = 1_700_000_000


class Api:
    """The routes over one sandbox. `asgi` is the whole application; `close` it when the server has stopped."""

    def __init__(self, sandbox: Sandbox) -> None:
        self._sandbox = sandbox
        self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="sandbox")
        # The first that fits is taken, so those that are called most come first.
        routes = [
            Route(endpoint.path, functools.partial(self.ask, endpoint=endpoint), methods=["POST"])
            for endpoint in ENDPOINTS.values()
        ]
        routes += [
            Route("/v1/files", self.create_file, methods=["POST"]),
            Route("/v1/files", self.list_files, methods=["GET"]),
            Route("/v1/files/{id}", self.retrieve_file, methods=["GET"]),
            Route("/v1/files/{id}", self.delete_file, methods=["DELETE"]),
            Route("/v1/files/{id}/content", self.file_content, methods=["GET"]),
            Route("/v1/batches", self.create_batch, methods=["POST"]),
            Route("/v1/batches", self.list_batches, methods=["GET"]),
            Route("/v1/batches/{id}", self.retrieve_batch, methods=["GET"]),
            Route("/v1/batches/{id}/cancel", self.cancel_batch, methods=["POST"]),
            Route("/v1/models", self.list_models, methods=["GET"]),
            Route("/v1/models/{id:path}", self.retrieve_model, methods=["GET"]),
            Route("/sandbox/state", self.state, methods=["GET"]),
            Route("/sandbox/ledger", self.ledger, methods=["GET"]),
            Route("/sandbox/calls", self.calls, methods=["GET"]),
            Route("/sandbox/plan", self.plan, methods=["GET"]),
            Route("/sandbox/plan", self.replace_plan, methods=["POST"]),
            Route("/sandbox/advance", self.advance, methods=["POST"]),
        ]
        handlers: dict[Any, Callable[[Request, Any], Awaitable[Response]]] = {
            ApiError: _refused,
            PlanError: _wrong_plan,
            HTTPException: _no_route,
            Exception: _our_fault,
        }
        app = Starlette(routes=routes, exception_handlers=handlers)
        app.router.redirect_slashes = False
        self.asgi = Gate(app, sandbox, self._run)

    def close(self) -> None:
        """End the threads."""
        self._threads.shutdown()

    async def _run(self, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._threads, functools.partial(work, *args, **kwargs))

    async def create_file(self, request: Request) -> Response:
        """POST /v1/files"""
        try:
            form = await request.form()
        except HTTPException as error:
            raise ApiError(400, str(error.detail)) from error
        except ClientDisconnect as error:
            raise ApiError(400, "The upload was not completed.") from error  # nobody hears it
        plan = self._sandbox.force.plan
        try:
            upload = await self._receive(form, plan)
        finally:
            await form.close()
        now = self._sandbox.time.now()
        call = _call(request)
        return JSONResponse(await self._run(self._sandbox.files.add, upload, plan=plan, now=now, call=call))

    async def _receive(self, form: FormData, plan: Plan) -> Upload:
        source, purpose = form.get("file"), form.get("purpose")
        if not isinstance(purpose, str):
            raise ApiError(400, "'purpose' is a required property", param="purpose")
        if not isinstance(source, UploadFile):
            raise ApiError(400, "'file' is a required property", param="file")
        anchor, seconds = form.get("expires_after[anchor]"), form.get("expires_after[seconds]")
        return await self._run(
            self._sandbox.files.receive,
            source.file,
            purpose=purpose,
            filename=source.filename or "upload",
            life_s=read_life(_text(anchor), _text(seconds), param="expires_after"),
            plan=plan,
        )

    async def list_files(self, request: Request) -> Response:
        """GET /v1/files"""
        query = request.query_params
        order = query.get("order", "desc")
        if order not in ("asc", "desc"):
            raise errors.wrong_value("order", value=order, allowed=("asc", "desc"))
        page = await self._run(
            self._sandbox.files.page,
            purpose=query.get("purpose"),
            after=query.get("after"),
            limit=_limit(request, default=MAX_FILES_PAGE, most=MAX_FILES_PAGE),
            newest_first=order == "desc",
            now=await self._caught_up(patience_s=None),
        )
        return JSONResponse(page)

    async def retrieve_file(self, request: Request) -> Response:
        """GET /v1/files/{id}"""
        now = await self._caught_up()
        return JSONResponse(await self._run(self._sandbox.files.retrieve, request.path_params["id"], now=now))

    async def file_content(self, request: Request) -> Response:
        """GET /v1/files/{id}/content, also in parts (Range)"""
        now = await self._caught_up()
        path, name = await self._run(self._sandbox.files.content, request.path_params["id"], now=now)
        return FileResponse(path, media_type="application/octet-stream", filename=name)

    async def delete_file(self, request: Request) -> Response:
        """DELETE /v1/files/{id}"""
        now = await self._caught_up()
        file_id, call = request.path_params["id"], _call(request)
        return JSONResponse(await self._run(self._sandbox.files.delete, file_id, now=now, call=call))

    async def create_batch(self, request: Request) -> Response:
        """POST /v1/batches"""
        body = await _json_body(request)
        force, now, call = self._sandbox.force, self._sandbox.time.now(), _call(request)
        return JSONResponse(await self._run(self._sandbox.batches.create, body, force=force, now=now, call=call))

    async def list_batches(self, request: Request) -> Response:
        """GET /v1/batches"""
        limit = _limit(request, default=20, most=MAX_BATCHES_PAGE)
        after, now = request.query_params.get("after"), self._sandbox.time.now()
        return JSONResponse(await self._run(self._sandbox.batches.page, after=after, limit=limit, now=now))

    async def retrieve_batch(self, request: Request) -> Response:
        """GET /v1/batches/{id}"""
        batch_id, now = request.path_params["id"], self._sandbox.time.now()
        return JSONResponse(await self._run(self._sandbox.batches.retrieve, batch_id, now=now))

    async def cancel_batch(self, request: Request) -> Response:
        """POST /v1/batches/{id}/cancel"""
        batch_id, now = request.path_params["id"], self._sandbox.time.now()
        return JSONResponse(await self._run(self._sandbox.batches.cancel, batch_id, now=now, call=_call(request)))

    async def ask(self, request: Request, endpoint: Endpoint) -> Response:
        """POST to an endpoint that answers"""
        body = await _json_body(request)
        plan, now, direct = self._sandbox.force.plan, self._sandbox.time.now(), self._sandbox.direct
        # A call is refused at once; only an answer lets wait.
        admitted = await self._run(direct.admit, endpoint, body, plan=plan, now=now)
        wait_s = direct.latency_s(plan)
        if wait_s:
            await asyncio.sleep(wait_s)
        given = await self._run(direct.answer, admitted, call=_call(request))
        return JSONResponse(given.reply.body, given.reply.status, headers=given.headers)

    async def list_models(self, request: Request) -> Response:
        """GET /v1/models"""
        return JSONResponse({"object": "list", "data": [_model(name) for name in self._model_names()]})

    async def retrieve_model(self, request: Request) -> Response:
        """GET /v1/models/{id}"""
        model = request.path_params["id"]
        if not is_known(model, self._model_names()):
            raise ApiError(404, f"The model '{model}' does not exist", param="model", code="model_not_found")
        return JSONResponse(_model(model))

    async def state(self, request: Request) -> Response:
        """GET /sandbox/state"""
        return JSONResponse(await self._run(self._sandbox.state))

    async def ledger(self, request: Request) -> Response:
        """GET /sandbox/ledger"""
        query = request.query_params
        document = await self._run(
            self._sandbox.ledger,
            with_rows=query.get("rows", "") not in ("", "0", "false"),
            batch_id=query.get("batch"),
            after=_whole(query.get("after"), "after", 0),
            limit=_whole(query.get("limit"), "limit", 100_000),
        )
        return JSONResponse(document)

    async def calls(self, request: Request) -> Response:
        """GET /sandbox/calls"""
        query = request.query_params
        document = await self._run(
            self._sandbox.calls,
            operation=query.get("operation"),
            after=_whole(query.get("after"), "after", 0),
            limit=_whole(query.get("limit"), "limit", 100_000),
        )
        return JSONResponse(document)

    async def plan(self, request: Request) -> Response:
        """GET /sandbox/plan"""
        return JSONResponse(asdict(self._sandbox.force.plan))

    async def replace_plan(self, request: Request) -> Response:
        """POST /sandbox/plan"""
        body = await _json_body(request)
        plan = load_plan(body) if isinstance(body, str) else parse_plan(body)
        await self._run(self._sandbox.replace_plan, plan)
        return JSONResponse(asdict(plan))

    async def advance(self, request: Request) -> Response:
        """POST /sandbox/advance"""
        body = await _json_body(request)
        seconds = body.get("seconds") if isinstance(body, dict) else None
        if isinstance(seconds, bool) or not isinstance(seconds, int | float) or seconds < 0:
            raise errors.wrong_type("seconds", expected="a number of seconds, 0 or more", value=seconds)
        return JSONResponse({"now": await self._run(self._sandbox.time.advance, float(seconds))})

    async def _caught_up(self, patience_s: float | None = 0.0) -> float:
        """The time, after all batches have moved to where they are by then: results are files too."""
        now = self._sandbox.time.now()
        await self._run(self._sandbox.batches.catch_up, now, patience_s=patience_s)
        return now

    def _model_names(self) -> list[str]:
        names = {*self._sandbox.billing.names, *self._sandbox.force.plan.extra_models, *EMBEDDING_SIZES}
        return sorted(names)


async def _refused(request: Request, error: ApiError) -> Response:
    return JSONResponse(error.body(), error.status, headers=dict(error.headers))


async def _wrong_plan(request: Request, error: PlanError) -> Response:
    return await _refused(request, ApiError(400, str(error)))


async def _no_route(request: Request, error: HTTPException) -> Response:
    place = f"{request.method} {request.url.path}"
    if error.status_code == 405:
        message = f"Not allowed to {request.method} on {request.url.path}"
        return await _refused(request, ApiError(405, message, code="method_not_supported"))
    return await _refused(request, ApiError(error.status_code, f"Invalid URL ({place})"))


async def _our_fault(request: Request, error: Exception) -> Response:
    traceback.print_exception(error, file=sys.stderr)
    message = "The server had an error while processing your request. Sorry about that!"
    return await _refused(request, ApiError(500, message, type="server_error"))


async def _json_body(request: Request) -> Any:
    try:
        return json.loads(await request.body())
    except (ValueError, RecursionError):
        raise ApiError(400, _BAD_JSON) from None


def _call(request: Request) -> Call:
    call: Call = request.scope["call"]
    return call


def _limit(request: Request, *, default: int, most: int) -> int:
    limit = _whole(request.query_params.get("limit"), "limit", default)
    if limit < 1:
        raise errors.out_of_range("limit", value=limit, bound=1, above=False)
    if limit > most:
        raise errors.out_of_range("limit", value=limit, bound=most, above=True)
    return limit


def _whole(text: str | None, name: str, default: int) -> int:
    if text is None:
        return default
    try:
        return int(text)
    except ValueError:
        raise errors.wrong_type(name, expected="an integer", value=text) from None


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) else None


def _model(name: str) -> dict[str, Any]:
    return {"id": name, "object": "model", "created": _MODELS_SINCE, "owned_by": "openai"}

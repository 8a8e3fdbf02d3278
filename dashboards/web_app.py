"""The pages of `dashboards.serve` over HTTP. Reads MLflow, writes nothing."""

from __future__ import annotations

import functools
from collections.abc import Sequence

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.middleware.trustedhost import TrustedHostMiddleware
from fastapi.responses import HTMLResponse, PlainTextResponse, RedirectResponse
from plotly.offline import get_plotlyjs
from starlette.exceptions import HTTPException

from dashboards.index_page import error_page, index_page
from dashboards.page import PLOTLY_PATH
from dashboards.served_sweeps import ServedSweeps, sweep_place
from orchestrator.errors import NotFoundError, UserError
from orchestrator.pages import run_address

_JSON = "application/json"
_POLICY = (
    "default-src 'none'; script-src 'self' 'unsafe-inline' 'unsafe-eval'; style-src 'unsafe-inline'; "
    "img-src 'self' data: blob:; connect-src 'self'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'"
)
"""Pages run their own scripts, which are inline, and load nothing from elsewhere. Plotly draws parallel
coordinates with WebGL, for which it makes functions of its own text (regl's `new Function`).
"""
_HEADERS = {
    "Content-Security-Policy": _POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
}


def make_app(sweeps: ServedSweeps, hosts: Sequence[str]) -> FastAPI:
    """The application.

    Args:
        sweeps: what it shows.
        hosts: the names by which it may be asked; another one is how a foreign page would reach it.
    """
    app = FastAPI(title="Sweeps", docs_url=None, redoc_url=None, openapi_url=None)
    app.add_middleware(TrustedHostMiddleware, allowed_hosts=list(hosts))
    plotly = get_plotlyjs()

    _tell_errors(app)

    @app.get("/")
    def index() -> HTMLResponse:
        address = functools.partial(run_address, sweeps.mlflow)
        page = index_page(sweeps.store.uri, sweeps.all(), address)
        return HTMLResponse(page, headers=_HEADERS)

    @app.get("/sweeps/{asked}")
    def sweep(asked: str) -> Response:
        found = sweeps.sweep(asked)
        if found.run_id != asked:  # a name, of which another sweep may be the newest tomorrow
            return RedirectResponse(sweep_place(found.run_id), 307)
        return HTMLResponse(found.drawn().html, headers=_HEADERS)

    @app.get("/sweeps/{run_id}/state")
    def state(run_id: str, request: Request) -> Response:
        drawn = sweeps.sweep(run_id).drawn()
        headers = {"ETag": drawn.revision, "Cache-Control": "no-cache"}
        if request.headers.get("If-None-Match") == drawn.revision:
            return Response(status_code=304, headers=headers)
        return Response(drawn.state, media_type=_JSON, headers=headers)

    @app.get("/sweeps/{run_id}/state/trials")
    def trials(run_id: str) -> Response:
        return Response(sweeps.sweep(run_id).drawn().trials, media_type=_JSON)

    @app.get("/sweeps/{run_id}/points/{trial_run_id}/{epoch}")
    def point(run_id: str, trial_run_id: str, epoch: int) -> HTMLResponse:
        page = sweeps.sweep(run_id).point(trial_run_id, epoch)
        return HTMLResponse(page, headers=_HEADERS)

    @app.get(PLOTLY_PATH)
    def script() -> Response:
        kept = {"Cache-Control": "public, max-age=86400"}
        return Response(plotly, media_type="text/javascript", headers=kept)

    return app


def _tell_errors(app: FastAPI) -> None:
    """Has every error be a page, or a text for the script of a page that is open."""

    @app.exception_handler(UserError)
    def tell(request: Request, error: UserError) -> Response:
        return _error(request, str(error), 404 if isinstance(error, NotFoundError) else 503)

    @app.exception_handler(HTTPException)
    def refuse(request: Request, error: HTTPException) -> Response:
        return _error(request, f"{request.url.path}: {error.detail}", error.status_code)

    @app.exception_handler(RequestValidationError)
    def correct(request: Request, error: RequestValidationError) -> Response:
        said = "; ".join(f"{fault['loc'][-1]}: {fault['msg']}" for fault in error.errors())
        return _error(request, f"{request.url.path}: {said}", 422)

    @app.exception_handler(Exception)
    def excuse(request: Request, error: Exception) -> Response:
        # Starlette raises it on, so that uvicorn writes the traceback to the log.
        text = f"This is a fault of the program ({type(error).__name__}); its log has the details."
        return _error(request, text, 500)


def _error(request: Request, text: str, status: int) -> Response:
    if "/state" in request.url.path:
        return PlainTextResponse(text, status)
    return HTMLResponse(error_page(text), status, _HEADERS)

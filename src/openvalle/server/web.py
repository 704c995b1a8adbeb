"""The page at `/`: static files of the package, which ask for nothing outside."""

from __future__ import annotations

from importlib.resources import files

from fastapi import APIRouter
from starlette.responses import Response

from openvalle.server.errors import ApiError

TYPES = {"html": "text/html", "css": "text/css", "js": "text/javascript", "svg": "image/svg+xml", "png": "image/png"}
HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
    "media-src 'self' blob:; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-cache",
}
router = APIRouter(include_in_schema=False)


def _read_page() -> dict[str, tuple[bytes, str]]:
    """Return every file of the page with its type, so that no name from a request is ever looked up on the disk."""
    folder = files("openvalle.server").joinpath("page")
    found = [file for file in folder.iterdir() if file.is_file()] if folder.is_dir() else []
    return {file.name: (file.read_bytes(), TYPES[file.name.rpartition(".")[2]]) for file in found}


PAGE = _read_page()


@router.get("/")
async def index() -> Response:
    """Show the page."""
    return await show("index.html")


@router.get("/page/{name}")
async def show(name: str) -> Response:
    """Give one of its files."""
    if name not in PAGE:
        raise ApiError(404, "there is no such page", code="not_found")
    data, kind = PAGE[name]
    return Response(data, 200, HEADERS, f"{kind}; charset=utf-8" if kind.startswith("text/") else kind)

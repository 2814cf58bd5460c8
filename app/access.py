"""Who may use the browser app: a password in front of everything that the server serves, and the names it goes by.

An ASGI middleware, so that pages, the websocket, uploads and media are all behind it. Logging in by OpenID Connect is
Streamlit's own (`st.login`) and is asked for by `sign_in`, before a page draws anything.
"""

import hashlib
import hmac
import html
import ipaddress
import os
import secrets
import time
from collections import OrderedDict
from pathlib import Path
from urllib.parse import parse_qs

from itsdangerous import BadSignature, TimestampSigner
from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.responses import HTMLResponse, PlainTextResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Receive, Scope, Send

from longleaf.errors import StorageError

__all__ = ["AccessGate", "is_loopback", "secret_of"]

COOKIE = "longleaf_access"
COOKIE_S = 30 * 24 * 3600
HEALTH = "/_stcore/health"
"""Says nothing but that the server runs; whoever watches over it has no password."""
FREE_TRIES = 5
MAX_WAIT_S = 300.0
MAX_CLIENTS = 10_000
MAX_FORM_BYTES = 4_096


def is_loopback(address: str) -> bool:
    """Whether only this machine can reach an address."""
    try:
        return ipaddress.ip_address(address).is_loopback
    except ValueError:
        return address == "localhost"


def secret_of(home: Path) -> bytes:
    """The server's random secret, made at the first call: cookies signed with it are good after a restart too.

    Raises:
        StorageError: It can't be written or read.
    """
    path = home / "app.secret"
    try:
        home.mkdir(parents=True, exist_ok=True)
        try:
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        except FileExistsError:
            pass
        else:
            with os.fdopen(descriptor, "wb") as file:
                file.write(secrets.token_bytes(32))
        if len(secret := path.read_bytes()) >= 32:
            return secret
    except OSError as exc:
        raise StorageError(f"{path}: {exc.strerror or exc}; the app keeps a secret there to know its users by") from exc
    raise StorageError(f"{path}: this is no secret of ours; delete it, and everybody has to log in again")


class AccessGate:
    """Lets in who has the password, or, without one, who calls this machine by a name of its own.

    Args:
        app: What stands behind it.
        password: Asked of everybody; None asks nobody.
        secret: Signs the cookie, together with the password: a new password logs everybody out.
        only_loopback: Whether the server listens on this machine alone. Then a request that calls it by another name
            is refused: a page elsewhere could have that name point here (DNS rebinding) and read the answers.
    """

    def __init__(self, app: ASGIApp, password: str | None, secret: bytes, *, only_loopback: bool) -> None:
        self._app = app
        self._password = password
        self._only_loopback = only_loopback
        key = hashlib.scrypt(password.encode(), salt=secret[:32], n=2**14, r=8, p=1) if password else secret
        self._signer = TimestampSigner(key, salt="longleaf access", digest_method=hashlib.sha256)
        self._failures: OrderedDict[str, tuple[int, float]] = OrderedDict()  # by client: how many, and when the last

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Hands a request on, answers it with the login page, or refuses it."""
        if scope["type"] not in ("http", "websocket") or scope["path"] == HEALTH:
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        if self._only_loopback and not _is_own_name(headers.get("host", "")):
            await _refuse(scope, receive, send, "This server answers to the names of its own machine only.", 403)
            return
        if self._password is None or self._is_known(scope):
            if scope["type"] == "http" and scope["path"] == "/logout":
                answer: Response = RedirectResponse("/", 303)
                answer.delete_cookie(COOKIE)
                await answer(scope, receive, send)
                return
            await self._app(scope, receive, send)
            return
        if scope["type"] == "websocket":
            await _refuse(scope, receive, send, "Log in first.", 403)
            return
        request = Request(scope, receive)
        if request.method == "POST" and scope["path"] == "/login":
            answer = await self._log_in(request)
        elif request.method in ("GET", "HEAD") and "text/html" in headers.get("accept", ""):
            answer = _login_page(_path_of(request), "", 401)
        else:
            answer = PlainTextResponse("Log in first.", 401)
        await answer(scope, receive, send)

    def _is_known(self, scope: Scope) -> bool:
        cookies = Request({**scope, "type": "http", "method": "GET"}).cookies
        try:
            self._signer.unsign(cookies.get(COOKIE, ""), max_age=COOKIE_S)
        except BadSignature:
            return False
        return True

    async def _log_in(self, request: Request) -> Response:
        client = request.client.host if request.client else ""
        n_failed, last = self._failures.get(client, (0, 0.0))
        wait = min(MAX_WAIT_S, 2.0 ** min(n_failed - FREE_TRIES, 30)) - (time.monotonic() - last)
        if n_failed >= FREE_TRIES and wait > 0:
            answer = _login_page("/", f"Too many wrong passwords: try again in {wait:.0f} s.", 429)
            answer.headers["Retry-After"] = str(int(wait) + 1)
            return answer
        body = b""
        async for part in request.stream():
            body += part
            if len(body) > MAX_FORM_BYTES:
                return PlainTextResponse("Too long.", 413)
        form = parse_qs(body.decode(errors="replace"))
        to = _safe_path(form.get("next", ["/"])[0])
        given = form.get("password", [""])[0]
        if not hmac.compare_digest(given.encode(), (self._password or "").encode()):
            self._failures[client] = (n_failed + 1, time.monotonic())
            self._failures.move_to_end(client)
            if len(self._failures) > MAX_CLIENTS:
                self._failures.popitem(last=False)
            return _login_page(to, "That is not the password.", 401)
        self._failures.pop(client, None)
        response = RedirectResponse(to, 303)
        response.set_cookie(
            COOKIE,
            self._signer.sign(secrets.token_hex(8)).decode(),
            max_age=COOKIE_S,
            httponly=True,
            samesite="lax",
            # Behind a proxy that speaks https the scheme is what uvicorn takes from it, where it trusts that proxy.
            secure=request.url.scheme == "https",
        )
        return response


def _is_own_name(host: str) -> bool:
    name = host.rsplit(":", 1)[0] if not host.endswith("]") else host
    return is_loopback(name.strip("[]"))


async def _refuse(scope: Scope, receive: Receive, send: Send, text: str, status: int) -> None:
    if scope["type"] == "websocket":
        await receive()  # the request to connect
        await send({"type": "websocket.close", "code": 1008, "reason": text})
    else:
        await PlainTextResponse(text, status)(scope, receive, send)


def _path_of(request: Request) -> str:
    return request.url.path + (f"?{request.url.query}" if request.url.query else "")


def _safe_path(path: str) -> str:
    """A path on this server, and not another server's address in disguise."""
    return path if path.startswith("/") and not path.startswith(("//", "/\\")) and "\n" not in path else "/"


def _login_page(to: str, error: str, status: int) -> HTMLResponse:
    said = f'<p class="error" role="alert">{html.escape(error)}</p>' if error else ""
    page = _PAGE.replace("{error}", said).replace(
        "{next}", html.escape(_safe_path(to), quote=True)
    )  # whatever it holds
    return HTMLResponse(page, status, {"Cache-Control": "no-store", "X-Frame-Options": "DENY"})


_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>Longleaf</title><style>
:root { color-scheme: light dark; --paper: #fff; --ink: #1f2a24; --line: #c9d2cc; --leaf: #2f6b4a; }
@media (prefers-color-scheme: dark) { :root { --paper: #141916; --ink: #e6ece8; --line: #3b4740; --leaf: #3b8460; } }
body { margin: 0; min-height: 100vh; display: grid; place-items: center; background: var(--paper); color: var(--ink);
  font: 1rem/1.5 system-ui, sans-serif; }
form { width: min(22rem, calc(100vw - 3rem)); display: grid; gap: .8rem; }
h1 { font-size: 1.5rem; margin: 0; } p { margin: 0; opacity: .85; } .error { color: #c0392b; opacity: 1; }
input { font: inherit; padding: .6rem .7rem; border: 1px solid var(--line); border-radius: .5rem; }
button { font: inherit; padding: .6rem; border: 0; border-radius: .5rem; background: var(--leaf); color: #fff; }
:focus-visible { outline: 3px solid var(--leaf); outline-offset: 2px; }
</style></head><body><form method="post" action="/login">
<h1>Longleaf</h1>
<p>This Longleaf can be reached from other machines, so it asks for the password that it was started with.</p>
{error}<label for="password">Password</label>
<input id="password" name="password" type="password" autocomplete="current-password" autofocus required>
<input type="hidden" name="next" value="{next}"><button>Log in</button>
</form></body></html>"""

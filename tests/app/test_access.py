"""Who gets in: the password in front of everything, wrong tries, links that lead elsewhere, names of other machines."""

import stat
from dataclasses import dataclass

import pytest
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Route, WebSocketRoute
from starlette.testclient import TestClient, WebSocketDisconnect

from longleaf.app import access, launch
from longleaf.app.access import COOKIE, AccessGate, is_loopback, secret_of
from longleaf.app.launch import guarded, run_app_server
from longleaf.app.settings import load_settings
from longleaf.app.sign_in import is_allowed
from longleaf.errors import LongleafError

SECRET = b"s" * 32
HTML = {"accept": "text/html"}


async def hello(request):
    return PlainTextResponse("the library")


async def socket(websocket):
    await websocket.accept()
    await websocket.send_text("open")
    await websocket.close()


def client(password="sesame", *, only_loopback=False, secret=SECRET, base_url="http://127.0.0.1:8501") -> TestClient:
    routes = [Route("/{path:path}", hello), WebSocketRoute("/_stcore/stream", socket)]
    app = AccessGate(Starlette(routes=routes), password, secret, only_loopback=only_loopback)
    return TestClient(app, base_url=base_url, follow_redirects=False)


def log_in(browser: TestClient, password="sesame", to="/library?document=ab"):
    return browser.post("/login", data={"password": password, "next": to}, headers=HTML)


def test_nothing_is_served_without_the_password_but_health():
    browser = client()
    page = browser.get("/library?document=ab", headers=HTML)
    assert page.status_code == 401
    assert 'value="/library?document=ab"' in page.text
    assert "can be reached from other machines" in page.text
    for path in ("/_stcore/upload_file/x/y", "/media/z.png", "/static/app.js", "/_stcore/host-config"):
        refused = browser.get(path)
        assert (refused.status_code, refused.text) == (401, "Log in first.")
    assert browser.put("/_stcore/upload_file/x/y", content=b"words").status_code == 401
    assert browser.get("/_stcore/health").text == "the library"
    with pytest.raises(WebSocketDisconnect), browser.websocket_connect("/_stcore/stream"):
        pass


def test_the_password_opens_all_of_it_until_logging_out():
    browser = client()
    answer = log_in(browser)
    assert (answer.status_code, answer.headers["location"]) == (303, "/library?document=ab")
    cookie = answer.headers["set-cookie"].lower()
    assert "httponly" in cookie
    assert "samesite=lax" in cookie
    assert browser.get("/library").text == "the library"
    held = {"cookie": f"{COOKIE}={browser.cookies[COOKIE]}"}  # the client calls websockets by another host's name
    with browser.websocket_connect("/_stcore/stream", headers=held) as open_socket:
        assert open_socket.receive_text() == "open"
    browser.get("/logout")
    assert browser.get("/library", headers=HTML).status_code == 401


def test_a_cookie_outlives_a_restart_but_no_new_password_secret_or_change(monkeypatch):
    browser = client()
    log_in(browser)
    value = browser.cookies[COOKIE]

    def status(other: TestClient, cookie: str = value) -> int:
        return other.get("/", headers=HTML | {"cookie": f"{COOKIE}={cookie}"}).status_code

    assert status(client()) == 200
    assert status(client("another")) == 401
    assert status(client(secret=b"t" * 32)) == 401
    assert status(client(), value[:-1] + ("A" if value[-1] != "A" else "B")) == 401
    monkeypatch.setattr(access, "COOKIE_S", -1)
    assert status(client()) == 401


@pytest.mark.parametrize("to", ["//evil.example", "https://evil.example", "/\\evil.example", "javascript:alert(1)", ""])
def test_a_login_leads_to_this_server_only(to):
    assert log_in(client(), to=to).headers["location"] == "/"


def test_what_the_address_holds_is_words_on_the_login_page():
    assert "<script>" not in client().get('/?x="><script>alert(1)</script>', headers=HTML).text


def test_wrong_passwords_soon_have_to_wait(monkeypatch):
    now = [1000.0]
    monkeypatch.setattr(access.time, "monotonic", lambda: now[0])
    browser = client()
    for _ in range(access.FREE_TRIES):
        assert log_in(browser, "wrong").status_code == 401
    held = log_in(browser)
    assert held.status_code == 429
    assert int(held.headers["retry-after"]) >= 1
    now[0] += 2
    assert log_in(browser).status_code == 303


def test_a_form_without_end_is_cut_off():
    assert client().post("/login", content=b"x" * 100_000).status_code == 413


@pytest.mark.parametrize(
    ("host", "status"),
    [("127.0.0.1:8501", 200), ("localhost:8501", 200), ("[::1]:8501", 200), ("evil.example:8501", 403), ("", 403)],
)
def test_a_local_server_answers_to_its_own_names_only(host, status):
    local = client(None, only_loopback=True)
    assert local.get("/", headers={"host": host}).status_code == status


def test_behind_https_the_cookie_goes_over_https_only():
    assert "secure" in log_in(client(base_url="https://longleaf.example")).headers["set-cookie"].lower()


def test_the_secret_is_made_once_and_for_its_owner_only(tmp_path):
    secret = secret_of(tmp_path / "home")
    assert len(secret) == 32
    assert secret_of(tmp_path / "home") == secret
    assert stat.S_IMODE((tmp_path / "home" / "app.secret").stat().st_mode) == 0o600


@pytest.mark.parametrize(
    ("address", "loopback"),
    [
        ("127.0.0.1", True),
        ("::1", True),
        ("localhost", True),
        ("0.0.0.0", False),
        ("192.168.1.2", False),
        ("lab", False),
    ],
)
def test_which_addresses_are_this_machines_own(address, loopback):
    assert is_loopback(address) is loopback


@dataclass
class Terminal:
    is_one: bool

    def isatty(self) -> bool:
        return self.is_one


def test_an_open_address_asks_for_a_password_and_says_why(tmp_path, monkeypatch):
    monkeypatch.delenv("LONGLEAF_PASSWORD", raising=False)
    settings = load_settings(home=tmp_path)
    monkeypatch.setattr("sys.stdin", Terminal(False))
    with pytest.raises(LongleafError, match=r"Other machines can reach this address.*LONGLEAF_PASSWORD"):
        guarded(settings, "0.0.0.0")
    assert guarded(settings, "127.0.0.1").password is None
    monkeypatch.setattr("sys.stdin", Terminal(True))
    monkeypatch.setattr("typer.prompt", lambda *_, **__: "sesame")
    assert guarded(settings, "0.0.0.0").password.get_secret_value() == "sesame"
    monkeypatch.setenv("LONGLEAF_PASSWORD", "open")
    assert "open" not in repr(load_settings(home=tmp_path).password)


def test_an_identity_provider_that_is_half_set_up_says_what_is_missing(tmp_path, monkeypatch):
    monkeypatch.setenv("LONGLEAF_OIDC_METADATA_URL", "https://id.example/.well-known/openid-configuration")
    monkeypatch.setattr("longleaf.app.launch._check_port", lambda *_: None)
    with pytest.raises(LongleafError, match="LONGLEAF_OIDC_CLIENT_ID, LONGLEAF_OIDC_CLIENT_SECRET"):
        run_app_server(load_settings(home=tmp_path), "0.0.0.0", 8501)


@pytest.mark.parametrize(
    ("email", "allowed", "may"),
    [("anna@example.org", "", True), ("Anna@Example.org", "anna@example.org", True),
     ("bo@example.org", "anna@example.org", False), ("bo@example.com", "x@y.z, @example.com", True),
     ("bo@notexample.com", "@example.com", False), ("", "@example.com", False)],
)  # fmt: skip
def test_who_is_allowed_by_address(email, allowed, may):
    assert is_allowed(email, allowed) is may


def test_an_address_that_is_not_verified_opens_no_list():
    assert not is_allowed("anna@example.org", "@example.org", verified=False)
    assert is_allowed("anna@example.org", "", verified=False)


@pytest.mark.parametrize(
    ("address", "shown"),
    [("127.0.0.1", "http://127.0.0.1:8501"), ("0.0.0.0", "http://127.0.0.1:8501"), ("::1", "http://[::1]:8501"),
     ("::", "http://[::1]:8501"), ("192.168.1.7", "http://192.168.1.7:8501")],
)  # fmt: skip
def test_the_address_that_is_told_is_one_that_the_server_listens_on(address, shown):
    assert launch._url(address, 8501) == shown

"""Who talks to servers does so by the proxy of the environment; what that refuses is one sentence,
which names it and shows no password."""

import base64
import threading
import urllib.error
import urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import SimpleNamespace

import pytest

from components.prepare.fetch.stores import Store, Unreachable
from shared import servers
from shared.errors import InputError
from shared.pipeline.images.registry import check_images
from shared.pipeline.server.client import connect
from shared.pipeline.submitting import ServerOptions
from shared.published import download
from tests.asking import refusal
from tests.fake_kfp import FakeKfp

PASSWORD = "pa55 word"
LOGIN = "Basic " + base64.b64encode(f"me:{PASSWORD}".encode()).decode()


class FakeProxy:
    """Passes on what is asked of whatever host to one server of this machine, for who has the
    password; opens no tunnel: by RFC 9110, 9.3.6 and 15.5.8."""

    def __init__(self):
        self.asked, self.to, fake = [], "", self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                fake.asked.append(f"{self.command} {self.path}")
                if self.headers.get("Proxy-Authorization") != LOGIN:
                    return self.answer(407, b"<html>who are you?</html>")
                if not fake.to:
                    return self.answer(403, b"<html>not from here</html>")
                path = self.path.partition("://")[2].partition("/")[2]
                direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
                with direct.open(f"{fake.to}/{path}") as answer:
                    self.answer(answer.status, answer.read())

            def answer(self, status: int, body: bytes = b"") -> None:
                self.send_response(status)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(b"" if self.command == "HEAD" else body)

            def do_CONNECT(self) -> None:
                fake.asked.append(f"CONNECT {self.path}")
                is_known = self.headers.get("Proxy-Authorization") == LOGIN
                self.send_error(403 if is_known else 407)

            do_HEAD = do_GET

            def log_message(self, *_) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.address = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()


@pytest.fixture
def proxy(monkeypatch):
    """One for all schemes, with our password; `use` another one."""
    for name in ("http", "https", "no", "all"):
        monkeypatch.delenv(f"{name}_proxy", raising=False)
        monkeypatch.delenv(f"{name.upper()}_PROXY", raising=False)
    monkeypatch.setenv(servers.PATIENCE, "1")
    monkeypatch.setattr(urllib.request, "_opener", None)  # a process reads its environment once
    fake = FakeProxy()

    def use(pair: str = "me:pa55%20word@", port: int = fake.server.server_port) -> None:
        for name in ("HTTP_PROXY", "HTTPS_PROXY"):
            monkeypatch.setenv(name, f"http://{pair}127.0.0.1:{port}")

    fake.use = use
    use()
    yield fake
    fake.server.shutdown()
    fake.server.server_close()


def kfp(url: str) -> str:
    def ask():
        with connect(ServerOptions(host=url)):
            pass

    return refusal(ask)


def registry(url: str) -> str:
    _, (unknown,) = check_images({"train": f"{url.partition('://')[2]}/train:1"})
    return unknown


def weights(url: str) -> str:
    with pytest.raises(download.Unreachable) as lost:
        with download._ask(SimpleNamespace(address=f"{url}/vgg.pth", size=1), 0, 2):
            pass
    return str(lost.value)


def raw_data(url: str) -> str:
    with pytest.raises((Unreachable, InputError)) as lost:
        Store(f"{url}/raw.zip", f"{url}/raw.zip").find()
    return str(lost.value)


CALLS = [(kfp, "http"), (kfp, "https"), (registry, "https"), (weights, "http"), (weights, "https")]
CALLS += [(raw_data, "http"), (raw_data, "https")]


@pytest.mark.parametrize("how", ["no login", "no tunnel", "is down"])
@pytest.mark.parametrize(("call", "scheme"), CALLS)
def test_what_a_proxy_refuses_is_one_sentence_that_names_it(call, scheme, how, proxy):
    if how == "no login":
        proxy.use("me:secret-word@")
    if how == "is down":
        proxy.server.shutdown()
        proxy.server.server_close()
    sentence = call(f"{scheme}://somewhere.example")
    assert f"by the proxy {proxy.address}" in sentence and "\n" not in sentence
    assert not any(word in sentence for word in ("secret-word", "pa55", "Basic", LOGIN[6:]))
    if how != "is down":
        assert proxy.asked and all("somewhere.example" in one for one in proxy.asked)
        code = str(407 if how == "no login" else 403)
        assert code in sentence or sentence.endswith(
            f"access denied by the proxy {proxy.address}: check the credentials."
        )


def test_a_kfp_server_is_reached_by_a_proxy(proxy):
    server = FakeKfp()
    try:
        proxy.to = server.host
        with connect(ServerOptions(host="http://kfp.example:8888")) as reached:
            assert not reached.has_users
        assert proxy.asked == ["GET http://kfp.example:8888/apis/v2beta1/healthz"]
    finally:
        server.close()


def test_this_machine_is_asked_by_no_proxy(proxy, monkeypatch):
    monkeypatch.setenv("NO_PROXY", "kfp.example, .inside")
    servers.keep_loopback()
    servers.keep_loopback()
    for name in ("NO_PROXY", "no_proxy"):
        assert servers.os.environ[name] == "kfp.example,.inside,localhost,127.0.0.1,::1"
    server = FakeKfp()
    try:
        with connect(ServerOptions(host=server.host)):
            assert not proxy.asked
    finally:
        server.close()
    for url in ("http://kfp.example/x", "https://a.inside:8443", "http://localhost:5000"):
        assert servers.proxy_of(url) is None and servers.by_proxy(url) == ""
    assert servers.proxy_of("http://other.example").address == proxy.address


def test_without_a_proxy_nothing_is_set(monkeypatch):
    for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY", "no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    servers.keep_loopback()
    assert "NO_PROXY" not in servers.os.environ and servers.proxy_of("http://x.example") is None


@pytest.mark.parametrize("value", ["socks5://me:pa55@p:1", "http://me:pa55@p:x", "http://", "://"])
def test_what_is_no_address_of_a_proxy_is_refused_and_not_shown(value, proxy, monkeypatch):
    monkeypatch.setenv("HTTP_PROXY", value)
    sentence = kfp("http://somewhere.example")
    assert (
        sentence.startswith("HTTP_PROXY is no address of an HTTP proxy") and "pa55" not in sentence
    )


@pytest.mark.parametrize(
    "value", ["p.example:3128", "http://p.example:3128/", "HTTP://P.example:3128"]
)
def test_addresses_as_people_write_them(value, proxy, monkeypatch):
    monkeypatch.setenv("HTTP_PROXY", value)
    assert servers.proxy_of("http://x.example") == ("http://p.example:3128", {})


def test_kubernetes_is_asked_by_it_unless_the_kubeconfig_names_another(proxy):
    settings = SimpleNamespace(host="https://api.example:6443", proxy=None, proxy_headers=None)
    servers.let_proxy(settings)
    assert settings.proxy == proxy.address
    assert settings.proxy_headers == {"proxy-authorization": LOGIN}
    own = SimpleNamespace(host="https://api.example:6443", proxy="http://own:1", proxy_headers=None)
    servers.let_proxy(own)
    assert own.proxy == "http://own:1"

"""Whatever stands at --host, the command says in one sentence what it is."""

import base64
import socket
import ssl
import time

import pytest

from shared.pipeline.server.answers import Run
from shared.pipeline.server.client import connect
from shared.pipeline.submitting import ServerOptions
from tests.asking import refusal
from tests.calling import call

HEALTH, LIST = "HealthzService_GetHealthz", "RunService_ListRuns"


def ask(host: str, **options) -> list[Run]:
    with connect(ServerOptions(host=host, **options)) as server:
        return list(server.pages("runs", "runs", Run))


def sentence(kfp_server, **options) -> str:
    refused = refusal(ask, kfp_server.host, **options)
    assert refused.startswith(f"--host {kfp_server.host} ")
    return refused.removeprefix(f"--host {kfp_server.host} ")


# Answers that are no success.


@pytest.mark.parametrize("operation", [HEALTH, LIST])
@pytest.mark.parametrize(
    "status, begins, tries",
    [
        (401, "refuses access (HTTP 401): give --token-file, --cookie-file, KF_PIPELINES_TOKEN", 1),
        (403, "refuses access (HTTP 403): not yours; without --token-file", 1),
        (503, "does not work at the moment (HTTP 503: not yours): try again later.", 4),
        (500, "does not work at the moment (HTTP 500: not yours): try again later.", 4),
        (429, "does not work at the moment (HTTP 429: not yours): try again later.", 4),
        (404, "does not take it (HTTP 404): not yours.", 1),
        (400, "does not take it (HTTP 400): not yours.", 1),
    ],
)
def test_what_the_api_says_is_one_sentence(operation, status, begins, tries, kfp_server):
    kfp_server.faults[operation] = (status, "not yours\n[goroutine 42]")
    assert sentence(kfp_server).startswith(begins)
    assert sum(name == operation for name, _ in kfp_server.calls) == tries


@pytest.mark.parametrize("operation", [HEALTH, LIST])
@pytest.mark.parametrize(
    "fault, begins",
    [
        ("HTML", "answers, but not as a KFP API server: check the address; it may be that of a"),
        ("a list", "answers, but not as a KFP API server: check"),
        ("another object", "answers, but not as a KFP API server: check"),
        ("404", "does not answer as a KFP API server (HTTP 404): check the address, to which a p"),
        ("405", "answers, but not as a KFP API server (HTTP 405): check the address"),
        ("301", "answers, but not as a KFP API server (HTTP 301, to http://127.0.0.1/): check"),
        ("502", "does not work at the moment (HTTP 502): try again later."),
        ("cut off", "breaks the connection off, or is no web server: check address and port"),
        ("refuses", "breaks the connection off, or is no web server: check address and port"),
        ("hangs", "gave no answer in time."),
    ],
)
def test_what_is_not_the_api_is_one_sentence(operation, fault, begins, kfp_server):
    if fault == "another object" and operation == LIST:
        return  # a list that is empty
    kfp_server.passing[operation] = [fault] * 9
    began = time.monotonic()
    assert sentence(kfp_server).startswith(begins)
    assert time.monotonic() - began < 10


def test_a_name_that_nobody_has_and_a_port_where_nobody_listens(monkeypatch):
    asked = []

    def unknown(*arguments, **_):
        asked.append(arguments)
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    assert "cannot be reached (Connection refused): check" in refusal(ask, "http://127.0.0.1:9")
    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    refused = refusal(ask, "http://kfp.example")
    assert "cannot be reached (Name or service not known): check" in refused and len(asked) == 1


def test_a_server_behind_a_path_is_found_there_and_only_there(kfp_server):
    kfp_server.prefix = "/pipeline"
    assert ask(kfp_server.host + "/") == []
    refused = refusal(ask, kfp_server.address)
    assert "does not answer as a KFP API server (HTTP 404)" in refused and "/pipeline" in refused


def test_a_busy_server_is_asked_again(kfp_server):
    kfp_server.passing = {HEALTH: ["503", "refuses"], LIST: ["502", "cut off", "429"]}
    assert ask(kfp_server.host) == []


def test_a_page_that_leads_to_itself_ends(kfp_server, monkeypatch):
    monkeypatch.setattr("shared.pipeline.server.client.MOST_PAGES", 5)
    monkeypatch.setattr(kfp_server, "RunService_ListRuns", lambda *_: {"next_page_token": "1"})
    assert sentence(kfp_server).startswith("answers, but not as a KFP API server")


def test_an_id_that_would_lead_elsewhere_is_no_answer(kfp_server):
    kfp_server.runs["x"] = {"run_id": "../healthz", "state": "RUNNING"}
    assert sentence(kfp_server).startswith("answers, but not as a KFP API server")


def test_the_command_is_refused_in_one_line_without_traceback(kfp_server, tmp_path):
    kfp_server.authorization = "Bearer abc"
    for host, said in ((kfp_server.host, "HTTP 401"), ("http://127.0.0.1:9", "be reached")):
        result = call("status", "--host", host, cwd=tmp_path)
        assert result.returncode == 2 and said in result.stderr
        assert len(result.stderr.strip().splitlines()) == 1, result.stderr
    assert not list(tmp_path.iterdir())


# TLS.


@pytest.fixture(scope="session")
def certificate(tmp_path_factory):
    """Key and certificate of 127.0.0.1, signed by itself."""
    from datetime import UTC, datetime, timedelta
    from ipaddress import ip_address

    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key, now = ec.generate_private_key(ec.SECP256R1()), datetime.now(UTC)
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "kfp")])
    address = x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))])
    made = x509.CertificateBuilder().subject_name(name).issuer_name(name)
    made = made.public_key(key.public_key()).serial_number(1).add_extension(address, False)
    made = made.not_valid_before(now - timedelta(1)).not_valid_after(now + timedelta(1))
    made = made.add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
    plain = serialization.NoEncryption()
    encoding, form = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
    folder = tmp_path_factory.mktemp("tls")
    (folder / "key.pem").write_bytes(key.private_bytes(encoding, form, plain))
    signed = made.sign(key, hashes.SHA256())
    (folder / "certificate.pem").write_bytes(signed.public_bytes(encoding))
    return folder


def test_a_certificate_counts_by_ca_file_or_environment_alone(
    kfp_server, certificate, monkeypatch, tmp_path
):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate / "certificate.pem", certificate / "key.pem")
    kfp_server.http.socket = context.wrap_socket(kfp_server.http.socket, server_side=True)
    host = kfp_server.host.replace("http:", "https:")
    refused = refusal(ask, host)
    assert "has a certificate that is not trusted (self-signed certificate): " in refused
    assert "--ca-file" in refused
    assert ask(host, ca_file=certificate / "certificate.pem") == []
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate / "certificate.pem"))
    assert ask(host) == []
    for content in (None, "no certificate"):
        file = tmp_path / "ca.pem"
        if content:
            file.write_text(content)
        assert f"--ca-file {file} cannot be used" in refusal(ask, host, ca_file=file)


def test_http_and_https_are_told_apart(kfp_server):
    refused = refusal(ask, kfp_server.host.replace("http:", "https:"))
    assert "speaks no TLS at this port: write http://" in refused


# Who we are.


@pytest.mark.parametrize(
    "host, said",
    [
        ("kfp.example", "is no URL of a server: write for example http://kfp:8080."),
        ("ftp://user:secret@kfp", "is no URL of a server: write for example http://kfp:8080."),
        ("http://", "is no URL of a server: write for example http://kfp:8080."),
        ("http://user:sec/ret@kfp", "has no readable host: write special characters of a password"),
        ("http://secret@kfp", "has a user without a password: a token is given by --token-file"),
        ("env://NOTHING", "env://NOTHING: the environment has no variable NOTHING: set it."),
    ],
)
def test_what_is_no_url_of_a_server_is_refused(host, said):
    refused = refusal(ask, host)
    assert refused.startswith(f"--host {said}") and "sec" not in refused.partition(":")[0]


def test_user_and_password_of_the_host_are_sent_and_never_shown(kfp_server, monkeypatch):
    kfp_server.authorization = f"Basic {base64.b64encode(b'jane:se:cr@t').decode()}"
    host = kfp_server.host.replace("http://", "http://jane:se%3Acr%40t@")
    assert ask(host) == []
    monkeypatch.setenv("MY_KFP", host)
    assert ask("env://MY_KFP") == []
    kfp_server.authorization = "Basic other"
    refused = refusal(ask, host)
    assert "(HTTP 401) to user and password of --host: it is wrong" in refused
    assert "jane" not in refused and "cr%40t" not in refused and "se:cr" not in refused


def test_a_token_comes_from_a_file_or_the_environment(kfp_server, monkeypatch, tmp_path):
    kfp_server.authorization = "Bearer abc"
    named, kept = tmp_path / "token", tmp_path / "kept"
    named.write_text("abc\n")
    kept.write_text("older")
    monkeypatch.setenv("KF_PIPELINES_TOKEN", "oldest")
    assert "(HTTP 401) to KF_PIPELINES_TOKEN: it is wrong" in sentence(kfp_server)
    monkeypatch.setenv("KF_PIPELINES_SA_TOKEN_PATH", str(kept))
    assert f"to KF_PIPELINES_SA_TOKEN_PATH {kept}: it is wrong" in sentence(kfp_server)
    assert ask(kfp_server.host, token_file=named) == []
    kept.write_text("abc")
    assert ask(kfp_server.host) == []


def test_a_cookie_comes_from_a_file_or_the_environment(kfp_server, monkeypatch, tmp_path):
    kfp_server.cookie = "authservice_session=abc"
    assert "(HTTP 401): give --token-file, --cookie-file" in sentence(kfp_server)
    file = tmp_path / "cookie"
    file.write_text(f"{kfp_server.cookie}\n")
    assert ask(kfp_server.host, cookie_file=file) == []
    monkeypatch.setenv("KF_PIPELINES_COOKIE", kfp_server.cookie)
    assert ask(kfp_server.host) == []


@pytest.mark.parametrize(
    "content, said",
    [
        (None, "is no file."),
        (b"", "holds nothing: write the token or cookie into it."),
        (b"a\nb", "holds no token or cookie: it must be one line of ASCII."),
        ("tökén".encode(), "holds no token or cookie: it must be one line of ASCII."),
        (b"\xff\xfe", "is no text in UTF-8."),
        (b"x" * 2**20, "holds no token or cookie: it must be one line of ASCII."),
    ],
)
def test_what_is_no_token_is_refused_before_anything_is_asked(content, said, kfp_server, tmp_path):
    file = tmp_path / "token"
    if content is not None:
        file.write_bytes(content)
    assert refusal(ask, kfp_server.host, token_file=file) == f"--token-file {file} {said}"
    assert not kfp_server.calls


def test_a_token_that_is_renewed_meanwhile_is_taken(kfp_server, tmp_path):
    file = tmp_path / "token"
    file.write_text("first")
    kfp_server.authorization = "Bearer first"
    with connect(ServerOptions(host=kfp_server.host, token_file=file)) as server:
        file.write_text("second")
        kfp_server.authorization = "Bearer second"
        assert list(server.pages("runs", "runs", Run)) == []
        assert kfp_server.calls[-1] == (LIST, 200)

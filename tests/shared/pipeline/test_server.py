"""The graph on a KFP API server, of which there is none here."""

from tests.calling import call


def test_a_server_that_does_not_answer_is_refused_in_one_sentence(tmp_path):
    host = "http://127.0.0.1:9"
    result = call("submit", "--host", host, "--raw-data", "s3://bucket/raw", cwd=tmp_path)
    assert result.returncode == 2 and len(result.stderr.strip().splitlines()) == 1, result.stderr
    assert f"--host {host} does not answer as a KFP API server" in result.stderr
    assert not list(tmp_path.iterdir())

"""How people are told to go on."""

from shared.errors import repeat


def test_a_step_of_a_pipeline_is_gone_on_with_by_its_pipeline(monkeypatch):
    monkeypatch.delenv("PIPELINE_RUN", raising=False)
    assert repeat() == "the same command again"
    monkeypatch.setenv("PIPELINE_RUN", "demo-20261129-020000")
    assert repeat() == "`python pipeline.py submit --continue demo-20261129-020000`"

"""How people are told to go on."""

from shared.errors import repeat


def test_a_step_of_a_pipeline_is_gone_on_with_by_its_pipeline(monkeypatch):
    monkeypatch.delenv("PIPELINE_GOES_ON", raising=False)
    assert repeat() == "the same command again"
    monkeypatch.setenv("PIPELINE_GOES_ON", "pix2pixhd-pipeline submit --continue demo-1")
    assert repeat() == "`pix2pixhd-pipeline submit --continue demo-1`"

"""The quality of several pairs as one record, with and without measuring networks."""

import numpy as np
import pytest

from components.benchmark.config import BenchmarkConfig
from components.benchmark.measure.method import method
from components.benchmark.measure.quality import QualityMeter
from components.benchmark.measure.segmentation import GROUPS, SegmentationNetwork
from shared.contracts.measured import Quality
from shared.quality import frechet_distance, kernel_distance, l1, psnr_db, ssim
from shared.scorers.networks import MeasuringNetworks
from shared.scorers.options import MeasuringOptions
from tests.measuring import brightest_channel, mean_colour, mean_difference, random_pictures


def test_meter_without_networks():
    pictures, meter = random_pictures(4), QualityMeter()
    assert meter.result() == Quality(pairs=0)
    first, second = meter.add(pictures[0], pictures[1]), meter.add(pictures[2], pictures[3])
    assert first == Quality(
        pairs=1, psnr_db=psnr_db(*pictures[:2]), ssim=ssim(*pictures[:2]), l1=l1(*pictures[:2])
    )
    result = meter.result()
    assert result.pairs == 2 and result.caveats == []
    for name in ("psnr_db", "ssim", "l1"):
        assert getattr(result, name) == pytest.approx(
            (getattr(first, name) + getattr(second, name)) / 2
        )
    assert {name for name, value in result if value is None} == {
        "lpips",
        "fid",
        "kid",
        "miou",
        "pixel_accuracy",
    }


def test_meter_with_all_networks(tmp_path):
    files = MeasuringOptions(
        lpips_network=mean_difference(tmp_path / "l.onnx"),
        fid_network=mean_colour(tmp_path / "f.onnx"),
    )
    networks = MeasuringNetworks.load((8, 12), "cpu", files)
    segmentation = SegmentationNetwork(brightest_channel(tmp_path / "s.onnx"), (8, 12), 3)
    pictures, meter = random_pictures(6), QualityMeter(networks, segmentation)
    for fake, real in zip(pictures[:3], pictures[3:], strict=True):
        pair = meter.add(fake, real, fake.argmax(axis=0).astype(np.uint8))
        assert pair.lpips == pytest.approx(2 * pair.l1, rel=1e-5) and pair.fid is None
    result = meter.result()
    means = np.stack(pictures).mean(axis=(2, 3)) / 255
    assert result.lpips == pytest.approx(2 * result.l1, rel=1e-5)
    assert result.fid == pytest.approx(frechet_distance(means[:3], means[3:]), rel=1e-4)
    assert result.kid == pytest.approx(kernel_distance(means[:3], means[3:]), rel=1e-3)
    assert (result.miou, result.pixel_accuracy) == (1, 1)
    assert [caveat[:3] for caveat in result.caveats] == ["FID", "KID"]
    assert Quality.model_validate_json(result.model_dump_json()) == result


@pytest.mark.parametrize("count", [2 * GROUPS + 3, 4, 1])
def test_groups_left_out_are_what_the_other_pairs_give(tmp_path, count):
    """By meters that never saw the group's pairs, which are every tenth from its number on."""
    fid = mean_colour(tmp_path / "f.onnx")
    networks = MeasuringNetworks.load((8, 12), "cpu", MeasuringOptions(fid_network=fid))
    segmentation = SegmentationNetwork(brightest_channel(tmp_path / "s.onnx"), (8, 12), 3)
    pictures = random_pictures(3 * count)
    triples = [pictures[i::count] for i in range(count)]

    def measured(numbers) -> QualityMeter:
        meter = QualityMeter(networks, segmentation)
        for number in numbers:
            fake, real, labels = triples[number]
            meter.add(fake, real, labels.argmax(axis=0).astype(np.uint8))
        return meter

    whole = measured(range(count))
    found, groups = whole.by_group_left_out(), min(GROUPS, count)
    names = {"fid", "kid", "miou", "pixel_accuracy"} if count > 2 else set()
    assert found.keys() == names
    for group in range(groups if names else 0):
        others = measured(i for i in range(count) if i % GROUPS != group).result()
        for name in names:
            assert found[name][group] == pytest.approx(getattr(others, name)), name
    means = {name: values.mean() for name, values in whole.by_pair.items()}
    assert means == pytest.approx({name: getattr(whole.result(), name) for name in means})
    assert means.keys() == {"psnr_db", "ssim", "l1"}


def test_the_report_says_which_networks_measured():
    options = BenchmarkConfig(lpips_network="alex", fid_network="/nets/own.onnx")
    assert ", LPIPS by alex, FID and KID by own.onnx; means" in method(options, "torch", 0)
    assert "LPIPS" not in method(BenchmarkConfig(), "torch", 0)

"""One encoder on several devices. Here they are all the CPU: what is tested is who gets which batch."""

import numpy as np
import pytest

from conceptseg.domain.errors import EncoderError
from conceptseg.domain.progress import never_cancelled
from conceptseg.encoders.load import choose_devices, load_encoder
from conceptseg.encoders.shared import DeviceQueue, SharedEncoder
from conceptseg.encoders.team import EncoderTeam
from conceptseg.factorization.library import find_dictionary
from conceptseg.imaging.array_reader import ArrayReader
from conceptseg.imaging.source import open_region
from conceptseg.pipeline.segment import segment
from conceptseg.pipeline.settings import SegmentSettings


@pytest.fixture
def members(monkeypatch):
    """Two encoders that count the batches they get."""
    members = [load_encoder("default", device="cpu") for _ in range(2)]
    for member in members:
        member.batches = 0

        def counted(tiles, member=member, encode=member.encode):
            member.batches += 1
            return encode(tiles)

        monkeypatch.setattr(member, "encode", counted)
    return members


@pytest.fixture
def region():
    pixels = np.random.default_rng(0).integers(60, 220, (640, 640, 3), np.uint8)
    return open_region(ArrayReader(pixels, name="noise", pixel_size_um=0.5), region=None, pixel_size_um=0.5)


@pytest.mark.parametrize("method", ["projection", "learned", "nearest"])
@pytest.mark.parametrize("shared", [False, True])
def test_members_get_batches_in_turn_and_the_result_is_that_of_one(members, region, method, shared):
    settings = SegmentSettings(method=method, n_concepts=8, tile_px=128, whole_region=True)
    dictionary = None if method == "learned" else find_dictionary(encoder="default", name=None, k=8)
    alone = segment(region, encoder=load_encoder("default", device="cpu"), dictionary=dictionary, settings=settings)
    team = EncoderTeam(members)
    if shared:
        team = SharedEncoder(team, DeviceQueue(on_fault=lambda: None), cancelled=never_cancelled)
    together = segment(region, encoder=team, dictionary=dictionary, settings=settings)
    np.testing.assert_array_equal(together.label_map.labels, alone.label_map.labels)
    assert [member.batches for member in members] == [13, 12]


def test_a_batch_that_one_member_has_no_memory_for_is_smaller_for_all(members):
    team = EncoderTeam(members)
    members[1].batch_tiles = 1
    members[0].batch_tiles = 4
    team.in_turn()
    assert team.batch_tiles == 1


@pytest.mark.parametrize("device", ["cpu,cpu", "cpu,"])
def test_several_devices_must_be_different_gpus(device):
    with pytest.raises(EncoderError):
        choose_devices(device)


def test_all_gpus_of_a_computer_without_any_are_its_cpu(monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    monkeypatch.setattr("torch.cuda.device_count", lambda: 0)
    monkeypatch.setattr("torch.backends.mps.is_available", lambda: False)
    assert [str(device) for device in choose_devices("all")] == ["cpu"]


def test_all_gpus_are_one_after_another(monkeypatch):
    monkeypatch.setattr("torch.cuda.device_count", lambda: 3)
    assert [str(device) for device in choose_devices("all")] == ["cuda:0", "cuda:1", "cuda:2"]

import numpy as np
import pytest

from conceptseg.encoders.load import load_encoder
from conceptseg.factorization.library import find_dictionary
from conceptseg.imaging.array_reader import ArrayReader
from conceptseg.imaging.source import open_region


@pytest.fixture(scope="session")
def colon():
    """Real tissue from the scikit-image wheel: uint8 (512, 512, 3)."""
    from skimage.data import immunohistochemistry

    return immunohistochemistry()


@pytest.fixture(scope="session")
def encoder():
    return load_encoder("default", device="cpu")


@pytest.fixture(scope="session")
def dictionary():
    return find_dictionary(encoder="default", name=None, k=16)


@pytest.fixture
def region_of():
    """A function that makes a region source of pixels at 0.5 µm/px."""

    def make(pixels, region=None, pixel_size_um=0.5):
        reader = ArrayReader(np.ascontiguousarray(pixels), name="pixels", pixel_size_um=pixel_size_um)
        return open_region(reader, region=region, pixel_size_um=0.5)

    return make

"""The projection of real features is the optimum, on every image of the development data."""

import numpy as np
import pytest
import torch
from scipy.optimize import nnls

from conceptseg.encoders.load import load_encoder
from conceptseg.factorization.library import find_dictionary
from conceptseg.factorization.nnls import NonNegativeProjector
from conceptseg.imaging.reader import open_image
from conceptseg.imaging.source import open_region
from conceptseg.pipeline.sampling import sample_tokens

PIXEL_SIZES_UM = {"camelyon16_512": 0.5, "ocdc_640": 0.5, "bcss_tumor_large": 0.25}
TOKENS_PER_IMAGE = 40


@pytest.mark.shared
@pytest.mark.parametrize("name", PIXEL_SIZES_UM)
@pytest.mark.parametrize("encoder", ["default", "efficientnet-lite0"])
def test_the_projection_is_exact_on_every_development_image(name, encoder, shared_data):
    concepts = find_dictionary(encoder=encoder, name=None, k=16).concepts
    loaded = load_encoder(encoder, device="cpu")
    for file in sorted((shared_data / "segmentation" / name / "images").iterdir()):
        with open_image(file) as reader:
            source = open_region(reader, region=None, pixel_size_um=0.5, image_pixel_size_um=PIXEL_SIZES_UM[name])
            tokens = sample_tokens(source, encoder=loaded, seed=0, at_most=TOKENS_PER_IMAGE)
        ours = NonNegativeProjector(concepts).project(torch.from_numpy(tokens))
        exact = [nnls(concepts.T.astype(float), token.astype(float)) for token in tokens]
        assert ours.residual == pytest.approx(sum(norm**2 for _, norm in exact), rel=1e-6), file.name
        labels = np.array([solution.argmax() for solution, _ in exact])
        np.testing.assert_array_equal(ours.activations.argmax(axis=1), labels, err_msg=file.name)

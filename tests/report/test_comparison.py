"""The page of pictures: image, truth, and what methods made of it."""

import numpy as np

from conceptseg.report.comparison import ComparedImage, draw_comparison


def row(height, width, title="a.png: default 90 % of pixels"):
    rgb = np.full((height, width, 3), 200, np.uint8)
    truth = np.zeros((height, width), np.uint16)
    truth[:, width // 2 :] = 1
    return ComparedImage(title=title, rgb=rgb, classes=[truth, 1 - truth])


def test_every_class_has_one_colour_in_all_columns():
    page = draw_comparison([row(256, 256)], columns=["truth", "default"], n_classes=2)
    y = page.shape[0] // 2
    image, truth, default = (8 + 264 * n for n in range(3))
    assert page[y, image + 10].tolist() == [200, 200, 200]
    assert (page[y, truth + 10] == page[y, default + 250]).all()
    assert (page[y, truth + 250] == page[y, default + 10]).all()
    assert (page[y, truth + 10] != page[y, truth + 250]).any()


def test_flat_images_take_no_more_room_than_they_need():
    tall, flat = (draw_comparison([row(h, 512)] * 3, columns=["truth", "b"], n_classes=2) for h in (512, 256))
    assert tall.shape[0] - flat.shape[0] == 3 * 128


def test_long_names_stay_in_their_column():
    columns = ["truth", "reference@" + "a-very-long-dictionary-name" * 4]
    page = draw_comparison([row(64, 64, title="x" * 1000)], columns=columns, n_classes=2)
    assert page.shape[1] == 3 * 264 + 8
    assert (page[:, -8:] == 255).all()

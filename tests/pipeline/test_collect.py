"""Tokens of many images: even, resumable, and clear about what cannot be used."""

from contextlib import contextmanager

import numpy as np
import pytest

from conceptseg.domain.errors import ImageError, InvalidRequestError
from conceptseg.pipeline.collect import ImageToRead, collect_tokens
from conceptseg.pipeline.token_store import TokenStore


@pytest.fixture
def images(region_of, colon):
    """A function that makes images of parts of a picture, and records which are encoded."""
    read = []

    class Watched:
        def __init__(self, name, source):
            self.name, self.grid, self._source = name, source.grid, source

        def read(self, **window):
            if not read or read[-1] != self.name:
                read.append(self.name)
            return self._source.read(**window)

        def overview(self):
            return None

        def forget(self, *, before_row):
            pass

    def make(*names, size="1"):
        def image(name):
            at = 64 * (ord(name[0]) - ord("a"))

            @contextmanager
            def opened():
                if "missing" in name:
                    raise ImageError(f"There is no file {name}.")
                pixels = colon[at : at + 128, :160]
                yield Watched(name, region_of(np.full_like(pixels, 242) if "glass" in name else pixels))

            return ImageToRead(name=name, identity={"path": f"/{name}", "size": size}, open=opened)

        return [image(name) for name in names]

    make.read = read
    return make


@pytest.fixture
def store(tmp_path, encoder):
    """A function that opens the same work folder again."""
    return lambda **settings: TokenStore(
        tmp_path / "work", settings={"seed": "0", **settings}, channels=encoder.spec.channels
    )


def test_on_disk_and_in_memory_the_tokens_are_the_same(images, store, encoder):
    some = images("a", "b", "c glass", "d")
    options = {"encoder": encoder, "tokens_per_image": 30, "max_tokens": 75}
    here, there = collect_tokens(some, **options), collect_tokens(some, **options, store=store())
    assert here.counts == there.counts == (25, 25, 0, 25)
    np.testing.assert_array_equal(here.tokens, there.tokens)
    assert isinstance(there.tokens, np.memmap)


def test_a_sample_does_not_depend_on_the_other_images(images, encoder):
    together = collect_tokens(images("a", "b"), encoder=encoder, tokens_per_image=20)
    alone = collect_tokens(images("b"), encoder=encoder, tokens_per_image=20)
    np.testing.assert_array_equal(together.tokens[20:], alone.tokens)


class TestAWorkFolder:
    def test_keeps_images_from_being_read_again_after_a_kill(self, images, store, encoder):
        whole = collect_tokens(images("a", "b", "c"), encoder=encoder).tokens

        def killed(progress):
            if (progress.stage, progress.done) == ("encode", 2):
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            collect_tokens(images("a", "b", "c"), encoder=encoder, store=store(), progress=killed)
        images.read.clear()
        resumed = collect_tokens(images("a", "b", "c"), encoder=encoder, store=store())
        assert (images.read, resumed.reused) == (["c"], 2)
        np.testing.assert_array_equal(resumed.tokens, whole)

    def test_reads_only_what_is_new_or_changed(self, images, store, encoder):
        collect_tokens(images("a", "b"), encoder=encoder, store=store())
        images.read.clear()
        collect_tokens([*images("a"), *images("b", size="2"), *images("d")], encoder=encoder, store=store())
        assert images.read == ["b", "d"]

    def test_serves_smaller_samples_and_reads_again_for_larger_ones(self, images, store, encoder):
        collect_tokens(images("a"), encoder=encoder, store=store(), tokens_per_image=30)
        images.read.clear()
        fewer = collect_tokens(images("a"), encoder=encoder, store=store(), tokens_per_image=10)
        assert (images.read, len(fewer.tokens)) == ([], 10)
        more = collect_tokens(images("a"), encoder=encoder, store=store(), tokens_per_image=40)
        assert (images.read, len(more.tokens)) == (["a"], 40)
        images.read.clear()
        everything = collect_tokens(images("a"), encoder=encoder, store=store(), tokens_per_image=10**6)
        again = collect_tokens(images("a"), encoder=encoder, store=store(), tokens_per_image=2 * 10**6)
        assert (images.read, len(everything.tokens)) == (["a"], len(again.tokens))

    def test_of_other_settings_is_refused_and_says_which(self, store):
        store()
        with pytest.raises(InvalidRequestError, match=r"seed was 0, is 1 now.*--work"):
            store(seed="1")

    def test_that_is_something_else_is_refused(self, store, tmp_path):
        (tmp_path / "work").mkdir()
        (tmp_path / "work" / "thesis.doc").write_text("mine")
        with pytest.raises(InvalidRequestError, match=r"thesis\.doc"):
            store()

    def test_with_a_damaged_sample_reads_that_image_again(self, images, store, encoder, tmp_path):
        first = collect_tokens(images("a", "b"), encoder=encoder, store=store())
        damaged = min((tmp_path / "work" / "samples").iterdir())
        damaged.write_bytes(damaged.read_bytes()[:1000])
        images.read.clear()
        again = collect_tokens(images("a", "b"), encoder=encoder, store=store())
        assert len(images.read) == 1
        np.testing.assert_array_equal(first.tokens, again.tokens)


class TestImagesThatCannotBeUsed:
    def test_are_all_named_before_anything_is_encoded(self, images, encoder):
        with pytest.raises(InvalidRequestError, match=r"2 of 3 .*missing-1.*missing-2.*--skip-bad"):
            collect_tokens(images("a", "b missing-1", "c missing-2"), encoder=encoder)
        assert not images.read

    def test_are_left_out_if_asked(self, images, encoder):
        found = collect_tokens(images("a", "b missing"), encoder=encoder, skip_bad=True, max_tokens=40)
        assert (found.names, found.counts) == (("a",), (40,))
        assert found.left_out == (("b missing", "There is no file b missing."),)

    def test_cannot_be_all_there_is(self, images, encoder):
        with pytest.raises(InvalidRequestError, match="No image is left"):
            collect_tokens(images("b missing"), encoder=encoder, skip_bad=True)

"""Changes of images: nothing at strength 0, images in and images out, and what each one does."""

import colorsys
import inspect
import math

import numpy as np
import pytest
import torch

from skgenad import MPDR
from skgenad._tensors.augmentation import (
    AUGMENTATIONS,
    augmented,
    cropped,
    flipped,
    greyed,
    greyscale,
    jittered,
    shifted,
    turned_hue,
)
from skgenad.energies import Chain, Manifold, Reconstruction, Replay
from skgenad.energies._langevin import Langevin
from skgenad.networks import Conv

pytestmark = pytest.mark.usefixtures("drawing")


def images(n=40, c=3, h=9, w=11):
    return torch.rand(n, c, h, w, dtype=torch.float64)


@pytest.mark.parametrize("change", AUGMENTATIONS.values())
@pytest.mark.parametrize("channels", [1, 3])
def test_images_go_in_and_come_out(change, channels):
    x = images(c=channels)
    before = x.clone()
    y = change(x, probability=1.0)
    assert y.shape == x.shape and y.dtype == x.dtype
    assert y.min() >= 0 and y.max() <= 1
    assert torch.equal(x, before)


# A shift may be by nothing.
@pytest.mark.parametrize("change", [AUGMENTATIONS[n] for n in AUGMENTATIONS if n != "shift"])
def test_probability_is_the_share_of_images_that_change(change):
    x = images(2000, 3, 4, 4)
    assert torch.equal(change(x, probability=0.0), x)
    share = (change(x, probability=0.3) != x).flatten(1).any(dim=1).double().mean().item()
    assert share == pytest.approx(0.3, abs=4 * math.sqrt(0.21 / 2000))


def test_settings_are_those_of_mpdrs_paper():
    """Appendix B.3.2; the strengths of the jitter are SimCLR's."""
    settings = {
        change: {k: v.default for k, v in inspect.signature(change).parameters.items() if k != "x"}
        for change in (flipped, cropped, jittered, greyed)
    }
    strengths = {"brightness": 0.8, "contrast": 0.8, "saturation": 0.8, "hue": 0.4}
    assert settings[flipped] == {"probability": 0.5}
    assert settings[cropped] == {"probability": 0.2, "scale": (0.08, 1), "ratios": (3 / 4, 4 / 3)}
    assert settings[jittered] == {"probability": 0.2, **strengths}
    assert settings[greyed] == {"probability": 0.2}


def test_no_strength_is_no_change():
    x = images(h=9, w=11)
    crop = cropped(x, 1.0, scale=(1.0, 1.0), ratios=(11 / 9, 11 / 9))  # the image's own
    torch.testing.assert_close(crop, x)
    torch.testing.assert_close(jittered(x, 1.0, 0.0, 0.0, 0.0, 0.0), x)


def test_shifts_move_whole_images_and_bring_in_zeros():
    x = 0.5 + images(400, 3, 20, 30) / 2
    y = shifted(x)
    moves = set()
    for before, after in zip(x, y, strict=True):
        inside = (after > 0).all(dim=0)
        rows, columns = inside.any(dim=1).nonzero()[:, 0], inside.any(dim=0).nonzero()[:, 0]
        height, width = len(rows), len(columns)
        assert inside.sum() == height * width  # a rectangle
        # What is there now was there, somewhere in the corner on the other side.
        top, left = int(rows[0]), int(columns[0])
        from_top, from_left = 0 if top else 20 - height, 0 if left else 30 - width
        kept = before[:, from_top : from_top + height, from_left : from_left + width]
        assert torch.equal(after[:, top : top + height, left : left + width], kept)
        moves.add((top - from_top, left - from_left))
    down, right = zip(*moves, strict=True)
    assert set(down) == set(range(-2, 3)) and set(right) == set(range(-3, 4))
    assert len(moves) == 35
    half = shifted(x, probability=0.5)
    assert 0.3 < (half == x).flatten(1).all(dim=1).double().mean() < 0.7
    assert torch.equal(shifted(x, probability=0.0), x)


def test_flips_are_involutions():
    x = images()
    once = flipped(x, 1.0)
    assert torch.equal(once[..., 0], x[..., -1]) and not torch.equal(once, x)
    assert torch.equal(flipped(once, 1.0), x)


def test_a_crop_is_a_rectangle_of_the_image():
    """Of an image of its own coordinates: linear, monotonous, as wide as the scale says."""
    h = w = 40
    axis = (torch.arange(w, dtype=torch.float64) + 0.5) / w
    x = torch.stack([axis.expand(h, w), axis[:, None].expand(h, w)])[None].expand(200, 2, h, w)
    crop = cropped(x, 1.0, scale=(0.25, 0.25), ratios=(1.0, 1.0))
    inside = crop[:, :, 1:-1, 1:-1]
    step = inside[:, 0].diff(dim=2), inside[:, 1].diff(dim=1)
    for part in step:
        torch.testing.assert_close(part, torch.full_like(part, 0.5 / w))
    assert inside[:, 0].amax() > 0.9 and inside[:, 0].amin() < 0.1
    both = cropped(x, 1.0)
    assert both[:, 0].diff(dim=2).min() >= -1e-12


def test_a_crop_keeps_its_ratio_in_pixels_whatever_the_form_of_the_image():
    """Of an image of its own coordinates in pixels: steps along both axes are alike."""
    h, w = 20, 60
    down, along = torch.meshgrid(torch.arange(h) + 0.5, torch.arange(w) + 0.5, indexing="ij")
    x = torch.stack([along / w, down / h])[None].expand(50, 2, h, w).double()
    crop = cropped(x, 1.0, scale=(0.1, 0.1), ratios=(1.0, 1.0))[:, :, 1:-1, 1:-1]
    width = crop[:, 0].diff(dim=2).mean(dim=(1, 2)) * w * w  # in pixels, of a crop
    height = crop[:, 1].diff(dim=1).mean(dim=(1, 2)) * h * h
    torch.testing.assert_close(width, height, rtol=1e-4, atol=0)
    torch.testing.assert_close(
        width * height, torch.full_like(width, 0.1 * h * w), rtol=1e-4, atol=0
    )


def test_grey_images_have_the_luminance_in_all_channels():
    x = images()
    y = greyed(x, 1.0)
    expected = 0.299 * x[:, 0] + 0.587 * x[:, 1] + 0.114 * x[:, 2]
    for channel in range(3):
        torch.testing.assert_close(y[:, channel], expected)
    torch.testing.assert_close(greyed(y, 1.0), y)
    torch.testing.assert_close(greyscale(images(c=1)).shape, torch.Size([40, 1, 9, 11]))


def test_turned_hues_are_those_of_colorsys():
    x = images(6, 3, 3, 3)
    x[0, :, 0, 0] = 0.4  # a grey pixel has no hue
    turns = torch.linspace(-1, 1, 6, dtype=torch.float64)
    y = turned_hue(x, turns.view(-1, 1, 1, 1))
    for image, turned, turn in zip(x, y, turns, strict=True):
        for pixel, result in zip(image.flatten(1).T, turned.flatten(1).T, strict=True):
            hue, saturation, value = colorsys.rgb_to_hsv(*pixel.tolist())
            expected = colorsys.hsv_to_rgb((hue + turn.item()) % 1, saturation, value)
            np.testing.assert_allclose(result.numpy(), expected, atol=1e-12)
    torch.testing.assert_close(turned_hue(x, torch.ones(6, 1, 1, 1, dtype=torch.float64)), x)


def test_jitter_of_one_kind_is_that_kind():
    x = images(n=200)
    brighter = jittered(x, 1.0, 0.5, 0.0, 0.0, 0.0)
    spread, unclipped = (brighter / x).flatten(1), (brighter < 1).flatten(1)
    factors = spread.masked_fill(~unclipped, math.nan).nanmean(dim=1, keepdim=True)
    assert ((spread - factors).abs()[unclipped] < 1e-9).all()
    assert 0.5 <= factors.min() < 0.6 and 1.4 < factors.max() <= 1.5
    paler = jittered(x, 1.0, 0.0, 0.0, 0.5, 0.0)
    inside = ((paler > 0) & (paler < 1)).all(dim=1)
    gap = (greyscale(paler) - greyscale(x)).abs()[:, 0]
    assert gap[inside].max() < 1e-9


# ---- in the chains of MPDR --------------------------------------------------------------------

TINY = {
    "image_shape": (1, 8, 8),
    "network": Conv(width=1 / 16),
    "manifold": Manifold(3, steps=3),
    "energy": Reconstruction(latent_dim=3),
    "max_steps": 3,
    "batch_size": 8,
    "random_state": 0,
    "device": "cpu",
}


def pixels(n=30, shape=(1, 8, 8)):
    return np.random.RandomState(0).rand(n, *shape).astype(np.float32)


def test_images_are_changed_half_way_through_the_visible_chain(monkeypatch):
    lengths, seen = [], []
    run = Langevin.run

    def spy(self, energy_and_grad, x, *args):
        if not self.sphere:
            lengths.append(self.n_steps)
        return run(self, energy_and_grad, x, *args)

    def change(x):
        seen.append(tuple(x.shape))
        lengths.append("change")
        return 1 - x

    monkeypatch.setattr(Langevin, "run", spy)
    MPDR(**{**TINY, "max_steps": 1}, visible_chain=Chain(5), augmentation=change).fit(pixels())
    assert lengths == [2, "change", 3] and seen == [(8, 1, 8, 8)]


def test_augmentation_changes_what_is_learned_and_no_row_leaves_the_range():
    X = pixels(shape=(3, 8, 8))
    scores = {}
    for spec in (None, "flip", "crop", "jitter", "grey", ("flip", "crop", "jitter", "grey")):
        settings = {**TINY, "image_shape": (3, 8, 8), "max_steps": 8, "learning_rate": 1e-2}
        detector = MPDR(**settings, replay=Replay(20), augmentation=spec).fit(X)
        assert 0 <= detector.negatives_.min() and detector.negatives_.max() <= 1
        scores[spec] = tuple(detector.score_samples(X))
    assert len(set(scores.values())) == 6


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"augmentation": "blur"}, "augmentation.*'blur'"),
        ({"augmentation": ("flip", "blur")}, "must be a callable or one or more of flip, shift"),
        ({"augmentation": ()}, "must be a callable or one or more of"),
        ({"augmentation": "grey"}, r"'grey' takes the colour .*=\(1, 8, 8\) has 1 ch"),
        ({"augmentation": "flip", "visible_chain": Chain(gamma=0.1)}, "with gamma=0.1"),
        ({"augmentation": lambda x: x[:, :, 1:]}, r"made an array of \(8, 1, 7, 8\)"),
    ],
)
def test_augmentations_that_cannot_be_are_refused(parameters, message):
    with pytest.raises(ValueError, match=message):
        MPDR(**{**TINY, **parameters}).fit(pixels())


def test_augmentation_is_for_images():
    with pytest.raises(ValueError, match="changes images: give image_shape"):
        MPDR(augmentation="flip").fit(pixels().reshape(30, -1))


def test_a_callable_may_leave_the_range_and_is_brought_back():
    rows = torch.rand(4, 12)
    out = augmented(rows, lambda x: 3 * x - 1, (3, 2, 2))
    torch.testing.assert_close(out, (3 * rows - 1).clamp(0, 1))

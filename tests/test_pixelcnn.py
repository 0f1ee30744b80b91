"""PixelCNN: who sees whom, densities that integrate to 1, draws that follow them."""

import numpy as np
import pytest
import torch

from skgenad import PixelCNN
from skgenad.likelihoods._autoregression import ColumnNet, ImageNet, column_model, image_model
from skgenad.likelihoods._logistics import n_parameters

from ._settings import normal_rows, tiny

pytestmark = pytest.mark.usefixtures("drawing")

# ---- what a place sees --------------------------------------------------------------------------


def seen(net, shape):
    """Which places (H * W) of the input the numbers at each place depend on, (H * W, H * W)."""
    x = torch.randn(1, *shape, dtype=torch.float64, requires_grad=True)
    out = net.double()(x)
    assert out.shape[2:] == shape[1:]
    rows = []
    for place in range(shape[1] * shape[2]):
        (gradient,) = torch.autograd.grad(out.flatten(2)[0, :, place].sum(), x, retain_graph=True)
        rows.append(gradient[0].abs().sum(dim=0).flatten() > 0)
    return torch.stack(rows)


@pytest.mark.parametrize(
    ("shape", "n_scales"),
    [
        ((1, 5, 6), 1),
        ((3, 8, 8), 2),
        ((1, 8, 8), 3),
        ((2, 4, 12), 3),
        ((1, 1, 9), 1),
        ((1, 7, 1), 1),
    ],
)
def test_no_pixel_sees_itself_or_a_later_one(shape, n_scales):
    net = ImageNet(shape[0], 3, width=4, n_blocks=1, n_scales=n_scales, dropout=0.0)
    sees = seen(net, shape)
    assert not sees.triu().any()
    earlier = torch.ones_like(sees).tril(-1)
    # And it is not blind: it sees the pixel before it, if that is in its row, and most of all.
    beside = torch.arange(1, len(sees))
    beside = beside[beside % shape[2] != 0]
    assert sees[beside, beside - 1].all()
    assert sees[earlier].float().mean() > (0.9 if n_scales > 1 else 0.5)


@pytest.mark.parametrize("n_blocks", [1, 3])
@pytest.mark.parametrize("n_columns", [1, 2, 7, 20])
def test_a_column_sees_all_columns_before_it_and_no_other(n_columns, n_blocks):
    net = ColumnNet(n_columns, 3, width=4, n_blocks=n_blocks, dropout=0.0)
    sees = seen(net, (1, 1, n_columns))
    assert torch.equal(sees, torch.ones_like(sees).tril(-1))


@pytest.mark.parametrize("n_columns", [1, 2, 7])
def test_every_block_of_a_table_counts(n_columns):
    sizes = [
        len(ColumnNet(n_columns, 3, width=4, n_blocks=n, dropout=0.0).blocks) for n in (1, 2, 3)
    ]
    least = {1: 1, 2: 1, 7: 3}[n_columns]
    assert sizes == [least, least + 1, least + 2]


def test_the_test_of_what_is_seen_can_fail():
    net = torch.nn.Conv2d(1, 3, 3, padding=1)
    assert seen(net, (1, 5, 6)).triu().any()


def models():
    return {
        "grey": image_model(
            (1, 4, 4), width=4, n_blocks=1, n_scales=2, n_components=3, dropout=0.0
        ),
        "colour": image_model(
            (3, 4, 4), width=4, n_blocks=2, n_scales=1, n_components=2, dropout=0.0
        ),
        "columns": column_model(5, width=4, n_blocks=1, n_components=3, dropout=0.0),
        "one column": column_model(1, width=4, n_blocks=1, n_components=3, dropout=0.0),
    }


@pytest.mark.parametrize("name", models())
def test_every_parameter_gets_a_gradient(name):
    model = models()[name]
    x = torch.rand(8, int(np.prod(model.shape)))
    model.log_prob(x).sum().backward()
    without = [n for n, p in model.named_parameters() if p.grad is None or not p.grad.any()]
    # A row's first column has nothing before it: with one column no input is ever used.
    assert without == (["net.first.weight", "net.first.bias"] if name == "one column" else [])


def test_dropout_is_for_training():
    model = image_model((1, 4, 4), width=8, n_blocks=1, n_scales=1, n_components=3, dropout=0.5)
    x = torch.rand(4, 16)
    assert not torch.equal(model.log_prob(x), model.log_prob(x))
    model.eval()
    assert torch.equal(model.log_prob(x), model.log_prob(x))


def test_the_papers_numbers_for_a_pixel():
    assert n_parameters(10, 3) == 100 and n_parameters(10, 1) == 30


# ---- densities ----------------------------------------------------------------------------------


def test_the_probabilities_of_all_images_of_two_pixels_sum_to_1():
    torch.manual_seed(0)
    model = image_model(
        (1, 2, 1), width=4, n_blocks=1, n_scales=1, n_components=2, dropout=0.0, n_levels=32
    ).eval()
    level = torch.arange(32) / 31
    with torch.no_grad():
        total = model.log_prob(torch.cartesian_prod(level, level)).exp().sum()
    assert total.item() == pytest.approx(1, abs=1e-5)


def test_pixels_between_levels_count_as_the_nearest():
    model = image_model(
        (1, 4, 4), width=4, n_blocks=1, n_scales=1, n_components=2, dropout=0.0
    ).eval()
    levels = torch.randint(0, 256, (5, 16)).float()
    near = levels + 0.8 * torch.rand(5, 16) - 0.4
    with torch.no_grad():
        torch.testing.assert_close(model.log_prob(near / 255), model.log_prob(levels / 255))


@pytest.mark.parametrize("n_columns", [1, 2])
def test_the_density_of_columns_integrates_to_1(n_columns):
    torch.manual_seed(1)
    model = column_model(n_columns, width=4, n_blocks=2, n_components=3, dropout=0.0).eval()
    torch.nn.init.normal_(model.net.last.weight, std=0.3)
    grid = torch.linspace(-15, 15, 151)
    x = torch.cartesian_prod(*[grid] * n_columns).view(-1, n_columns)
    with torch.no_grad():
        density = model.log_prob(x).exp()
    assert (density.sum() * (grid[1] - grid[0]) ** n_columns).item() == pytest.approx(1, abs=0.01)


# ---- draws --------------------------------------------------------------------------------------


def test_drawn_images_follow_the_probabilities():
    torch.manual_seed(3)
    model = image_model(
        (1, 1, 2), width=4, n_blocks=1, n_scales=1, n_components=2, dropout=0.0, n_levels=16
    ).eval()
    torch.nn.init.normal_(model.net.last.weight, std=0.5)
    with torch.no_grad():
        drawn = model.sample(2000)
        level = torch.arange(16) / 15
        pairs = torch.cartesian_prod(level, level)
        mass = model.log_prob(pairs).exp()
    assert torch.equal((drawn * 15).round() / 15, drawn) and drawn.shape == (2000, 2)
    for moment in (
        lambda x: x[:, 0],
        lambda x: x[:, 1],
        lambda x: x[:, 0] * x[:, 1],
        lambda x: (x[:, 1] > 0.5).float(),
    ):
        values = moment(drawn)
        error = values.std() / len(values) ** 0.5
        assert abs(values.mean() - (mass * moment(pairs)).sum()) < 4 * error


def test_drawn_columns_depend_on_the_columns_before():
    torch.manual_seed(4)
    model = column_model(2, width=4, n_blocks=2, n_components=3, dropout=0.0).eval()
    torch.nn.init.normal_(model.net.last.weight, std=0.3)
    with torch.no_grad():
        drawn = model.sample(2000)
        grid = torch.linspace(-12, 12, 121)
        pairs = torch.cartesian_prod(grid, grid)
        mass = model.log_prob(pairs).exp() / 25
    for moment in (lambda x: (x[:, 0] > x[:, 1]).float(), lambda x: x.tanh().prod(dim=1)):
        values = moment(drawn)
        error = values.std() / len(values) ** 0.5
        assert abs(values.mean() - (mass * moment(pairs)).sum()) < 4 * error


# ---- the detector -------------------------------------------------------------------------------


def on_images(shape=(1, 4, 4), **parameters):
    return tiny("PixelCNN", **{"image_shape": shape, "max_steps": 20, **parameters})


def bits(n=60, shape=(1, 4, 4), seed=0):
    """Images of two levels, each pixel at random."""
    return 255 * np.random.RandomState(seed).randint(0, 2, (n, *shape)).astype(np.uint8)


def test_images_have_log_probabilities_spread_over_255ths():
    X = bits()
    detector = on_images().fit(X)
    rows = torch.from_numpy(X.reshape(60, -1) / 255).float()
    with torch.no_grad():
        log_probability = detector.module_.model.log_prob(rows)
    expected = log_probability.numpy() + 16 * np.log(255)
    np.testing.assert_allclose(detector.log_density(X), expected, rtol=1e-6)
    np.testing.assert_allclose(detector.score_samples(X), expected, rtol=1e-6)


def test_training_lowers_the_bits_of_an_image():
    X = bits(100)
    few, many = (on_images(max_steps=n, hidden=8, n_scales=1).fit(X) for n in (1, 80))
    bits_of = [np.log2(255) - d.log_density(X).mean() / (16 * np.log(2)) for d in (few, many)]
    # Two levels at random cannot take less than a bit.
    assert bits_of[0] > 3 and 0.9 < bits_of[1] < 2


def test_tables_have_densities_in_their_own_units():
    X = normal_rows(100)
    unit = np.array([1e-3, 10, 7, 1])
    one, two = tiny("PixelCNN").fit(X), tiny("PixelCNN").fit(X * unit)
    np.testing.assert_allclose(
        two.log_density(X * unit), one.log_density(X) - np.log(unit).sum(), rtol=1e-3, atol=1e-3
    )
    drawn = one.sample(200, random_state=0)
    assert drawn.shape == (200, 4)
    assert (np.abs(np.median(drawn, axis=0) - X.mean(axis=0)) < 2 * X.std(axis=0)).all()


def test_scales_are_as_many_as_the_size_allows():
    sizes = {(1, 8, 8): 3, (1, 28, 28): 3, (1, 6, 4): 2, (3, 5, 8): 1}
    for shape, n_scales in sizes.items():
        module = PixelCNN(image_shape=shape, hidden=2)._make_module(int(np.prod(shape)))
        assert len(module.model.net.there) == n_scales
    message = r"multiples of 4; image_shape=\(1, 6, 4\) has 6 x 4. .* lower n_scales to 2"
    with pytest.raises(ValueError, match=message):
        on_images((1, 6, 4), n_scales=3).fit(bits(shape=(1, 6, 4)))
    with pytest.raises(ValueError, match="n_scales=2 is for images"):
        tiny("PixelCNN", n_scales=2).fit(normal_rows())


def test_the_papers_settings():
    detector = PixelCNN.from_paper()
    assert detector.max_steps == 120 * 50_000 // 64
    assert (detector.hidden, detector.n_blocks, detector.n_components) == (120, 5, 10)
    assert PixelCNN.from_paper("svhn", max_steps=7, hidden=3).get_params()["hidden"] == 3
    with pytest.raises(ValueError, match="experiment='lsun' is none of those here: cifar10"):
        PixelCNN.from_paper("lsun")
    net = detector._make_module(3072).model.net
    assert net.last.out_channels == 100 and len(net.there) == 3
    assert sum(p.numel() for p in net.parameters()) > 10**7

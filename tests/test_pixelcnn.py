"""PixelCNN: who sees whom, densities that integrate to 1, draws that follow them."""

import numpy as np
import pytest
import torch

from skgenad._logistics import n_parameters
from skgenad._pixelcnn import ColumnNet, ImageNet, column_model, image_model

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


@pytest.mark.parametrize("n_columns", [1, 2, 7, 20])
def test_a_column_sees_all_columns_before_it_and_no_other(n_columns):
    net = ColumnNet(n_columns, 3, width=4, n_blocks=1, dropout=0.0)
    sees = seen(net, (1, 1, n_columns))
    assert torch.equal(sees, torch.ones_like(sees).tril(-1))


def test_the_test_of_what_is_seen_can_fail():
    net = torch.nn.Conv2d(1, 3, 3, padding=1)
    assert seen(net, (1, 5, 6)).triu().any()


def models():
    return {
        "grey": image_model((1, 4, 4), 4, 1, 2, 3, 0.0),
        "colour": image_model((3, 4, 4), 4, 2, 1, 2, 0.0),
        "columns": column_model(5, 4, 1, 3, 0.0),
        "one column": column_model(1, 4, 1, 3, 0.0),
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
    model = image_model((1, 4, 4), 8, 1, 1, 3, 0.5)
    x = torch.rand(4, 16)
    assert not torch.equal(model.log_prob(x), model.log_prob(x))
    model.eval()
    assert torch.equal(model.log_prob(x), model.log_prob(x))


def test_the_papers_numbers_for_a_pixel():
    assert n_parameters(10, 3) == 100 and n_parameters(10, 1) == 30


# ---- densities ----------------------------------------------------------------------------------


def test_the_probabilities_of_all_images_of_two_pixels_sum_to_1():
    torch.manual_seed(0)
    model = image_model((1, 2, 1), 4, 1, 1, 2, 0.0, n_levels=32).eval()
    level = torch.arange(32) / 31
    with torch.no_grad():
        total = model.log_prob(torch.cartesian_prod(level, level)).exp().sum()
    assert total.item() == pytest.approx(1, abs=1e-5)


def test_pixels_between_levels_count_as_the_nearest():
    model = image_model((1, 4, 4), 4, 1, 1, 2, 0.0).eval()
    levels = torch.randint(0, 256, (5, 16)).float()
    near = levels + 0.8 * torch.rand(5, 16) - 0.4
    with torch.no_grad():
        torch.testing.assert_close(model.log_prob(near / 255), model.log_prob(levels / 255))


@pytest.mark.parametrize("n_columns", [1, 2])
def test_the_density_of_columns_integrates_to_1(n_columns):
    torch.manual_seed(1)
    model = column_model(n_columns, 4, 2, 3, 0.0).eval()
    torch.nn.init.normal_(model.net.last.weight, std=0.3)
    grid = torch.linspace(-15, 15, 151)
    x = torch.cartesian_prod(*[grid] * n_columns).view(-1, n_columns)
    with torch.no_grad():
        density = model.log_prob(x).exp()
    assert (density.sum() * (grid[1] - grid[0]) ** n_columns).item() == pytest.approx(1, abs=0.01)


# ---- draws --------------------------------------------------------------------------------------


def test_drawn_images_follow_the_probabilities():
    torch.manual_seed(3)
    model = image_model((1, 1, 2), 4, 1, 1, 2, 0.0, n_levels=16).eval()
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
    model = column_model(2, 4, 2, 3, 0.0).eval()
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

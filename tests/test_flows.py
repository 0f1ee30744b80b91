"""Flows: every layer and whole flows are inverted, keep count of volume, and are trained."""

import math
import pickle

import numpy as np
import pytest
import torch
from torch.autograd.functional import jacobian

from skgenad.likelihoods._couplings import Elementwise, conv_coupling, dense_coupling
from skgenad.likelihoods._flow_layers import (
    ActNorm,
    Chain,
    Flatten,
    InvertibleConv,
    NormalizedConv,
    NormalizedRotation,
    Squeeze,
    random_rotation,
)
from skgenad.likelihoods._flows import Flow, PatchFlow, Steps, conv_step, dense_step

pytestmark = pytest.mark.usefixtures("drawing")

IMAGE = (4, 2, 4)
# Name -> (makes the layer, shape of a row).
LAYERS = {
    "actnorm of columns": (lambda: ActNorm((5,)), (5,)),
    "actnorm of channels": (lambda: ActNorm((4, 1, 1)), IMAGE),
    "actnorm of all": (lambda: ActNorm(IMAGE), IMAGE),
    "1x1 convolution": (lambda: InvertibleConv(4), IMAGE),
    "normalised convolution": (lambda: NormalizedConv(4), IMAGE),
    "normalised rotation": (lambda: NormalizedRotation(5), (5,)),
    "squeeze": (lambda: Squeeze(), IMAGE),
    "flatten": (lambda: Flatten(IMAGE), IMAGE),
    "affine convolutional coupling": (lambda: conv_coupling(4, 6, True), IMAGE),
    "additive convolutional coupling": (lambda: conv_coupling(4, 6, False), IMAGE),
    "coupling of odd channels": (lambda: conv_coupling(3, 6, True), (3, 2, 2)),
    "affine dense coupling": (lambda: dense_coupling(5, 6, True), (5,)),
    "additive dense coupling": (lambda: dense_coupling(5, 6, False), (5,)),
    "normalising convolutional coupling": (lambda: conv_coupling(4, 6, True, norm=True), IMAGE),
    "normalising additive coupling": (lambda: conv_coupling(3, 6, False, norm=True), (3, 2, 2)),
    "normalising dense coupling": (lambda: dense_coupling(5, 6, True, norm=True), (5,)),
    "elementwise": (lambda: Elementwise(3, 4), (3,)),
    "convolutional step": (lambda: conv_step(4, 6, True), IMAGE),
    "dense step": (lambda: dense_step(5, 16, True), (5,)),
    "step of one column": (lambda: dense_step(1, 16, True), (1,)),
    "chain": (lambda: Chain([Squeeze(), NormalizedConv(16), conv_coupling(16, 4, True)]), IMAGE),
}


def patch_flow(n_scales=1, affine=True):
    steps = Steps(n=2, hidden=6, kind="conv", affine=affine)
    return PatchFlow((1, 4, 8), 4, steps, n_scales=n_scales)


# Name -> (makes the flow, length of a row).
FLOWS = {
    "one column": (lambda: Flow((1,), Steps(n=2, hidden=16)), 1),
    "two columns": (lambda: Flow((2,), Steps(n=2, hidden=8)), 2),
    "columns": (lambda: Flow((5,), Steps(n=3, hidden=8)), 5),
    "additive": (lambda: Flow((5,), Steps(n=3, hidden=8, affine=False)), 5),
    "one scale": (lambda: Flow((1, 2, 4), Steps(n=2, hidden=6, kind="conv")), 8),
    "two scales": (lambda: Flow((2, 4, 4), Steps(n=2, hidden=6, kind="conv"), n_scales=2), 32),
    "three scales": (lambda: Flow((1, 8, 8), Steps(n=2, hidden=6, kind="conv"), n_scales=3), 64),
    "dense scales": (lambda: Flow((1, 4, 8), Steps(n=2, hidden=6), n_scales=2), 32),
    "additive scales": (
        lambda: Flow((1, 4, 4), Steps(n=2, hidden=6, kind="conv", affine=False), n_scales=2),
        16,
    ),
    "columns, normalising": (lambda: Flow((5,), Steps(n=3, hidden=8, norm=True)), 5),
    "scales, normalising": (
        lambda: Flow((1, 4, 4), Steps(n=2, hidden=6, kind="conv", norm=True), n_scales=2),
        16,
    ),
    "additive scales, normalising": (
        lambda: Flow(
            (1, 4, 4), Steps(n=2, hidden=6, kind="conv", affine=False, norm=True), n_scales=2
        ),
        16,
    ),
    "modes of the last scale": (
        lambda: Flow((1, 4, 4), Steps(n=1, hidden=6, kind="conv"), n_scales=2, n_classes=3),
        16,
    ),
    "modes of all scales": (
        lambda: Flow(
            (1, 4, 4),
            Steps(n=1, hidden=6, kind="conv"),
            n_scales=2,
            n_classes=3,
            modes_of_all=True,
        ),
        16,
    ),
    "patches": (patch_flow, 32),
    "patches with scales": (lambda: patch_flow(2), 32),
}
every_layer = pytest.mark.parametrize("name", LAYERS)
every_flow = pytest.mark.parametrize("name", FLOWS)
TOLERANCES = {torch.float32: 1e-5, torch.float64: 1e-10}
every_dtype = pytest.mark.parametrize("dtype", TOLERANCES, ids=str)


@pytest.fixture(autouse=True)
def default_dtype(request):
    """Make modules and draws in the type that a test is parametrised with, else in float64."""
    callspec = getattr(request.node, "callspec", None)
    dtype = callspec.params.get("dtype", torch.float64) if callspec else torch.float64
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    yield
    torch.set_default_dtype(before)


def shaken(module, size=0.1):
    """Move all parameters: at the start couplings do nothing."""
    with torch.no_grad():
        for p in module.parameters():
            p.add_(size * torch.randn_like(p))
    return module


def made(name):
    """Return a layer, shaken, and some rows for it."""
    make, shape = LAYERS[name]
    return shaken(make()).eval(), 0.5 + 2 * torch.randn(7, *shape)


def made_flow(name, n=6):
    make, d = FLOWS[name]
    flow, x = make(), torch.rand(n, d)
    flow.initialize(x)
    return shaken(flow, 0.05).eval(), x


# ---- inverses -----------------------------------------------------------------------------------


@every_layer
@every_dtype
@torch.no_grad()
def test_the_inverse_of_a_layer_undoes_it(name, dtype):
    layer, x = made(name)
    y, _ = layer(x)
    assert y[0].numel() == x[0].numel() and y.dtype == dtype
    back = layer.inverse(y)
    assert back.shape == x.shape
    torch.testing.assert_close(back, x, rtol=TOLERANCES[dtype], atol=TOLERANCES[dtype])
    torch.testing.assert_close(layer(back)[0], y, rtol=TOLERANCES[dtype], atol=TOLERANCES[dtype])


@every_flow
@every_dtype
@torch.no_grad()
def test_the_inverse_of_a_flow_undoes_it(name, dtype):
    flow, x = made_flow(name)
    inner, rows = (flow.flow, flow.patches(x)) if name.startswith("patches") else (flow, x)
    codes, _ = inner.encode(rows)
    back = inner.decode(codes)
    torch.testing.assert_close(back, rows, rtol=TOLERANCES[dtype], atol=TOLERANCES[dtype])
    if name.startswith("patches"):
        assert torch.equal(flow.images(rows), x)


def test_patches_are_squares_of_the_image():
    flow = PatchFlow((2, 4, 6), 2, Steps(n=1, hidden=2, kind="conv"))
    x = torch.rand(3, 48)
    patches = flow.patches(x).view(3, 6, 2, 2, 2)
    images = x.view(3, 2, 4, 6)
    assert torch.equal(patches[1, 4], images[1, :, 2:4, 2:4])
    assert torch.equal(flow.images(flow.patches(x)), x)


def test_far_rows_have_finite_codes_and_come_back():
    flow, _ = made_flow("columns")
    flow.float()
    x = torch.tensor([[1e12, 0, -1e12, 3, 1e6]], dtype=torch.float32)
    (z,), _ = flow.encode(x)
    assert z.isfinite().all() and flow.log_prob(x).isfinite()
    assert flow.log_prob(x) < -1e20


# ---- volume -------------------------------------------------------------------------------------


def log_volume(function, x):
    """Log of the absolute determinant of the Jacobian at one row."""
    n = x.numel()
    return torch.linalg.slogdet(jacobian(function, x).reshape(n, n))[1]


@every_layer
def test_the_log_determinant_of_a_layer_is_that_of_its_jacobian(name):
    layer, x = made(name)
    log_det = layer(x)[1].expand(len(x))
    expected = [log_volume(lambda row: layer(row[None])[0].flatten(), row) for row in x]
    torch.testing.assert_close(log_det, torch.stack(expected), rtol=1e-10, atol=1e-10)


def log_prior(flow, z):
    """Log density of all codes of a row: a standard normal one, or a mixture's."""
    if flow.prior is None:
        return torch.distributions.Normal(0, 1).log_prob(z).sum()
    n_plain = len(z) - sum(p.means[0].numel() for p in (*flow.early_priors, flow.prior))
    means, scales = [torch.zeros(3, n_plain)], [torch.ones(3, n_plain)]
    for prior in (*flow.early_priors, flow.prior):
        means.append(prior.means.flatten(1))
        log_scales = prior.log_scales
        scales.append((torch.zeros_like(prior.means) if log_scales is None else log_scales).exp())
    scale = torch.cat([s.flatten(1) for s in scales], dim=1)
    modes = torch.distributions.Normal(torch.cat(means, dim=1), scale).log_prob(z).sum(dim=1)
    return modes.logsumexp(dim=0) - math.log(3)


@every_flow
def test_the_log_density_of_a_flow_is_that_of_its_code_and_its_jacobian(name):
    flow, x = made_flow(name, n=3)
    inner, rows = (flow.flow, flow.patches(x)) if name.startswith("patches") else (flow, x)

    def code(row):
        return torch.cat([z.flatten() for z in inner.encode(row[None])[0]])

    expected = []
    for row in rows:
        z = code(row)
        expected.append(log_prior(inner, z) + log_volume(code, row))
    expected = torch.stack(expected).view(len(x), -1).sum(dim=1)
    torch.testing.assert_close(flow.log_prob(x), expected, rtol=1e-9, atol=1e-9)


@every_flow
def test_contributions_of_the_scales_add_up(name):
    flow, x = made_flow(name)
    parts = flow.contributions(x)
    n_scales = len((flow.flow if name.startswith("patches") else flow).scales)
    assert parts.shape == (len(x), n_scales)
    torch.testing.assert_close(parts.sum(dim=1), flow.log_prob(x))


def test_a_contribution_is_of_its_code_and_of_the_map_of_its_scale():
    """Equation 3, with the Jacobian of one scale."""
    flow, x = made_flow("two scales", n=2)
    first, second = flow.scales
    h1, z1, _ = first(x.view(2, 2, 4, 4))
    _, z2, _ = second(h1)
    assert z1.shape == (2, 4, 2, 2) and z2.shape == (2, 16, 1, 1)

    def outcome(row):
        h, z, _ = first(row[None].view(1, 2, 4, 4))
        return torch.cat([h.flatten(), z.flatten()])

    def normal(z):
        return -0.5 * (z.square().flatten(1).sum(dim=1) + z[0].numel() * math.log(2 * math.pi))

    volumes = torch.stack([log_volume(outcome, row) for row in x])
    parts = flow.contributions(x)
    torch.testing.assert_close(parts[:, 0], normal(z1) + volumes)
    volumes = [log_volume(lambda row: second(row[None])[1].flatten(), row) for row in h1]
    torch.testing.assert_close(parts[:, 1], normal(z2) + torch.stack(volumes))


@torch.no_grad()
def test_with_modes_of_all_scales_a_contribution_is_given_the_codes_before():
    """What the first scales add is the log density of their codes alone, in any mixture."""
    flow, x = made_flow("modes of all scales")
    parts = [part.exp() for part in flow._parts(x)]  # under each mode; small rows do not underflow
    first = parts[0].mean(dim=1)
    both = (parts[0] * parts[1]).mean(dim=1)
    found = flow.contributions(x)
    torch.testing.assert_close(found[:, 0], first.log())
    torch.testing.assert_close(found[:, 1], (both / first).log())
    torch.testing.assert_close(flow.class_log_probs(x), (parts[0] * parts[1]).log())


@torch.no_grad()
def test_samples_of_modes_have_one_class_at_all_scales():
    flow, _ = made_flow("modes of all scales")
    for k, prior in ((0, flow.early_priors[0]), (1, flow.prior)):
        for place, mean in enumerate((-9.0, 0.0, 9.0)):
            prior.means[place], prior.log_scales[place] = mean, -1.0 - k
    codes, _ = flow.encode(flow.sample(900))
    first, last = (z.flatten(1) for z in codes)
    nearest = (first.mean(dim=1) / 9).round()
    assert torch.equal(nearest, (last.mean(dim=1) / 9).round())
    assert nearest.unique().tolist() == [-1, 0, 1]
    for k, z in enumerate((first, last)):
        deviation = (z - 9 * nearest[:, None]).std().item()
        assert deviation == pytest.approx(math.exp(-1.0 - k), rel=0.05)


@pytest.mark.parametrize("name", ["three scales", "modes of all scales", "patches with scales"])
def test_parameters_of_the_last_scales_move_nothing_before_them(name):
    flow, x = made_flow(name)
    own = flow.parameters_of_last(1)
    earlier = flow.contributions(x)[:, :-1].detach()
    last = flow.contributions(x)[:, -1].detach()
    with torch.no_grad():
        for p in own:
            p.add_(0.1 * torch.randn_like(p))
    after = flow.contributions(x)
    torch.testing.assert_close(after[:, :-1], earlier)
    assert ((after[:, -1] - last).abs() > 1e-3).all()
    inner = flow.flow if name.startswith("patches") else flow
    everything = {id(p) for p in flow.parameters()}
    assert {id(p) for p in flow.parameters_of_last(inner.n_scales)} == everything


def test_codes_of_scales_do_not_depend_on_each_other():
    """S1.3: the prior of a code is standard normal, whatever the others are."""
    flow, x = made_flow("two scales", n=2)
    codes, log_dets = flow.encode(x)
    other = [codes[0].flip(0), codes[1]]
    swapped, _ = flow.encode(flow.decode(other))
    torch.testing.assert_close(swapped[0], other[0])
    torch.testing.assert_close(swapped[1], other[1])
    parts = flow.contributions(x) - torch.stack([v.expand(2) for v in log_dets], dim=1)
    again = flow.contributions(flow.decode(other))
    again_dets = flow.encode(flow.decode(other))[1]
    again = again - torch.stack([v.expand(2) for v in again_dets], dim=1)
    torch.testing.assert_close(again[:, 0], parts.flip(0)[:, 0])
    torch.testing.assert_close(again[:, 1], parts[:, 1])


def test_the_volume_of_a_convolution_costs_no_determinant(monkeypatch):
    layer = shaken(InvertibleConv(6))
    x = torch.randn(2, 6, 3, 5)
    expected = 15 * torch.linalg.slogdet(layer.weight())[1]
    for name in ("det", "slogdet", "inv", "solve", "solve_triangular", "lu"):
        monkeypatch.setattr(torch.linalg, name, lambda *a, **k: pytest.fail("called"))
    y, log_det = layer(x)
    torch.testing.assert_close(log_det, expected)
    y.sum().backward()  # nor does training


def test_additive_flows_stretch_all_rows_alike():
    flow, x = made_flow("additive scales")
    for log_det in flow.encode(x)[1]:
        assert log_det.ndim == 0


# ---- training -----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [n for n in LAYERS if n not in ("squeeze", "flatten")])
def test_every_parameter_of_a_layer_gets_a_gradient(name):
    layer, x = made(name)
    layer.train()
    y, log_det = layer(x)
    (y.square().sum() + log_det.sum()).backward()
    for key, p in layer.named_parameters():
        assert p.grad is not None and p.grad.isfinite().all() and p.grad.abs().sum() > 0, key


@every_flow
def test_every_parameter_of_a_flow_gets_a_gradient(name):
    flow, x = made_flow(name)
    flow.train()
    flow.log_prob(x).sum().backward()
    for key, p in flow.named_parameters():
        assert p.grad is not None and p.grad.isfinite().all() and p.grad.abs().sum() > 0, key


def test_rotations_are_buffers():
    flow = Flow((6,), Steps(n=2, hidden=4))
    names = [name for name, _ in flow.named_parameters()]
    assert not any("rotation" in name for name in names)
    rotation = flow.scales[0].steps.layers[0].layers[0].rotation
    torch.testing.assert_close(rotation @ rotation.T, torch.eye(6))


def test_training_and_evaluation_compute_the_same():
    for name in FLOWS:
        flow, x = made_flow(name)
        torch.testing.assert_close(flow.train().contributions(x), flow.eval().contributions(x))


@every_flow
def test_training_in_float32_stays_finite_and_raises_the_likelihood(name):
    torch.set_default_dtype(torch.float32)
    make, d = FLOWS[name]
    flow = make()
    x = torch.rand(256, d).square()
    flow.initialize(x)
    optimizer = torch.optim.Adamax(flow.parameters(), lr=1e-2)
    losses = []
    for _ in range(30):
        optimizer.zero_grad()
        loss = -flow.log_prob(x).mean()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert np.isfinite(losses).all() and losses[-1] < losses[0] - 0.02


# ---- initialisation by data ---------------------------------------------------------------------


every_coupling = pytest.mark.parametrize(
    ("make", "shape"), [(conv_coupling, (4, 2, 2)), (dense_coupling, (4,))]
)


@pytest.mark.parametrize("norm", [False, True])
@every_coupling
@torch.no_grad()
def test_couplings_begin_with_one_scale_near_1_and_no_shift(make, shape, norm):
    x, scale = torch.randn(5, *shape), 1 / (1 + math.exp(-2))
    coupling = make(4, 6, True, norm=norm)
    coupling.initialize(x)
    kept, moved = coupling(x)[0].split(2, dim=1)
    torch.testing.assert_close(kept, x[:, :2])
    torch.testing.assert_close(moved, scale * x[:, 2:])
    torch.testing.assert_close(make(4, 6, False, norm=norm)(x)[0], x)


@every_coupling
@torch.no_grad()
def test_hidden_layers_of_normalising_couplings_start_from_the_data(make, shape):
    x = 50 + 20 * torch.randn(60, *shape)
    coupling = make(4, 6, True, norm=True)
    coupling.initialize(x)
    net, seen = coupling.net, x[:, :2]
    across = (0,) if len(shape) == 1 else (0, 2, 3)
    for layer in (net.first, net.second):
        y = layer(seen)
        torch.testing.assert_close(y.mean(dim=across), torch.zeros(6), rtol=1e-6, atol=1e-6)
        torch.testing.assert_close(y.var(dim=across, correction=0), torch.ones(6))
        # One operation that is as good as the two: a map without bias, and a normalisation.
        ones, zeros = torch.ones(6), torch.zeros(6)
        apart = layer.norm(layer.linear.apply_scaled(seen, ones, zeros))[0]
        torch.testing.assert_close(y, apart)
        seen = y.relu()


@every_coupling
@torch.no_grad()
def test_the_last_layer_of_normalising_couplings_has_the_factor_exp_3s(make, shape):
    """(W x + b) exp(3 s), and 2 more for what a sigmoid is taken of, as in Glow's code."""
    last = shaken(make(4, 6, True, norm=True).net.last)
    x = torch.randn(3, 6, *shape[1:])
    unscaled = last.linear.apply_scaled(x, torch.ones(4), last.bias)
    factor = (3 * last.log_scale).exp().view(-1, *[1] * (len(shape) - 1))
    start = torch.tensor([0.0, 0.0, 2.0, 2.0]).view(factor.shape)
    torch.testing.assert_close(last(x), unscaled * factor + start)


@pytest.mark.parametrize("shape", [(5,), (4, 1, 1), (4, 2, 3)], ids=str)
def test_activation_normalisation_starts_from_the_data(shape):
    row = shape if len(shape) == 1 or shape[1] > 1 else (4, 2, 3)
    x = 100 + torch.arange(1.0, 1 + row[0]).view(-1, *[1] * (len(row) - 1)) * torch.randn(50, *row)
    norm = ActNorm(shape)
    y = norm.initialize(x)
    across = (0,) if shape == row else (0, 2, 3)
    torch.testing.assert_close(y.mean(dim=across), torch.zeros(y.mean(dim=across).shape))
    spread = y.var(dim=across, correction=0)
    torch.testing.assert_close(spread, torch.ones(spread.shape))
    torch.testing.assert_close(norm(x)[0], y)


@every_flow
def test_the_codes_of_the_data_that_initialised_a_flow_are_normalised(name):
    make, d = FLOWS[name]
    flow, x = make(), 5 + 3 * torch.rand(200, d)
    flow.initialize(x)
    inner, rows = (flow.flow, flow.patches(x)) if name.startswith("patches") else (flow, x)
    for z in inner.encode(rows)[0]:
        torch.testing.assert_close(z.mean(dim=0), torch.zeros(z.shape[1:]))
        torch.testing.assert_close(z.var(dim=0, correction=0), torch.ones(z.shape[1:]))
    norms = [module for module in flow.modules() if isinstance(module, ActNorm)]
    assert len(norms) > 2 and all((norm.centre != 0).any() for norm in norms)


def test_what_does_not_vary_is_centred_alone():
    norm = ActNorm((2,))
    x = torch.tensor([[3.0, 1.0], [3.0, 2.0]])
    torch.testing.assert_close(norm.initialize(x), torch.tensor([[0.0, -1.0], [0.0, 1.0]]))


# ---- sizes and samples --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("shape", "n_scales", "message"),
    [
        ((1, 28, 28), 3, "n_scales=3 .* multiples of 8; .* 28 x 28. .* to 24 x 24 or 32 x 32"),
        ((3, 30, 32), 2, "multiples of 4; .* 30 x 32. .* to 28 x 32 or 32 x 32, or lower n_scales"),
        ((1, 1, 5), 1, "multiples of 2; .* to 2 x 4 or 2 x 6"),
    ],
)
def test_sizes_that_do_not_divide_are_refused_with_those_that_do(shape, n_scales, message):
    with pytest.raises(ValueError, match=message):
        Flow(shape, Steps(n=1, hidden=4, kind="conv"), n_scales=n_scales)


@pytest.mark.parametrize("shape", [(1, 32, 32), (1, 28, 28), (3, 4, 12), (2, 20, 8)], ids=str)
def test_all_sizes_that_divide_are_taken(shape):
    flow = Flow(shape, Steps(n=1, hidden=4, kind="conv"), n_scales=2)
    x = torch.rand(2, math.prod(shape))
    assert flow.log_prob(x).shape == (2,)
    channels, height, width = shape
    first, last = flow.scales
    assert first.code_shape == (2 * channels, height // 2, width // 2)
    assert last.code_shape == (8 * channels, height // 4, width // 4)


def test_patches_must_fill_the_image():
    with pytest.raises(ValueError, match="patch_size=8 .* of 8; .* 28 x 28.*lower patch_size"):
        PatchFlow((1, 28, 28), 8, Steps(n=1, hidden=2, kind="conv"))


@every_flow
@torch.no_grad()
def test_samples_have_standard_normal_codes(name):
    flow, x = made_flow(name)
    rows = flow.sample(300)
    assert rows.shape == (300, x.shape[1])
    inner, rows = (flow.flow, flow.patches(rows)) if name.startswith("patches") else (flow, rows)
    for z in inner.encode(rows)[0]:
        assert abs(z.mean()) < 5 / math.sqrt(z.numel())
        assert abs(z.var() - 1) < 5 * math.sqrt(2 / z.numel())


@every_flow
def test_a_rows_density_does_not_depend_on_its_place(name):
    torch.set_default_dtype(torch.float32)
    flow, _ = made_flow(name)
    x = torch.rand(64, FLOWS[name][1])
    with torch.inference_mode():
        order = torch.randperm(64)
        assert torch.equal(flow.contributions(x[order]), flow.contributions(x)[order])


def test_flows_pickle():
    for name in FLOWS:
        flow, x = made_flow(name)
        assert torch.equal(pickle.loads(pickle.dumps(flow)).log_prob(x), flow.log_prob(x))


@pytest.mark.parametrize(("make", "shape"), [(conv_step, (4, 6, 6)), (dense_step, (5,))])
def test_seeds_give_the_mixing_that_they_gave_before_couplings_could_normalise(make, shape):
    """It is drawn before the coupling."""
    steps = []
    for norm in (False, True):
        torch.manual_seed(0)
        steps.append(make(shape[0], 8, True, norm).eval())
    torch.manual_seed(0)
    alone = (NormalizedConv if make is conv_step else NormalizedRotation)(shape[0]).eval()
    x = torch.randn(3, *shape, generator=torch.Generator().manual_seed(1))
    for step in steps:
        torch.testing.assert_close(step.layers[0](x)[0], alone(x)[0], rtol=0, atol=0)


def test_random_rotations_are_uniform():
    """Every entry has the mean 0 and the variance 1 / n."""
    draws = torch.stack([random_rotation(3) for _ in range(4000)])
    assert draws.mean(dim=0).abs().max() < 4 / math.sqrt(3 * 4000)
    assert (draws.square().mean(dim=0) - 1 / 3).abs().max() < 0.03


def test_one_column_learns_two_modes():
    """A bent column is no Gaussian: the density between two modes is far below that of both."""
    torch.set_default_dtype(torch.float32)
    torch.manual_seed(0)
    x = torch.cat([torch.randn(500, 1) * 0.2 - 1, torch.randn(500, 1) * 0.2 + 1])
    flow = Flow((1,), Steps(n=4, hidden=64))
    flow.initialize(x)
    optimizer = torch.optim.Adamax(flow.parameters(), lr=3e-2)
    for _ in range(150):
        optimizer.zero_grad()
        (-flow.log_prob(x).mean()).backward()
        optimizer.step()
    flow.eval()
    at = flow.log_prob(torch.tensor([[-1.0], [0.0], [1.0]]))
    assert at[1] < min(at[0], at[2]) - 3
    grid = torch.linspace(-6, 6, 4001)[:, None]
    mass = flow.log_prob(grid).exp().sum() * (12 / 4000)
    assert mass.item() == pytest.approx(1, abs=1e-3)

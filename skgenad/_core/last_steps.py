"""The last step of a pipeline: what it has, and the rows that it is given."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

from numpy.typing import ArrayLike
from sklearn.pipeline import Pipeline
from sklearn.utils.metaestimators import available_if


def last_has(name: str, *, inverted: bool = False) -> Callable[[Any], bool]:
    """Make a check that the last step has a method, and the others an inverse where it is needed.

    A check raises the AttributeError of the step that lacks something.
    """

    def check(self: Any) -> bool:
        last = self.steps[-1][1]
        if not inspect.ismethod(getattr(last, name)):  # MPDR's `energy` is a parameter
            raise AttributeError(f"{name} of {type(last).__name__} is no method")
        for step in transformers(self) if inverted else ():
            step.inverse_transform  # noqa: B018
        return True

    return check


def transformers(estimator: Pipeline) -> list[Any]:
    """List the steps before the last that do something."""
    return [step for _, step in estimator.steps[:-1] if step not in (None, "passthrough")]


def rows_for_last(estimator: Pipeline, X: Any) -> Any:
    """Take rows through all steps of a fitted pipeline but the last."""
    # estimator[:-1].transform would take a stateless last transformer for an unfitted one.
    for step in transformers(estimator):
        X = step.transform(X)
    return X


def asks(name: str, does: str, returns: str, what: str) -> Any:
    """Make a method of a pipeline that asks the last step, which has one of this name, about rows.

    `does`, `returns` and `what` are its docstring's first line and what stands below "Returns".
    """

    def ask(self: Any, X: ArrayLike, **options: Any) -> Any:
        return self._ask(name, X, **options)

    ask.__name__, ask.__qualname__ = name, f"Pipeline.{name}"
    ask.__doc__ = f"""{does}

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Rows.
        **options
            Keywords of the last step's method, if it has any.

        Returns
        -------
        {returns}
            {what}
        """
    return available_if(last_has(name))(ask)

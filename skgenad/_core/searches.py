"""Scorers asked by searches: what has no score stops a search, and is no NaN among its candidates.

scikit-learn's searches, curves and cross-validations take what a scorer raises for a score of NaN
(`error_score`), and where all candidates fail alike, which is what a scorer that does not suit them
does, the first of them wins. What a scorer returns they look at outside of that guard, so an error
that is to be heard has to be returned.
"""

from __future__ import annotations

from types import FrameType
from typing import Any, NamedTuple

from sklearn.model_selection import cross_validate

# Where scikit-learn scores a candidate; it tells a scorer nothing about who asks it, or which rows
# of the fold it gets.
_VALIDATION = cross_validate.__module__


class Search(NamedTuple):
    """A search that scores a candidate: the fold's rows, as far as it has them."""

    training_rows: Any = None
    test_rows: Any = None
    test_labels: Any = None


class NoScore:
    """Returned in the place of a score: raises its error as soon as a search looks at it."""

    def __init__(self, error: Exception) -> None:
        self._error = error

    @property
    def item(self) -> None:
        """What a search asks of a number that is none of Python's, before it takes it."""
        raise self._error


def search_asking(frame: FrameType | None) -> Search | None:
    """Return the search of scikit-learn that `frame`, a scorer's caller, belongs to, if any.

    Anything else that asks, such as a function around a scorer, would have to handle what is
    returned: it gets errors raised.
    """
    if _is(frame, "sklearn.metrics._scorer", "__call__"):  # one of several scorers
        frame = frame.f_back  # type: ignore[union-attr]
    if not _is(frame, _VALIDATION, "_score"):
        return None
    fold = frame.f_back.f_locals if frame and frame.f_back else {}
    return Search(*map(fold.get, ("X_train", "X_test", "y_test")))


def refuse(error: Exception, caller: FrameType | None) -> Any:
    """Raise a scorer's error, in a search, too; `caller` is the frame that called the scorer."""
    if search_asking(caller) is None:
        raise error
    return NoScore(error)


def _is(frame: FrameType | None, module: str, function: str) -> bool:
    if frame is None:
        return False
    return frame.f_globals.get("__name__") == module and frame.f_code.co_name == function

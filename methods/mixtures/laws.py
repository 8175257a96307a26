"""What loss does a mixture lead to? Laws from shares of the sources to a loss, fitted on proxy runs, and how far to trust them."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from methods.mixtures.laws_fit import ridge_fit, robust_fit
from methods.stats import spearman
from schemas.errors import UsageError

_ALIKE = 1e-7  # losses that differ by no more of their size are the same: they are measured to nine digits


class Fitted(Protocol):
    """A law with its parameters."""

    def predict(self, shares: np.ndarray) -> np.ndarray:
        """Losses, float64, (n,), of mixtures, (n, k)."""
        ...

    def slope(self, shares: np.ndarray) -> np.ndarray | None:
        """The gradient at one mixture, (k,); None where the law is a staircase."""
        ...


class Law(Protocol):
    """A family of curves."""

    def fit(self, shares: np.ndarray, losses: np.ndarray, near: Fitted | None = None) -> Fitted:
        """The member that fits runs of shape (n, k) with losses (n,); ``near`` is a fit to start from."""
        ...


@dataclass(frozen=True)
class FittedExponential:
    """``floor + exp(rates · p)``, convex in p. Rates that differ by a constant are not the same law: shares sum to one."""

    floor: float
    rates: np.ndarray

    def predict(self, shares: np.ndarray) -> np.ndarray:
        """See `Fitted`."""
        return self.floor + np.exp(shares @ self.rates)

    def slope(self, shares: np.ndarray) -> np.ndarray:
        """See `Fitted`."""
        return float(np.exp(shares @ self.rates)) * self.rates


@dataclass(frozen=True)
class Exponential:
    """The log-linear law ``floor + exp(rates · p)``: OLMix's ``e^c + e^(A·p)`` and, as the shares sum to one, the data
    mixing laws' ``c + k exp(t · p)``, whose k is a constant added to all rates.

    ``positive_floor`` says that the floor, the loss which no mixture gets below, is at least zero (OLMix). Fitted under
    Huber's loss with ``delta`` (nats), by Levenberg-Marquardt from floors of none to nearly the lowest loss, each with
    the rates that are then a linear regression; the papers start at random hundreds of times instead. ``ridge`` pulls
    the rates towards their mean, so that a source which no run has much of is no extreme.
    """

    delta: float = 0.02
    positive_floor: bool = True
    ridge: float = 1e-6

    def fit(self, shares: np.ndarray, losses: np.ndarray, near: Fitted | None = None) -> FittedExponential:
        """See `Law`."""
        checked(shares, losses, needed=shares.shape[1] + 2, law="the log-linear law")
        lowest, span = float(losses.min()), max(float(np.ptp(losses)), 1e-9)
        count = shares.shape[1]
        # The floor as lowest - exp(raw) and the rates as one level and the differences from it.
        floors = [lowest - span * gap for gap in (0.02, 0.1, 0.3, 1.0, 3.0)]
        if self.positive_floor:
            floors = [floor for floor in floors if floor > 0] or [0.5 * lowest]
        starts: list[np.ndarray] = []
        if isinstance(near, FittedExponential):
            starts.append(self._packed(near.floor, near.rates))
        else:
            for floor in floors:
                height = np.log(losses - floor)
                rates = ridge_fit(shares, height, np.zeros(count, dtype=bool)).coefficients
                starts.append(self._packed(floor, rates))

        def residuals(theta: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
            floor = np.exp(theta[0]) if self.positive_floor else theta[0]
            rise = np.exp(theta[1] + shares @ theta[2:])
            by_floor = np.full(len(losses), floor if self.positive_floor else 1.0)
            return floor + rise - losses, np.column_stack([by_floor, rise, rise[:, None] * shares])

        pull = np.concatenate([[0.0, 0.0], np.full(count, self.ridge * len(losses) * self.delta)])
        pull[2:] = np.maximum(pull[2:], 1e-12)
        found = robust_fit(residuals, starts, delta=self.delta, ridge=pull).parameters
        floor = float(np.exp(found[0])) if self.positive_floor else float(found[0])
        return FittedExponential(floor, found[1] + found[2:])

    def _packed(self, floor: float, rates: np.ndarray) -> np.ndarray:
        level = float(rates.mean())
        first = np.log(max(floor, 1e-9)) if self.positive_floor else floor
        return np.concatenate([[first, level], rates - level])


@dataclass(frozen=True)
class FittedLinear:
    """``coefficients · p``; its best mixture is one source alone."""

    coefficients: np.ndarray

    def predict(self, shares: np.ndarray) -> np.ndarray:
        """See `Fitted`."""
        return shares @ self.coefficients

    def slope(self, shares: np.ndarray) -> np.ndarray:
        """See `Fitted`."""
        return self.coefficients


@dataclass(frozen=True)
class Linear:
    """A loss per source, mixed by the shares: the baseline of laws."""

    def fit(self, shares: np.ndarray, losses: np.ndarray, near: Fitted | None = None) -> FittedLinear:
        """See `Law`."""
        checked(shares, losses, needed=shares.shape[1], law="the linear law")
        return FittedLinear(ridge_fit(shares, losses, np.zeros(shares.shape[1], dtype=bool), [0.0]).coefficients)


@dataclass(frozen=True)
class FittedQuadratic:
    """``linear · p + p' pairs p`` with ``pairs`` symmetric and zero on its diagonal."""

    linear: np.ndarray
    pairs: np.ndarray

    def predict(self, shares: np.ndarray) -> np.ndarray:
        """See `Fitted`."""
        return shares @ self.linear + np.einsum("ni,ij,nj->n", shares, self.pairs, shares)

    def slope(self, shares: np.ndarray) -> np.ndarray:
        """See `Fitted`."""
        return self.linear + 2 * self.pairs @ shares


@dataclass(frozen=True)
class Quadratic:
    """Every quadratic function of the shares: a loss per source and an interaction per pair, k(k+1)/2 coefficients.

    Constant, and squares of one share, are combinations of these, as the shares sum to one. The interactions are ridged
    with the penalty that predicts left-out runs best, so that fewer runs than coefficients still have an answer.
    """

    penalties: tuple[float, ...] | None = field(default=None)

    def fit(self, shares: np.ndarray, losses: np.ndarray, near: Fitted | None = None) -> FittedQuadratic:
        """See `Law`."""
        count = shares.shape[1]
        checked(shares, losses, needed=count + 2, law="the quadratic law")
        rows, columns = np.triu_indices(count, k=1)
        features = np.hstack([shares, shares[:, rows] * shares[:, columns]])
        penalized = np.arange(features.shape[1]) >= count
        found = ridge_fit(features, losses, penalized, self.penalties).coefficients
        pairs = np.zeros((count, count))
        pairs[rows, columns] = found[count:] / 2
        return FittedQuadratic(found[:count], pairs + pairs.T)


@dataclass(frozen=True)
class Trust:
    """How well a law predicts runs that it has not seen: rank agreement (-1 to 1, nan of constants), median and mean absolute
    error in nats, both of always saying the mean of the others, and the out-of-fold predictions, (n,).

    The median is what a run is off by: an exponential runs away where no run is near, and one run makes any mean.
    """

    rank_agreement: float
    median_absolute_error: float
    mean_absolute_error: float
    median_error_of_the_mean: float
    error_of_the_mean: float
    predictions: np.ndarray


def cross_validated(
    law: Law, shares: np.ndarray, losses: np.ndarray, weights: np.ndarray, *, groups: np.ndarray, folds: int = 5
) -> Trust:
    """Out-of-fold trust in a law over runs, (n, k), with losses of every group measured, (n, m), averaged by ``weights``.

    ``groups``, (n,), numbers the mixtures: runs of one mixture with other seeds stay in one fold.
    """
    truth, said = losses @ weights, np.full(len(losses), np.nan)
    blocks = np.searchsorted(np.unique(groups), groups)
    parts = min(folds, int(blocks.max()) + 1)
    baseline = np.full(len(losses), np.nan)
    for part in range(parts):
        out = blocks % parts == part
        try:
            fits = [law.fit(shares[~out], losses[~out, g]) for g in range(losses.shape[1])]
        except UsageError:
            continue  # too few runs are left for this fold: its predictions stay unknown
        said[out] = np.stack([fit.predict(shares[out]) for fit in fits], axis=1) @ weights
        baseline[out] = truth[~out].mean()
    known = np.isfinite(said)
    if known.sum() < 2:
        unknown = float("nan")
        return Trust(unknown, unknown, unknown, unknown, unknown, said)
    errors, plain = np.abs(said - truth)[known], np.abs(baseline - truth)[known]
    return Trust(
        spearman(said[known], truth[known]),
        float(np.median(errors)),
        float(errors.mean()),
        float(np.median(plain)),
        float(plain.mean()),
        said,
    )


def fit_all(law: Law, shares: np.ndarray, losses: np.ndarray, near: Sequence[Fitted] | None = None) -> list[Fitted]:
    """One fit per measured group; losses have shape (n, m)."""
    return [law.fit(shares, losses[:, g], near[g] if near else None) for g in range(losses.shape[1])]


def checked(shares: np.ndarray, losses: np.ndarray, *, needed: int, law: str) -> None:
    """Raises ``UsageError`` for too few different mixtures, equal losses all over, and losses that are not finite."""
    if not np.isfinite(losses).all():
        raise UsageError(f"{law} cannot be fitted to losses that are not finite; leave those runs out")
    different = len(np.unique(np.round(shares, 9), axis=0))
    if different < needed:
        raise UsageError(
            f"{law} over {shares.shape[1]} sources needs {needed} different mixtures; {different} were measured: "
            "raise `proxies`, or take a method that measures none (temperature, unimax)"
        )
    if np.ptp(losses) <= _ALIKE * max(1.0, float(np.abs(losses).max())):
        raise UsageError(f"{law} cannot be fitted: all {len(losses)} runs have the loss {losses[0]:.6g}")

"""The law without a formula: boosted trees over the shares (LightGBM), as RegMix fits them."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from methods.mixtures.laws import Fitted, checked
from schemas.errors import MissingExtra


@dataclass(frozen=True)
class FittedTrees:
    """A sum of trees; a staircase, so it has no slope."""

    booster: Any

    def predict(self, shares: np.ndarray) -> np.ndarray:
        """See `methods.mixtures.laws.Fitted`."""
        return np.asarray(self.booster.predict(shares, num_threads=1), dtype=np.float64)

    def slope(self, shares: np.ndarray) -> None:
        """None."""


@dataclass(frozen=True)
class Trees:
    """RegMix's LightGBM regression: learning rate .01, 1,000 rounds, squared error.

    Without early stopping, for which the paper's notebook looks at the test runs. A leaf holds at least a tenth of the
    runs where there are fewer than 200, twenty otherwise (LightGBM's own).
    """

    rounds: int = 1000
    learning_rate: float = 0.01

    def fit(self, shares: np.ndarray, losses: np.ndarray, near: Fitted | None = None) -> FittedTrees:
        """See `methods.mixtures.laws.Law`. Raises ``MissingExtra`` without LightGBM."""
        try:
            import lightgbm  # pyright: ignore[reportMissingImports]
        except ImportError as error:
            raise MissingExtra(
                "regmix with `regression: lightgbm` needs a package: pip install 'provender[mixture]'; "
                "or write `regression: linear`"
            ) from error
        checked(shares, losses, needed=8, law="a law of trees")
        settings = {
            "objective": "regression",
            "learning_rate": self.learning_rate,
            "min_data_in_leaf": 20 if len(losses) >= 200 else max(2, len(losses) // 10),
            "num_threads": 1,
            "deterministic": True,
            "force_row_wise": True,
            "seed": 42,
            "verbosity": -1,
        }
        return FittedTrees(lightgbm.train(settings, lightgbm.Dataset(shares, losses), self.rounds))

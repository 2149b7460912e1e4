"""The `quality.drift` section: when a table has changed so much that what was fitted on it no longer holds."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from millrace.config.section import Column, Section

LIMITS = {"psi": 0.2, "jensen_shannon": 0.1, "chi_square": 0.001}
"""Where none is given. 0.2 is the usual alarm for a population stability index."""


class DriftConfig(Section):
    """How the rows of a version are compared with those that the standing state was fitted on, column by column."""

    method: Literal["psi", "jensen_shannon", "chi_square"] = "psi"
    """psi: population stability index; jensen_shannon: divergence in bits, 0 to 1; both of shares, less what rows drawn alike
    differ by on average.
    chi_square: the probability that rows of one kind differ as much as these do; with many rows it sees the smallest change."""
    limit: float | None = Field(default=None, gt=0.0)
    """A column has drifted above it, and for chi_square below it. None: 0.2, 0.1 and 0.001."""
    on_drift: Literal["warn", "stop", "refit"] = "warn"
    """stop: the step fails; refit: what was fitted is fitted anew. Rows of all splits are compared, so those of test may decide
    when that is done; what is fitted then is the train rows' alone."""
    include: tuple[Column, ...] | None = None
    """The columns that count. None: all but the contract's key, dates and timestamps, which always move on."""
    exclude: tuple[Column, ...] = ()
    min_rows: int = Field(default=100, gt=0)
    """With fewer rows on either side nothing is said."""

    @model_validator(mode="after")
    def _limit_is_possible(self) -> DriftConfig:
        if self.method != "psi" and self.limit is not None and self.limit >= 1.0:
            raise ValueError(f"limit of {self.method} lies between 0 and 1, and {self.limit:g} does not")
        return self

    @property
    def actual_limit(self) -> float:
        """The limit that holds."""
        return LIMITS[self.method] if self.limit is None else self.limit

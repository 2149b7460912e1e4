"""How many rows a step may quarantine."""

from __future__ import annotations

from millrace.errors import QualityError


def check_budget(stage: str, *, num_rows_in: int, num_rows_quarantined: int, max_reject_ratio: float, where: str) -> None:
    """Raises QualityError when more than `max_reject_ratio` of the rows were quarantined."""
    if num_rows_in and num_rows_quarantined / num_rows_in > max_reject_ratio:
        raise QualityError(
            stage,
            expected=f"at most {max_reject_ratio:.2%} of the rows quarantined (quality.max_reject_ratio)",
            found=f"{num_rows_quarantined} of {num_rows_in} ({num_rows_quarantined / num_rows_in:.2%})",
            remedy=f"See {where} for the rows and reasons; mend the source, or raise the budget.",
        )

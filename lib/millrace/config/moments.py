"""Moments that files name."""

from __future__ import annotations

from datetime import UTC, date, datetime


def moment(day: date) -> datetime:
    """A date's midnight in UTC; a timestamp in UTC, which it is already where it names no zone."""
    if not isinstance(day, datetime):
        return datetime(day.year, day.month, day.day, tzinfo=UTC)
    return day.replace(tzinfo=UTC) if day.tzinfo is None else day.astimezone(UTC)

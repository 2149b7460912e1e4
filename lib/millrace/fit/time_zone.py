"""When a time zone's clock changes: a table that Spark and the exported graph share, whatever zones they know themselves."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from functools import cache
from zoneinfo import ZoneInfo

FIRST, LAST = datetime(1900, 1, 1, tzinfo=UTC), datetime(2100, 1, 1, tzinfo=UTC)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_STEP = timedelta(days=1)
"""No offset that any zone has had since 1900 held for less than this."""


@cache
def changes_of(name: str) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """(changes, offsets) as `DatetimeBlock` has them, in microseconds, of the zone's clock between FIRST and LAST.

    Python's zones do not give their tables away, so they are asked day by day, and to the second where two days differ.
    """
    zone = ZoneInfo(name)
    changes: list[int] = []
    offsets = [_offset(FIRST, zone)]
    moment = FIRST
    while moment < LAST:
        after = moment + _STEP
        offset = _offset(after, zone)
        if offset != offsets[-1]:
            changes.append(_microseconds(_change_between(moment, after, zone)))
            offsets.append(offset)
        moment = after
    return tuple(changes), tuple(_in_microseconds(offset) for offset in offsets)


def _change_between(before: datetime, after: datetime, zone: ZoneInfo) -> datetime:
    """The first second with the offset that `after` has."""
    while after - before > timedelta(seconds=1):
        middle = before + timedelta(seconds=int((after - before).total_seconds()) // 2)
        if _offset(middle, zone) == _offset(after, zone):
            after = middle
        else:
            before = middle
    return after


def _offset(moment: datetime, zone: ZoneInfo) -> timedelta:
    offset = moment.astimezone(zone).utcoffset()
    assert offset is not None
    return offset


def _microseconds(moment: datetime) -> int:
    return _in_microseconds(moment - _EPOCH)


def _in_microseconds(duration: timedelta) -> int:
    return duration // timedelta(microseconds=1)

"""The table of a time zone's changes: what Python's own zones say of any moment, and what the encoder makes of it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import numpy as np
import pytest
from pydantic import ValidationError

from millrace.errors import ConfigError
from millrace.fit.time_zone import FIRST, LAST, changes_of
from millrace.transforms.encoding import encode_batch
from tests import feature_tables as tables

ZONES = ["Europe/Berlin", "America/St_Johns", "Asia/Shanghai", "Africa/Casablanca", "Australia/Lord_Howe", "Etc/GMT+3", "UTC"]
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MICROSECOND = timedelta(microseconds=1)


def moments_of(name: str) -> list[datetime]:
    """Random ones, and the microseconds around every change."""
    seconds = np.random.default_rng(3).integers(0, int((LAST - FIRST).total_seconds()), 2_000)
    changes = [EPOCH + change * MICROSECOND for change in changes_of(name)[0]]
    return [*(FIRST + timedelta(seconds=int(each)) for each in seconds), *changes, *(each - MICROSECOND for each in changes)]


@pytest.mark.parametrize("name", ZONES)
def test_each_part_is_what_the_zones_clock_and_calendar_show(name: str) -> None:
    contract = tables.contract_of({"moment": "timestamp"})
    moments = moments_of(name)
    parts = ["year", "month", "day", "weekday", "hour"]
    fitted = tables.fitted_on(
        [tables.feature(encode="datetime", column="moment", parts=parts, time_zone=name)], tables.batch_of([], contract), contract
    )
    assert fitted.names[:3] == ("moment__year", "moment__month_sin", "moment__month_cos")
    found = encode_batch(tables.batch_of([{"moment": moment} for moment in moments], contract), fitted)[0]
    shown = [moment.astimezone(ZoneInfo(name)) for moment in moments]
    np.testing.assert_allclose(found[:, 0], [(each.year - 2000) / 10 for each in shown], atol=1e-6)
    hours = [each.hour + each.minute / 60 + each.second / 3600 + each.microsecond / 3.6e9 for each in shown]
    values = [
        ([each.month - 1 for each in shown], 12),
        ([each.day - 1 for each in shown], 31),
        ([each.weekday() for each in shown], 7),
        (hours, 24),
    ]
    for place, (value, period) in enumerate(values):
        angle = np.array(value) * 2 * np.pi / period
        np.testing.assert_allclose(found[:, 1 + 2 * place], np.sin(angle), atol=1e-6)
        np.testing.assert_allclose(found[:, 2 + 2 * place], np.cos(angle), atol=1e-6)


def test_null_is_0_in_all_places() -> None:
    contract = tables.contract_of({"moment": "timestamp"})
    batch = tables.batch_of([{"moment": None}], contract)
    feature = tables.feature(encode="datetime", column="moment", parts=["year", "hour"], time_zone="Asia/Tokyo")
    assert encode_batch(batch, tables.fitted_on([feature], batch, contract))[0].tolist() == [[0.0, 0.0, 0.0]]


def test_what_has_no_time_of_day_has_no_zone() -> None:
    feature = tables.feature(encode="datetime", column="day", parts=["year"], time_zone="Asia/Tokyo")
    with pytest.raises(ConfigError) as error:
        tables.fitted_on([feature], tables.batch_of([]))
    assert str(error.value) == (
        "features: expected a column of type timestamp for encode: datetime; found day, which is a date. "
        "Choose another encode, or cast the column in clean."
    )


@pytest.mark.parametrize("name", ["Europe/Berlim", "../etc/passwd", "/etc/passwd", ""])
def test_an_unknown_zone_is_refused(name: str) -> None:
    with pytest.raises(ValidationError, match=f"no time zone is called '{name}'; take one such as Europe/Berlin"):
        tables.feature(encode="datetime", column="moment", parts=["year"], time_zone=name)

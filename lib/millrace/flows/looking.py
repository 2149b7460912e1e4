"""The profile of silver, and how far tonight's rows have drifted from those that the fitted state was fitted on."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from millrace import observe
from millrace.contracts.packed import Packing
from millrace.contracts.spark import struct_type
from millrace.flows.context import Context
from millrace.flows.scope import STEP, Scope
from millrace.lake import small
from millrace.lake.layout import PROFILES, silver
from millrace.lake.ledger import Attempt, TableVersion
from millrace.quality.drift import Drift, check_drift, measure
from millrace.quality.profile import Profile, as_rows, merge
from millrace.quality.profiling import profile


@dataclass(frozen=True)
class Looked:
    """What was seen. Profiles as JSON; None where the pipeline does without."""

    refit: bool = False
    """Whether what stands has to be fitted anew."""
    profile: Mapping[str, Any] | None = None
    """Of silver as it is now."""
    reference: Mapping[str, Any] | None = None
    """Of silver as it was when what encodes it was fitted."""
    drifts: tuple[Drift, ...] = ()

    def write(self, attempt: Attempt, written: TableVersion) -> tuple[TableVersion, ...]:
        """metrics/profiles, as of the table that was written; nothing where the pipeline does without."""
        return () if self.profile is None else (write_profiles(attempt, written, _read(self.profile), self.drifts),)


def is_profiled(context: Context) -> bool:
    """Whether the pipeline wants a profile, or needs one to see drift."""
    return context.config.quality.profile or context.config.quality.drift is not None


def profiled_columns(context: Context) -> dict[str, str]:
    """Silver's columns, with their types by Spark's simple names."""
    return {field.name: field.dataType.simpleString() for field in struct_type(context.silver)}


def look_at(
    context: Context,
    scope: Scope,
    silver_rows: DataFrame,
    *,
    recount: bool = False,
    tonight: Profile | None = None,
    packing: Packing | None = None,
) -> Looked:
    """Profiles silver, of the scope's nights what the standing profile does not have; all of it where that does not hold any more
    (`recount`). `tonight`: the profile of the scope's nights, where it is known; `packing`: how some columns travel.

    Raises QualityError where a column has drifted and quality.drift says stop.
    """
    config, standing = context.config, scope.standing
    always = standing is not None and config.fit.refit == "always"
    if not is_profiled(context):
        return Looked(refit=always, reference=None if standing is None or always else standing.reference)
    kinds, nights = profiled_columns(context), F.col("_night")

    def profile_of(rows: DataFrame) -> Profile:
        return profile(rows, kinds=kinds, packing=packing)

    with observe.timed("profile"):
        if tonight is None:
            tonight = profile_of(silver_rows.filter(nights.isin(list(scope.nights))))
        whole = tonight
        if standing is not None and (recount or standing.profile is None):
            whole = profile_of(silver_rows)
        elif standing is not None and standing.profile is not None:
            whole = merge(_read(standing.profile), tonight)
        if scope.reference is not None and config.quality.drift is not None and set(scope.came) != set(scope.nights):
            tonight = profile_of(silver_rows.filter(nights.isin(list(scope.came))))
    reference = scope.reference if standing is None else standing.reference
    drifts = drift_of(context, reference, tonight, is_said=scope.is_again)
    refits = config.quality.drift is not None and config.quality.drift.on_drift == "refit"
    refit = always or (standing is not None and refits and any(each.drifted for each in drifts))
    plain = json.loads(whole.to_json())
    fits_anew = refit or standing is None or reference is None
    return Looked(refit, plain, plain if fits_anew else reference, drifts)


def drift_of(
    context: Context, reference: Mapping[str, Any] | None, tonight: Profile, *, is_said: bool = False
) -> tuple[Drift, ...]:
    """How far each column is from the reference; says which have drifted, unless all is fitted anew for it and that `is_said`.

    Raises QualityError where that is to stop the night.
    """
    config = context.config.quality.drift
    if config is None or reference is None:
        return ()
    drifts = measure(_read(reference), tonight, config=config, keys=context.contract.key or ())
    said = check_drift(drifts, config=config, stage=STEP, where=f"{silver(context.config.name)} when it was fitted on")
    if said is not None and not (is_said and config.on_drift == "refit"):
        observe.warn(said)
    return drifts


def write_profiles(attempt: Attempt, written: TableVersion, whole: Profile, drifts: tuple[Drift, ...]) -> TableVersion:
    """metrics/profiles: each statistic of each column, and its drift."""
    common = {
        "pipeline": attempt.run.pipeline,
        "run_id": attempt.run.run_id,
        "_night": attempt.run.night,
        "table": written.table,
        "version": written.version,
    }
    rows = [{**common, **row} for row in as_rows(whole)]
    for drift in drifts:
        if drift.value is not None:
            found = {"statistic": f"drift_{drift.method}", "value": drift.value, "text": "drifted" if drift.drifted else None}
            rows.append({**common, "column": drift.column, **found})
    where = {"run_id": attempt.run.run_id}
    return TableVersion(PROFILES, small.replace(attempt.lake, PROFILES, rows, where=where, metadata=attempt.mark))


def _read(plain: Mapping[str, Any]) -> Profile:
    return Profile.from_json(json.dumps(plain))

"""Which nights of bronze a preprocess has to do: those that are new or have changed, or all where what decides about rows has."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace
from typing import Any

import pyarrow as pa

from millrace.config.cleaning import fills_forward
from millrace.config.load import hash_of
from millrace.contracts.types import INTEGERS
from millrace.errors import LakeError
from millrace.fit.state import FittedState
from millrace.flows.context import Context
from millrace.flows.taken import name_of, raw_nights
from millrace.lake import ledger as books
from millrace.lake import log
from millrace.lake.layout import bronze, gold
from millrace.transforms.minhash import SCHEME

STEP = "preprocess"


@dataclass(frozen=True)
class Scope:
    """Which nights are done, and whether all that stands is made anew."""

    nights: tuple[str, ...]
    rebuild: bool
    seen: dict[str, str]
    standing: FittedState | None
    came: tuple[str, ...] = ()
    """Where all has to be made anew: the nights for which that is,"""
    reference: Mapping[str, Any] | None = None
    """and the profile that they are compared with."""
    is_again: bool = False
    """Whether the step has found so on its way."""


def sections(context: Context) -> list[object]:
    """The parts of the config that the step reads."""
    return [context.config.quality, *deciding(context)]


def deciding(context: Context) -> list[object]:
    """Those of them that decide which rows silver and gold have. A changed limit alone lets stand what stands."""
    config = context.config
    mode = [list(config.materialize)] if config.only_gold else []
    casting = ["integers have no fractions"] if any(step.cast and step.cast.type in INTEGERS for step in config.clean) else []
    signing = [SCHEME] if any(step.near_duplicates for step in config.clean) else []
    judging = ["stop words are different ones"] if any(step.quality and step.quality.gopher for step in config.clean) else []
    masking = ["numbers behind phone numbers"] if any(step.mask for step in config.clean) else []
    return [
        *mode,
        config.name,
        config.source.name,
        context.contract,
        config.clean,
        config.split,
        config.features,
        config.blocks,
        config.windows,
        config.label,
        *signing,
        *casting,
        *judging,
        *masking,
    ]


def find_scope(context: Context, attempt: books.Attempt) -> Scope:
    """The nights of bronze that are not in silver as they are now; all of them where what decides about rows has changed."""
    seen = seen_nights(context, attempt)
    if not seen:
        remedy = "`millrace quarantine` shows what was taken out, and why."
        raise LakeError(STEP, expected=f"a row of {context.config.source.name} that can be read", found="none", remedy=remedy)
    standing = standing_state(context, attempt.ledger)
    if standing is None or standing.sections_hash != hash_of(deciding(context)):
        return everything(seen)
    changed = {night for night in {*seen, *standing.nights} if seen.get(night) != standing.nights.get(night)}
    if context.force:
        changed |= {context.run.night} & set(seen)
    scope = Scope(tuple(sorted(changed)), False, seen, standing)
    if changed & set(standing.nights):
        # Rows that other nights had dropped as equal to rows of a night that changes may have to come back.
        return all_again(scope)
    if changed and min(changed) < max(standing.nights, default="") and any(fills_forward(step) for step in context.config.clean):
        # Newer nights may have gaps that take a value of this one.
        return all_again(scope)
    return scope


def everything(seen: dict[str, str]) -> Scope:
    """All nights, made anew."""
    return Scope(tuple(sorted(seen)), True, seen, None)


def all_again(scope: Scope, *, is_again: bool = False) -> Scope:
    """All nights, where those of a scope make others not right any more. They are compared with what stood all the same."""
    reference = None if scope.standing is None else scope.standing.reference
    return replace(everything(scope.seen), came=scope.nights, reference=reference, is_again=is_again)


def seen_nights(context: Context, attempt: books.Attempt) -> dict[str, str]:
    """Each night that the step's inputs have, with the hash of its files: bronze's, or the raw ones where there is no bronze."""
    if context.config.only_gold:
        nights = raw_nights(context, attempt.ledger, attempt.inputs.files)
        return {night: hash_of(sorted((name_of(file.path), file.sha256) for file in files)) for night, files in nights.items()}
    table = bronze(context.config.source.name)
    return night_files(context.lake.path(table), attempt.input_version(table))


def night_files(uri: str, version: int | None) -> dict[str, str]:
    """For each night of bronze the hash of the names of its files: it changes when the night is ingested again."""
    actions = pa.table(log.open_table(uri, version).get_add_actions(flatten=True))
    if "min._night" not in actions.column_names:  # no file has a row
        return {}
    by_night: dict[str, list[str]] = {}
    for path, night, rows in zip(
        *(actions.column(name).to_pylist() for name in ("path", "min._night", "num_records")), strict=True
    ):
        assert night is not None, "a file's statistics do not say which night it is of"
        if rows:
            by_night.setdefault(night, []).append(path)
    return {night: hash_of(sorted(paths)) for night, paths in sorted(by_night.items())}


def newest_preprocess(context: Context, ledger: books.Ledger) -> books.Entry | None:
    """The newest succeeded preprocess of this pipeline."""
    for entry in reversed(ledger.entries):
        if entry.step == STEP and entry.status == "succeeded" and entry.output(gold(context.config.name)) is not None:
            return entry
    return None


def standing_state(context: Context, ledger: books.Ledger) -> FittedState | None:
    """The state that it has left."""
    entry = newest_preprocess(context, ledger)
    return FittedState.load(context.lake, entry.run.pipeline, entry.run.run_id, entry.step_key) if entry else None


def state_of(context: Context, ledger: books.Ledger, version: int) -> FittedState:
    """The fitted state that a version of gold was encoded with."""
    entry = entry_of_gold(context, ledger, version)
    return FittedState.load(context.lake, entry.run.pipeline, entry.run.run_id, entry.step_key)


def leave_standing(
    context: Context, attempt: books.Attempt, state: FittedState, tables: Collection[Callable[[str], str]]
) -> books.Outcome:
    """Nothing has come or changed: what stands, stands for this run too. `tables`: their names by the pipeline's."""
    name = context.config.name
    state.save(context.lake, name, context.run.run_id, attempt.step_key)
    versions = [(table(name), attempt.ledger.version_of(table(name))) for table in tables]
    return books.Outcome(tuple(books.TableVersion(table, version) for table, version in versions if version is not None))


def entry_of_gold(context: Context, ledger: books.Ledger, version: int) -> books.Entry:
    """The newest succeeded preprocess that names a version of gold. Raises LakeError where there is none."""
    table = gold(context.config.name)
    for entry in reversed(ledger.entries):
        if entry.step == STEP and entry.status == "succeeded" and entry.output(table) == version:
            return entry
    raise LakeError(
        "train", expected=f"the run that wrote version {version} of {table}", found="none", remedy="Run preprocess with --force."
    )

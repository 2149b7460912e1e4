"""What a pipeline may ask for that has neither bronze nor silver: what needs rows of other nights is refused before it runs."""

from __future__ import annotations

from collections.abc import Iterator

from millrace.config.cleaning import changes_values, fills_forward, looks_at_other_rows
from millrace.config.models import PipelineConfig
from millrace.config.sources import JdbcSource
from millrace.contracts.table import TableContract
from millrace.errors import ConfigError

REMEDY = "Set materialize: [bronze, silver, gold]."


def check_gold_alone(config: PipelineConfig, contract: TableContract) -> None:
    """Raises ConfigError for the first thing that needs bronze or silver."""
    if not config.only_gold:
        return
    for what in _needs_silver(config, contract):
        raise ConfigError(
            "config", expected="nothing that needs bronze or silver with materialize: [gold]", found=what, remedy=REMEDY
        )


def may_be_torn(config: PipelineConfig, contract: TableContract) -> tuple[str, ...]:
    """The columns whose equal values a rule of the split might put on two sides: none where no two rows are equal in them."""
    is_key = contract.key is not None and set(contract.key) <= set(config.split.at_risk) and not changes_values(config.clean)
    return () if is_key else config.split.at_risk


def _needs_silver(config: PipelineConfig, contract: TableContract) -> Iterator[str]:
    if contract.upsert:
        yield f"upsert in {contract.name}: a newer row takes the place of one in silver"
    if contract.references:
        yield f"references in {contract.name}: they name rows of other tables"
    if contract.unique_rules:
        yield f"unique columns in {contract.name}: they are compared with those of other nights in silver"
    torn = may_be_torn(config, contract)
    if torn:
        yield f"rules or strata of split beside {', '.join(torn)}: that none of them is on two sides is seen in silver"
    yield from _steps_that_need_silver(config)
    if contract.evolution.added == "evolve":
        yield f"evolution.added of {contract.name} is evolve: added columns are kept in bronze"
    if config.windows is not None:
        yield "windows: they reach from night to night"
    if config.blocks is not None:
        yield "blocks: documents are packed together"
    if isinstance(config.source, JdbcSource):
        yield "source.format jdbc: a database may give other rows when it is read again"


def _steps_that_need_silver(config: PipelineConfig) -> Iterator[str]:
    for step in config.clean:
        if looks_at_other_rows(step):
            yield f"{step.name} in clean: rows are compared with those of other nights in silver"
        if fills_forward(step):
            yield "fillna forward in clean: gaps take values of other nights from silver"

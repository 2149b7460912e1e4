"""What every job does around its flow: arguments, config, session, signals, errors, exit code."""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import sys
import tempfile
import traceback
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import NoReturn

import fsspec
from pyspark.sql import SparkSession

from millrace import observe
from millrace.config.load import load_pipeline
from millrace.config.places import Places
from millrace.contracts.table import load_contract
from millrace.errors import MillraceError, find_in
from millrace.flows.batches import bound_batches
from millrace.flows.check import check_pipeline
from millrace.flows.check_conditions import check_conditions
from millrace.flows.context import Context, Flow, check_night, make_run
from millrace.flows.progress import spark_progress
from millrace.lake.layout import Lake
from millrace.sources.failures import explain

INTERRUPTED = 130


def main(flow: Flow, description: str) -> NoReturn:
    """Runs a flow as this process and ends it with the flow's exit code."""
    take_signals()
    observe.end_process(run(flow, description, sys.argv[1:]))


def run(flow: Flow, description: str, argv: Sequence[str], *, spark: SparkSession | None = None) -> int:
    """Runs a flow with a command line. Returns the exit code: 0 on success, 2 where the same call cannot succeed, 1 where a retry
    may help, 3 where the gate refused, 130 on Ctrl-C. A session that is given is used and left open.
    """
    observe.configure()
    arguments = parser(description).parse_args(argv)
    job = _Job(arguments, spark)
    try:
        job.run(flow)
        return 0
    except KeyboardInterrupt:
        observe.clear_progress()
        observe.warn("interrupted; the same command goes on from the last finished step")
        return INTERRUPTED
    except Exception as error:
        return report(error, debug=arguments.debug)
    finally:
        job.close()


def parser(description: str) -> argparse.ArgumentParser:
    """The options that all jobs have."""
    options = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--pipeline", required=True, help="the name of a file under conf/pipelines")
    options.add_argument("--lake", default="lake", help="where the lake is: a path or a URI (default: ./lake)")
    options.add_argument("--night", default=datetime.now(UTC).date().isoformat(), help="YYYY-MM-DD (default: today, UTC)")
    options.add_argument(
        "--set",
        dest="overrides",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="overrides a key, for example training.epochs=1",
    )
    options.add_argument("--conf-dir", help="a directory with pipelines/ and schemas/ that is searched first")
    options.add_argument("--plan", action="store_true", help="print what would run and why, and run nothing")
    options.add_argument("--force", action="store_true", help="do it again although it is done")
    options.add_argument("--debug", action="store_true", help="show tracebacks")
    return options


def take_signals() -> None:
    """Lets Ctrl-C, TERM and HUP end the job in an orderly way, also where it was started with SIGINT ignored; then says so."""

    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    signal.signal(signal.SIGHUP, signal.default_int_handler)
    ready = os.environ.get("MILLRACE_READY_FILE")
    if ready:
        Path(ready).write_text(str(os.getpid()))


def report(error: Exception, *, debug: bool) -> int:
    """Prints one line for an error, and the traceback where it was asked for or is our own bug. Returns the exit code."""
    observe.clear_progress()
    known = error if isinstance(error, MillraceError) else find_in(str(error)) or explain(str(error))
    if debug or known is None:
        print(observe.mask("".join(traceback.format_exception(error))), file=sys.stderr)  # noqa: T201
    if known is not None:
        observe.LOG.error("%s", known)
        return known.exit_code
    return 1


class _Job:
    """A job's session and log, opened when they are needed."""

    def __init__(self, arguments: argparse.Namespace, spark: SparkSession | None) -> None:
        self.arguments = arguments
        self._spark = spark
        self._closes_spark = spark is None
        self._context: Context | None = None
        self._log_directory: str | None = None
        self._is_checked = False

    def run(self, flow: Flow) -> None:
        """Checks everything that can be checked without touching the lake, then runs the flow."""
        arguments = self.arguments
        places = Places.standard(arguments.conf_dir)
        config = load_pipeline(arguments.pipeline, places, overrides=arguments.overrides)
        contract = load_contract(config.source.contract, places)
        check_pipeline(config, contract)
        lake = Lake.at(arguments.lake)
        night = check_night(arguments.night)
        context = Context(self.spark, lake, config, contract, make_run(config, contract, night), force=arguments.force)
        lake.check()
        self._context = context
        if arguments.plan:
            flow.plan(context)
            return
        flow.check(context)
        lake.open_for_writing()
        with observe.log_file(self._log_path(context)):
            observe.note("job", job=Path(sys.argv[0]).name, run_id=context.run.run_id, arguments=sys.argv[1:])
            try:
                flow.run(context)
            except Exception as error:
                observe.note("error", observe.mask(str(find_in(str(error)) or error)))
                raise

    def spark(self) -> SparkSession:
        """The session, opened at the first call, which also has Spark read the pipeline's conditions."""
        assert self._context is not None
        if self._spark is None:
            observe.progress("starting Spark")
            self._spark = open_spark(self._context.run.run_id)
            observe.clear_progress()
        if not self._is_checked:
            check_conditions(self._spark, self._context.config, self._context.contract)
            self._is_checked = True
        bound_batches(self._spark, self._context.config, self._context.contract)
        return self._spark

    def close(self) -> None:
        """Brings the log to where the lake is, and ends the session."""
        if self._log_directory is not None and self._context is not None:
            try:
                _append_file(self._log_path(self._context), _log_address(self._context))
            except OSError as error:
                observe.warn(f"the log could not be kept: {error}")
            shutil.rmtree(self._log_directory, ignore_errors=True)
        if self._spark is not None and self._closes_spark:
            signal.signal(signal.SIGINT, signal.SIG_IGN)
            close_spark(self._spark)

    def _log_path(self, context: Context) -> Path:
        """In place in a local lake, where a killed run leaves it; else a file that is brought there at the end."""
        if context.lake.is_local:
            return Path(_log_address(context))
        if self._log_directory is None:
            self._log_directory = tempfile.mkdtemp(prefix="millrace-log-")
        return Path(self._log_directory, "log.jsonl")


def _log_address(context: Context) -> str:
    return context.lake.artifacts(context.config.name, context.run.run_id, "log.jsonl")


def _append_file(path: Path, address: str) -> None:
    files, target = fsspec.core.url_to_fs(address)
    files.makedirs(target.rpartition("/")[0], exist_ok=True)
    before = files.cat_file(target) if files.exists(target) else b""
    files.pipe_file(target, before + path.read_bytes())


def open_spark(name: str) -> SparkSession:
    """The session, with the thread that ends this process when its JVM is gone, and progress from Spark's own counters."""
    from millrace.session import open_session
    from millrace.training.launch import start_parent_watchdog

    spark = open_session(name)
    take_signals()  # a new SparkContext has put a handler of its own
    start_parent_watchdog()
    spark_progress(spark)
    return spark


def close_spark(spark: SparkSession) -> None:
    """Cancels what still runs and ends the session; a JVM that is gone already is fine."""
    try:
        spark.sparkContext.cancelAllJobs()
        spark.stop()
    except Exception:
        observe.LOG.debug("the session had ended already", exc_info=True, extra={"only_file": True})

"""python -m orchestrator.export SWEEP: a sweep as an Optuna study in a file.

Reads the ledger alone, also of a sweep that is running or was killed, and changes nothing of it.
"""

from __future__ import annotations

import argparse
import shlex
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path

from orchestrator.errors import UserError
from orchestrator.ledger import read_ledger
from orchestrator.optuna_study import StudyDescription, describe
from orchestrator.paths import SweepPaths
from orchestrator.resume import find_sweep
from orchestrator.settings import SweepSettings, load_settings

EXIT_USER_ERROR = 2
_JOURNALS = (".log", ".journal")
_DATABASE = ".db"


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; returns the exit code."""
    options = _parse(arguments)
    try:
        paths = find_sweep(options.sweep, options.storage, "SWEEP")
        file = options.to or paths.study
        _require_writable(file, may_replace=options.force or options.to is None)
        study = _read(paths)
        write(study, file)
    except UserError as error:
        print(error, file=sys.stderr)
        return EXIT_USER_ERROR
    print(f"{file}: Optuna study {study.name!r}, trials: {len(study.trials)}")
    address = _url(file) if file.suffix == _DATABASE else str(file)
    print(f"see it: optuna-dashboard {shlex.quote(address)}")
    return 0


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m orchestrator.export",
        description="Writes a sweep, also one that is running, as an Optuna study into a file that "
        "Optuna's dashboard opens.",
    )
    parser.add_argument(
        "sweep", metavar="SWEEP", help="the sweep's name, or the path or URL of its folder"
    )
    parser.add_argument(
        "--storage",
        default=str(SweepSettings.model_fields["storage"].default),
        metavar="FOLDER",
        help="where sweeps are stored, a path or a URL; %(default)s",
    )
    parser.add_argument(
        "--to",
        type=Path,
        metavar="FILE",
        help="FILE.log or FILE.journal is an Optuna journal, FILE.db an SQLite database; "
        "optuna.log in the sweep's folder where left out, which is replaced each time",
    )
    parser.add_argument("--force", action="store_true", help="replace FILE where it exists")
    return parser.parse_args(arguments)


def _require_writable(file: Path, may_replace: bool) -> None:
    if file.suffix not in (*_JOURNALS, _DATABASE):
        raise UserError(
            f"--to: {file} does not say what to write; name a file that ends in .log or .journal "
            "for an Optuna journal, or in .db for an SQLite database"
        )
    if not file.absolute().parent.is_dir():
        raise UserError(f"--to: {file.absolute().parent} is not a folder; make it, or name another")
    if file.is_dir():
        raise UserError(f"--to: {file} is a folder; name a file")
    if file.exists() and not may_replace:
        raise UserError(f"--to: {file} exists; name another file, or replace it by --force")


def _read(paths: SweepPaths) -> StudyDescription:
    """The study of a sweep, whoever works on it: the ledger is neither locked nor mended."""
    history = list(read_ledger(paths.ledger))
    if not history:
        raise UserError(f"{paths.ledger} is empty: the sweep has not begun")
    return describe(paths.name, load_settings(paths.settings), history)


def write(study: StudyDescription, file: Path) -> None:
    """Writes a study into a file, which is whole or as it was before.

    Raises:
        UserError: it cannot be written.
    """
    from optuna.exceptions import OptunaError
    from sqlalchemy.exc import SQLAlchemyError

    partial = file.with_name(f".{file.name}")
    try:
        partial.unlink(missing_ok=True)
        _write(study, partial)
        partial.replace(file)
    except (OSError, OptunaError, SQLAlchemyError) as error:
        cause = str(error).partition("\n")[0]
        raise UserError(f"--to: cannot write {file} ({cause}); name another file") from None
    finally:
        partial.unlink(missing_ok=True)


def _write(study: StudyDescription, file: Path) -> None:
    import optuna
    from optuna.storages import JournalStorage, RDBStorage
    from optuna.storages.journal import JournalFileBackend

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    is_database = file.suffix == _DATABASE
    storage = RDBStorage(_url(file)) if is_database else JournalStorage(JournalFileBackend(str(file)))
    created = optuna.create_study(storage=storage, study_name=study.name, directions=study.directions)
    with warnings.catch_warnings():
        # The names are marked experimental; we pin Optuna's major version.
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        created.set_metric_names(study.metric_names)
    for name, value in study.user_attrs.items():
        created.set_user_attr(name, value)
    created.add_trials(study.trials)
    if isinstance(storage, RDBStorage):
        storage.remove_session()
        storage.engine.dispose()


def _url(file: Path) -> str:
    return f"sqlite:///{file}"


if __name__ == "__main__":
    sys.exit(main())

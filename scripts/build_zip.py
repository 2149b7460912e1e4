#!/usr/bin/env python3
"""Builds build/millrace.zip: lib/millrace with the shipped pipelines and contracts inside, for `--py-files`.

The bytes depend on the content alone (names sorted, times fixed, nothing compressed), and a zip whose content has not changed
is left as it is. Standard library only; setup.py takes `builtin_files` from here, so that a wheel carries the same files.
"""

from __future__ import annotations

import argparse
import fcntl
import hashlib
import os
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
EPOCH = (1980, 1, 1, 0, 0, 0)  # the earliest time that a zip can hold


def revision(root: Path) -> str:
    """The git revision of `root`, with "+changed" where the work tree differs from it, "unknown" outside of git."""

    def git(*arguments: str) -> str:
        return subprocess.run(["git", "-C", str(root), *arguments], check=True, capture_output=True, text=True).stdout.strip()

    try:
        # A copy without .git inside another repository must not take that one's revision.
        if Path(git("rev-parse", "--show-toplevel")).resolve() != root.resolve():
            return "unknown"
        commit = git("rev-parse", "HEAD")
        return f"{commit}+changed" if git("status", "--porcelain") else commit
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def builtin_files(root: Path) -> dict[str, bytes]:
    """What goes under millrace/_builtin: name relative to it -> content."""
    files = {"REVISION": f"{revision(root)}\n".encode()}
    for kind, folder in (("pipelines", root / "conf" / "pipelines"), ("schemas", root / "schemas")):
        files.update({f"{kind}/{path.name}": path.read_bytes() for path in folder.glob("*.yaml")})
    return files


def package_files(root: Path) -> dict[str, bytes]:
    """Everything in the zip: name -> content. Caches and an earlier build's _builtin stay out."""
    package = root / "lib" / "millrace"
    files = {f"millrace/_builtin/{name}": content for name, content in builtin_files(root).items()}
    for path in package.rglob("*"):
        parts = path.relative_to(package).parts
        if path.is_file() and "__pycache__" not in parts and parts[0] != "_builtin":
            files["/".join(("millrace", *parts))] = path.read_bytes()
    return files


def content_hash(files: dict[str, bytes]) -> str:
    """SHA-256 over names and contents, each with its length in front, in the order of the names."""
    digest = hashlib.sha256()
    for name, content in sorted(files.items()):
        for part in (name.encode(), content):
            digest.update(len(part).to_bytes(8, "big"))
            digest.update(part)
    return digest.hexdigest()


def write_zip(files: dict[str, bytes], target: Path) -> None:
    """Writes `target` whole or not at all."""
    handle, name = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.")
    try:
        with os.fdopen(handle, "wb") as stream, zipfile.ZipFile(stream, "w", zipfile.ZIP_STORED) as archive:
            for entry, content in sorted(files.items()):
                info = zipfile.ZipInfo(entry, EPOCH)
                info.external_attr = 0o644 << 16
                archive.writestr(info, content)
        Path(name).chmod(0o644)
        Path(name).replace(target)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def build(root: Path, target: Path) -> bool:
    """Makes `target` hold the content of `root`; says whether that took a new zip. Two at once wait for each other."""
    target.parent.mkdir(parents=True, exist_ok=True)
    mark = target.with_name(f"{target.name}.sha256")
    with target.with_name(f".{target.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        files = package_files(root)
        content = content_hash(files)
        if target.exists() and mark.exists() and mark.read_text().strip() == content:
            return False
        # Without its mark a zip counts as unknown: a stop between the two lines below costs one more build, nothing else.
        mark.unlink(missing_ok=True)
        write_zip(files, target)
        mark.write_text(f"{content}\n")
        return True


def main() -> int:
    """Builds; prints the zip's path, unless told to be quiet."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", type=Path, default=ROOT, help="the project's root")
    parser.add_argument("--output", type=Path, help="the zip to make (default: ROOT/build/millrace.zip)")
    parser.add_argument("--quiet", action="store_true", help="print nothing")
    arguments = parser.parse_args()
    target = arguments.output or arguments.root / "build" / "millrace.zip"
    build(arguments.root, target)
    if not arguments.quiet:
        sys.stdout.write(f"{target}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())

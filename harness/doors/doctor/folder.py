"""The folder that holds the runs: whether it can be written, and how much room there is."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from harness.doors.doctor.finding import Finding, advise, missing
from harness.doors.project import find_project
from harness.paper.errors import SameopError
from harness.paper.units import format_bytes

# A full run of all cases with its samples takes some tens of MiB.
_ROOM_BYTES = 2**30
_WHAT = "run folder"


def examine_folder(start: Path) -> list[Finding]:
    """Return where runs are written, and whether they can be."""
    try:
        return [run_folder(find_project(start).runs)]
    except SameopError as error:
        return [missing(_WHAT, str(error), "Mend the setting: no run can start without it.")]


def run_folder(folder: Path) -> Finding:
    """Look at a folder, or at the nearest above it that exists."""
    place = next(above for above in (folder, *folder.parents) if above.exists())
    elsewhere = "Name another place with `--bench-run=FOLDER`."
    if not place.is_dir():
        return missing(_WHAT, f"{place} is no folder, so {folder} cannot be made.", elsewhere)
    if not os.access(place, os.W_OK | os.X_OK):
        return missing(_WHAT, f"{place} may not be written.", elsewhere)
    room = shutil.disk_usage(place).free
    found = f"Runs go to {folder}, where {format_bytes(room)} are free."
    few = room < _ROOM_BYTES
    advice = f"A full disk ends a run: make room. {elsewhere}" if few else None
    return advise(_WHAT, found, advice)

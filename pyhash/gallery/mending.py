"""Looking for damage of a gallery and repairing it: what is damaged is dropped, and made again from the images."""

from __future__ import annotations

import os
from collections.abc import Callable

from ..errors import GalleryError
from .adapt import Plan, refit, settle
from .checking import Checked, Damage, Found, damage_of, examine
from .encoders import spread_of
from .folders import Folders
from .forgetting import clean
from .holder import Encoders
from .loading import damage, drop, keep, mapped_folder
from .place import Places
from .snapshot import Snapshots
from .store import GalleryFile


def look(file: GalleryFile, folders: Folders) -> Checked:
    """Do what `Gallery.check` promises where nothing is to be repaired."""
    found = examine(file.path)
    damaged = damage_of(found, file.path, folders) + _damage_beside(file, found)
    return Checked(damaged, found.checked, found.waiting, found.traces)


def repair(
    file: GalleryFile, encoders: Encoders, snapshots: Snapshots, places: Places, update: Callable[[], object]
) -> Checked:
    """Do what `Gallery.check` promises to `repair`; `update` encodes again what waits."""
    found = examine(file.path)
    beside = _damage_beside(file, found)
    if beside:
        drop(file)  # what makes them again is `keep`
    if not (found.spots or found.traces or found.waiting):
        keep(file.path)
        return Checked(beside, found.checked, found.waiting, repaired=bool(beside))
    damaged, notes, kept = damage_of(found, file.path, places.now()) + beside, [], None
    if found.is_unreadable:
        kept = file.salvage()
        found = examine(file.path)
        damaged += damage_of(found, file.path, places.now())
    concerned = {*found.paths.values()}
    again: Plan | None = None
    if any(spot.table == "settings" for spot in found.spots):
        encoder = encoders.recalled()
        file.reset(encoders.identity())
        with file.writing(None):
            file.mend(spot for spot in found.spots if spot.table not in ("settings", "heads"))
        notes.append(f"the settings were damaged: all images are encoded again, with the encoder {encoder.name!r}")
    elif found.spots:
        again = _mend(file, encoders, snapshots, found)
        if again is not None:
            notes.append("the codes were fitted to the images anew; if labels were used before, use them again")
    if any(spot.table in ("forgotten", "settings") for spot in found.spots):
        notes.append("something else may be forgotten now than was: `pyhash info --json` lists it")
    if any(spot.what == "box" for spot in found.spots):
        notes.append("boxes were damaged and are lost: give them again (`pyhash index --boxes`)")
    try:
        update()
        if again is not None:  # on those too that had to be encoded again
            refit(file, snapshots, again, None, None, {})
        if found.traces:
            clean(file)
        keep(file.path)
    except GalleryError as error:
        notes.append(str(error))
    with file.reading():
        known = file.known()
    waiting = {path for path, row in known.items() if not row.has_code and row.error is None}
    lost = {path for path in map(os.fsdecode, concerned) if path not in known or not known[path].has_code}
    after = examine(file.path)
    return Checked(
        damaged,
        after.checked,
        after.waiting,
        after.traces,
        repaired=not after.spots,
        away=sorted(map(places.now().join, waiting | lost)),
        notes=notes,
        kept=None if kept is None else os.fspath(kept),
    )


def _damage_beside(file: GalleryFile, found: Found) -> list[Damage]:
    """Damage of the mapped files, where the database says what they are."""
    if found.is_unreadable or any(spot.table == "settings" for spot in found.spots):
        return []
    with file.reading():
        return [Damage(os.fspath(mapped_folder(file.path)), what) for what in damage(file)]


def _mend(file: GalleryFile, encoders: Encoders, snapshots: Snapshots, found: Found) -> Plan | None:
    """Drop what is damaged; return how a head was fitted in the place of a damaged one."""
    with file.writing(None):
        file.mend(found.spots)
    if not any(spot.table == "heads" for spot in found.spots):
        return None
    with file.reading():
        stored = file.vectors.head()
    assert stored is not None
    plan = Plan(stored.levels, spread_of(encoders.recalled()), at_once=True)
    settle(file, snapshots, plan)
    with file.reading():
        stored = file.vectors.head()
    if stored is not None and stored.matrix is not None:
        return plan
    with file.writing(encoders.identity(), rebuild=True):  # it takes embeddings, which are not all there
        return None

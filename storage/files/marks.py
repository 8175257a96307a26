"""Use and removal on object storage, where nothing can be moved aside: two marks that cannot miss each other.

``used/<key>``     put whenever something is used; its age is the object's age, as that of the object itself is
``leaving/<key>``  created (once) by a collector before it looks at the ages for the last time; gone when it is done

A user first marks, then looks for ``leaving``; a collector first announces, then looks for ``used``. Object storage is
consistent, so at least one sees the other: a collector that sees a fresh use withdraws, a user that sees an announcement
waits until it is gone and then looks whether the object still is. A collector removes within ``REMOVES_WITHIN`` of its
announcement or not at all; an announcement older than ``FORGOTTEN_AFTER`` is that of a killed one and may be removed.
What this rests on: a request is not delayed by the difference, and clocks agree to a quarter of an hour (AWS refuses
requests that do not).
"""

import secrets
import time
from collections.abc import Callable

from schemas.errors import Conflict
from storage.files.bucket import Bucket

REMOVES_WITHIN = 300.0
FORGOTTEN_AFTER = 3600.0
_WAITS = 30.0


def mark_used(bucket: Bucket, key: str) -> None:
    """Makes the object young; ``FileNotFoundError`` if it is not there, or was just collected."""
    if bucket.head(key) is not None:
        bucket.put(f"used/{key}", b"")
        settle(bucket, key)
        if bucket.head(key) is not None:
            return
    raise FileNotFoundError(f"{bucket.place}/{key} is not there")


def settle(bucket: Bucket, key: str) -> bool:
    """Waits while a collector decides about the object; whether there was one, so that one must look again."""
    deadline = time.monotonic() + _WAITS
    waited = False
    while (announced := bucket.head(f"leaving/{key}")) is not None:
        waited = True
        if time.time() - announced.modified > FORGOTTEN_AFTER:
            bucket.delete(f"leaving/{key}")
        elif time.monotonic() > deadline:
            raise Conflict(
                f"{bucket.place}/{key} is being collected by a `provender gc` that stands still; run again once it has "
                "ended (what a killed one left is taken as gone after an hour)"
            )
        else:
            time.sleep(0.05)
    return waited


def kept(bucket: Bucket, key: str, put: Callable[[], bool]) -> bool:
    """``put`` (True: we put it), again if a collector removed it in between; the last answer of ``put``."""
    while True:
        mine = put()
        if not settle(bucket, key) or bucket.head(key) is not None:
            return mine


def age_mark(bucket: Bucket, key: str) -> float:
    """When the object was last put or used; ``FileNotFoundError`` if it is not there."""
    there = bucket.head(key)
    if there is None:
        raise FileNotFoundError(f"{bucket.place}/{key} is not there")
    used = bucket.head(f"used/{key}")
    return max(there.modified, used.modified if used else 0.0)


def remove_unused(bucket: Bucket, key: str, newest: float) -> bool:
    """Removes an object that nobody put or used after ``newest``; whoever is about to use it gets to know.

    When the storage does not say whether it removed, the announcement stays: until it is forgotten nobody relies on it.
    """
    started = time.monotonic()
    if not bucket.create(f"leaving/{key}", secrets.token_bytes(16)):
        _forget(bucket, key)
        return False
    try:
        goes = age_mark(bucket, key) <= newest
    except FileNotFoundError:
        goes = False
    goes = goes and time.monotonic() - started < REMOVES_WITHIN
    if goes:
        bucket.delete(key)
        bucket.delete(f"used/{key}")
    bucket.delete(f"leaving/{key}")
    return goes


def _forget(bucket: Bucket, key: str) -> None:
    """Removes the announcement of a collector that was killed, for the next one."""
    announced = bucket.head(f"leaving/{key}")
    if announced is not None and time.time() - announced.modified > FORGOTTEN_AFTER:
        bucket.delete(f"leaving/{key}")

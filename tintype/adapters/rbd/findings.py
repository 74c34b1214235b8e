"""What an operator should know of a pool, made of what the Ceph process saw."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from tintype.adapters.rbd.failures import failure
from tintype.ports.image_store import Finding, Grade

_RIGHTS = "Give the user `mon 'profile rbd' osd 'profile rbd pool={pool}'`: see docs/stores/rbd.md."
_REPLICATED = 1
_HARMLESS = ("AUTH_INSECURE_GLOBAL_ID_RECLAIM_ALLOWED", "POOL_NO_REDUNDANCY", "MON_DISK_LOW")


def findings(store: str, pool: str, fsid: str, seen: Mapping[str, Any]) -> Sequence[Finding]:
    """One finding for each thing that was looked at."""
    found = [Finding("connection", Grade.GOOD, f"Ceph answers, cluster {fsid}")]
    for name, look in _LOOKS.items():
        facts = seen[name]
        if "failure" in facts:
            error = failure(store, str(facts["failure"]), str(facts.get("said", "")))
            step = f" ({facts['step']})" if "step" in facts else ""
            advice = _RIGHTS.format(pool=pool) if facts["failure"] == "denied" else error.hint
            found.append(Finding(name, Grade.BAD, f"{error.message}{step}", advice))
        else:
            found.extend(look(pool, facts))
    return tuple(found)


def _pool(pool: str, facts: Mapping[str, Any]) -> Iterator[Finding]:
    if facts["is_rbd"]:
        yield Finding("pool", Grade.GOOD, "the pool exists, and is one for block devices")
    else:
        yield Finding("pool", Grade.DOUBTFUL, "the pool is not marked for block devices", f"rbd pool init {pool}")
    if "full" in facts["flags"]:
        yield Finding("full", Grade.BAD, "the pool takes no writes: it or its cluster is full", "Make room.")
    elif "nearfull" in facts["flags"]:
        yield Finding("full", Grade.DOUBTFUL, "the cluster is nearly full", "Add disks, or delete.")
    if facts["type"] == _REPLICATED and facts["size"] < 2:
        advice = f"ceph osd pool set {pool} size 3"
        yield Finding("redundancy", Grade.DOUBTFUL, "there is one replica of everything", advice)
    else:
        yield Finding("redundancy", Grade.GOOD, f"size {facts['size']}")
    quota = facts["quota"]
    yield Finding("quota", Grade.GOOD, f"the pool may hold {quota} bytes" if quota else "the pool has no quota")


def _health(pool: str, facts: Mapping[str, Any]) -> Iterator[Finding]:
    checks = {name: severity for name, severity in facts["checks"].items() if name not in _HARMLESS}
    if not checks:
        yield Finding("health", Grade.GOOD, "Ceph has no complaint")
    else:
        grade = Grade.BAD if "HEALTH_ERR" in checks.values() else Grade.DOUBTFUL
        yield Finding("health", grade, f"Ceph complains: {', '.join(sorted(checks))[:300]}", "ceph health detail")


def _rights(pool: str, facts: Mapping[str, Any]) -> Iterator[Finding]:
    yield Finding("rights", Grade.GOOD, "images can be made, written, protected, renamed and removed")


def _trash(pool: str, facts: Mapping[str, Any]) -> Iterator[Finding]:
    yield Finding("trash", Grade.GOOD, f"{facts['waiting']} deleted images wait for their clones or readers")


def _room(pool: str, facts: Mapping[str, Any]) -> Iterator[Finding]:
    room = facts["room"]
    if room is None:
        yield Finding("room", Grade.DOUBTFUL, "nobody counts the room", "Let a manager (ceph-mgr) run.")
    else:
        yield Finding("room", Grade.GOOD, f"{room['free']} of {room['total']} bytes are free")


_LOOKS = {"pool": _pool, "health": _health, "rights": _rights, "trash": _trash, "room": _room}

"""What there is to know about the pool, step by step: the service makes findings of it."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any

import rbd

from tintype.adapters.rbd.child.failures import translated
from tintype.adapters.rbd.child.pool import SNAPSHOT, Pool


def examined(pool: Pool, probe: str) -> dict[str, Any]:
    """The outcome of each step by name: what it found, or ``failure`` and ``said``."""
    steps: dict[str, Callable[[], dict[str, Any]]] = {
        "pool": lambda: _pool(pool),
        "health": lambda: {"checks": {name: check["severity"] for name, check in _checks(pool).items()}},
        "rights": lambda: _rights(pool, probe),
        "trash": lambda: {"waiting": pool.purge_all()},
        "room": lambda: {"room": pool.cluster.room()},
    }
    found: dict[str, Any] = {}
    for name, step in steps.items():
        try:
            found[name] = step()
        except Exception as exc:  # the next step is looked at nevertheless
            failure = pool.cluster.why(translated(exc))
            found[name] = {"failure": failure.kind, "said": failure.said[:200]}
    return found


def _pool(pool: Pool) -> dict[str, Any]:
    facts = pool.cluster.pool_facts()
    return {
        "size": int(facts.get("size", 0)),
        "type": int(facts.get("type", 0)),
        "flags": str(facts.get("flags_names", "")).split(","),
        "quota": int(facts.get("quota_max_bytes", 0)),
        "is_rbd": "rbd" in pool.io.application_list(),
    }


def _checks(pool: Pool) -> dict[str, Any]:
    return dict(pool.cluster.ask("health").get("checks", {}))


def _rights(pool: Pool, probe: str) -> dict[str, Any]:
    """Everything that an image meets in its life, on one of a few bytes; ``step`` is the one that failed."""
    step = "create"
    try:
        pool.rbd.create(pool.io, probe, 4096, old_format=False, features=rbd.RBD_FEATURE_LAYERING)
        try:
            with pool.opened(probe) as image:
                step = "write"
                image.write(b"tintype", 0)
                step = "snapshot"
                image.create_snap(SNAPSHOT)
                step = "protect"
                image.protect_snap(SNAPSHOT)
                step = "unprotect"
                image.unprotect_snap(SNAPSHOT)
                image.remove_snap(SNAPSHOT)
            step = "rename"
            pool.rbd.rename(pool.io, probe, f"{probe}-renamed")
            probe = f"{probe}-renamed"
        finally:
            with contextlib.suppress(rbd.ImageNotFound):
                pool.discard(probe)
    except Exception as exc:
        failure = pool.cluster.why(translated(exc))
        return {"failure": failure.kind, "said": failure.said, "step": step}
    return {}

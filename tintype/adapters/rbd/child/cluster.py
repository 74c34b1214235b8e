"""The connection to the cluster, its pool, and what the monitors say about both."""

from __future__ import annotations

import contextlib
import json
import math
import os
from typing import Any

import rados

from tintype.adapters.rbd.child.failures import (
    DENIED,
    FULL,
    MISSING,
    NOT_FOUND,
    QUOTA,
    TIMEOUT,
    CephError,
    FailureError,
    translated,
)


class Cluster:
    """One cluster, as one user, with one pool."""

    def __init__(self, options: dict[str, Any]) -> None:
        self._options = options
        self.pool: str = options["pool"]
        self.rados = _connected(options)
        try:
            self.io = self.rados.open_ioctx(self.pool)
            # So a full cluster, or pool, lets through what needs no room, such as what reads and what makes room, and
            # refuses the rest at once. Else all of them would wait for room until they time out.
            self.io.set_osdmap_full_try()
        except rados.ObjectNotFound:
            self.rados.shutdown()
            raise FailureError(MISSING) from None

    @property
    def fsid(self) -> str:
        """The cluster's id."""
        return str(self.rados.get_fsid())

    def ask(self, prefix: str) -> Any:
        """What the monitors answer to a command."""
        code, output, _ = self.rados.mon_command(json.dumps({"prefix": prefix, "format": "json"}), b"")
        if code:
            raise translated(OSError(-code, prefix))
        return json.loads(output)

    def pool_facts(self) -> dict[str, Any]:
        """What the map of the OSDs says of the pool."""
        for found in self.ask("osd dump")["pools"]:
            if found["pool_name"] == self.pool:
                return dict(found)
        raise FailureError(MISSING)

    def room(self) -> dict[str, int] | None:
        """``free`` and ``total`` bytes of the pool; ``None`` where no manager counts them."""
        for found in self.ask("df")["pools"]:
            if found["name"] == self.pool:
                stored, free = int(found["stats"]["stored"]), int(found["stats"]["max_avail"])
                quota = int(self.pool_facts().get("quota_max_bytes", 0))
                if stored + free == 0:
                    return None
                total = min(stored + free, quota) if quota else stored + free
                return {"free": max(0, min(free, total - stored)), "total": total}
        return None

    def why(self, failure: FailureError) -> FailureError:
        """The reason behind a failure: Ceph lets a write wait for room, so that a full pool looks like a hung one."""
        if failure.kind not in (TIMEOUT, FULL, QUOTA):
            return failure
        with contextlib.suppress(*CephError, FailureError):
            flags = str(self.pool_facts().get("flags_names", "")).split(",")
            if "full_quota" in flags:  # stands beside `full`
                return FailureError(QUOTA)
            if "full" in flags:
                return FailureError(FULL)
        return failure

    def probe(self, name: str) -> None:
        """Write an object, read it back and remove it."""
        self.io.write_full(name, b"tintype")
        try:
            if self.io.read(name) != b"tintype":
                raise FailureError("failed", "the pool does not give back what was written")
        finally:
            self.io.remove_object(name)


def _connected(options: dict[str, Any]) -> rados.Rados:
    for what in ("conf_file", "keyring_file"):
        if options[what] and not os.access(options[what], os.R_OK):
            raise FailureError(DENIED, f"the file of the setting {what} cannot be read")
    timeout_s = max(1, math.ceil(options["timeout_s"]))  # Ceph reads whole seconds
    timeout = str(timeout_s)
    conf = {
        "rados_osd_op_timeout": timeout,
        "rados_mon_op_timeout": timeout,
        "client_mount_timeout": timeout,
        "rbd_cache": "false",  # writes are collected and kept in flight here, where their errors are seen
        "log_to_stderr": "false",
        "err_to_stderr": "false",
        "log_file": "",
        "admin_socket": "",
    }
    if options["keyring_file"]:
        conf["keyring"] = options["keyring_file"]
    cluster = rados.Rados(
        conffile=options["conf_file"], name=f"client.{options['user']}", clustername=options["cluster"], conf=conf
    )
    try:
        cluster.connect(timeout=timeout_s)
    except rados.InvalidArgumentError as exc:
        raise FailureError(DENIED, "the key or a setting of the cluster is malformed") from exc
    except CephError as exc:
        failure = translated(exc)
        raise FailureError(DENIED, "there is no key for the user") if failure.kind == NOT_FOUND else failure from exc
    return cluster

"""What can be found out about the mount beneath a store: the published practices for shares, each as a finding."""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence

from tintype.adapters.filesystem.bare_mount_point import examined_mount_point
from tintype.adapters.filesystem.directory import StoreDirectory
from tintype.adapters.filesystem.mount_table import Mount, MountTable
from tintype.adapters.filesystem.tree import Purpose
from tintype.ports.image_store import Finding, Grade

_IN_MEMORY = ("tmpfs", "ramfs")
_FAR_DELAY = "Mount from a server on the same layer-2 network: every millisecond counts for each call."


def examined_mount(directory: StoreDirectory) -> Sequence[Finding]:
    """The mount that holds the directory, and what guards it. Blocks."""
    with directory.tree.opened_root(Purpose.READ) as root:
        table = MountTable.of_this_process()
        mount = table.of(root)
    if mount is None:
        return (Finding("mount", Grade.BAD, "the directory is on no mount that this process sees"),)
    told = Finding("mount", Grade.GOOD, f"{mount.file_system} at {mount.mount_point}")
    found = [told, _back_end(mount), _guarding(directory, mount)]
    if directory.guard is not None:
        found += [*examined_mount_point(mount, table), _monitoring()]
    if mount.file_system in ("nfs", "nfs4"):
        found += nfs_options(mount)
    return found


def nfs_options(mount: Mount) -> Sequence[Finding]:
    """How an NFS share is mounted."""
    return (_hardness(mount), _locking(mount), _writing(mount), _network(mount))


def _back_end(mount: Mount) -> Finding:
    if mount.file_system in _IN_MEMORY:
        return Finding("back-end", Grade.DOUBTFUL, f"{mount.file_system} is in memory", "Use a disk, or a share.")
    said = f"{mount.file_system}; whether the storage behind it is redundant cannot be seen from here"
    return Finding("back-end", Grade.GOOD, said)


def _guarding(directory: StoreDirectory, mount: Mount) -> Finding:
    if directory.guard is not None:
        said = f"the share {directory.guard.share_id} is compared before every write and commit"
        return Finding("mount-guard", Grade.GOOD, said)
    if mount.is_network:
        advice = f"Run `python -m services.importer.mark_share {directory.store}` and set require_mount = true."
        return Finding("mount-guard", Grade.BAD, f"{mount.file_system}, and nothing notices when it is lost", advice)
    return Finding("mount-guard", Grade.GOOD, "not needed: no server is behind the mount")


def _monitoring() -> Finding:
    said = "the mount is looked at in the background; whether somebody is called cannot be seen from here"
    return Finding("monitoring", Grade.GOOD, said, "Alert on the store's mode, its errors and its room.")


def _hardness(mount: Mount) -> Finding:
    if mount.option("soft") is not None or mount.option("softerr") is not None:
        advice = "Mount with hard: a soft mount may drop writes when the server is slow."
        return Finding("mount-hard", Grade.BAD, "the share is mounted soft", advice)
    return Finding("mount-hard", Grade.GOOD, "the share is mounted hard; calls that hang are given up by Tintype")


def _locking(mount: Mount) -> Finding:
    local = mount.option("local_lock")
    if mount.option("nolock") is not None or local not in (None, "none"):
        advice = "Mount with vers=4, or without nolock and with local_lock=none."
        return Finding("mount-locking", Grade.BAD, "locks hold on this machine only", advice)
    return Finding("mount-locking", Grade.GOOD, "locks are kept by the server")


def _writing(mount: Mount) -> Finding:
    said = f"vers={mount.option('vers') or 'unknown'}, timeo={mount.option('timeo') or 'unknown'}"
    advice = "Look that the server exports with sync: with async it says yes before the bytes are on its disk."
    return Finding("mount-options", Grade.GOOD, f"{said}; whether the export is sync cannot be seen", advice)


def _network(mount: Mount) -> Finding:
    server, mine = mount.option("addr"), mount.option("clientaddr")
    if not server:
        return Finding("mount-network", Grade.DOUBTFUL, "the server's address cannot be seen", _FAR_DELAY)
    if is_next_to_us(server):
        return Finding("mount-network", Grade.GOOD, f"{server} is reached without a router")
    via = f" from {mine}" if mine else ""
    return Finding("mount-network", Grade.DOUBTFUL, f"{server} is reached through a router{via}", _FAR_DELAY)


def is_next_to_us(server: str, routes: str | None = None) -> bool:
    """Whether the kernel's IPv4 routes reach an address without a gateway; ``routes`` is as ``/proc/net/route``."""
    try:
        wanted = int(ipaddress.IPv4Address(server))
    except ValueError:
        return False
    if wanted >> 24 == 127:
        return True
    if routes is None:
        with open("/proc/net/route", encoding="ascii") as file:
            routes = file.read(1024 * 1024)
    best = (-1, False)
    for line in routes.splitlines()[1:]:
        fields = line.split()
        if len(fields) > 7:
            network, gateway, mask = (int.from_bytes(bytes.fromhex(fields[i])[::-1], "big") for i in (1, 2, 7))
            if wanted & mask == network:
                best = max(best, (mask, gateway == 0))
    return best[1]

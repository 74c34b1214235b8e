"""What can be found out about the mount beneath a store: the published practices for shares, each as a finding."""

from __future__ import annotations

from collections.abc import Sequence

from tintype.adapters.filesystem.bare_mount_point import examined_mount_point
from tintype.adapters.filesystem.directory import StoreDirectory
from tintype.adapters.filesystem.mount_table import Mount, MountTable
from tintype.adapters.filesystem.server_route import Reach, Routes
from tintype.adapters.filesystem.tree import Purpose
from tintype.ports.image_store import Finding, Grade

_NOT_FOR_PRODUCTION = {
    "tmpfs": "is in memory",
    "ramfs": "is in memory",
    "overlay": "belongs to a container, and may go with it",
}
_FAR_DELAY = "Mount from a server on the same layer-2 network: every millisecond counts for each call."


def examined_mount(directory: StoreDirectory) -> Sequence[Finding]:
    """The mount that holds the directory, and what guards it. Blocks."""
    with directory.tree.opened_root(Purpose.READ) as root:
        table = MountTable.of_this_process()
        mount = table.of(root)
    if mount is None:
        return (Finding("mount", Grade.BAD, "the directory is on no mount that this process sees"),)
    told = Finding("mount", Grade.GOOD, f"{mount.file_system} at {mount.mount_point}")
    found = [told, back_end(mount), _guarding(directory, mount)]
    if directory.guard is not None:
        found += [*examined_mount_point(mount, table), monitoring(is_watched=directory.is_watched)]
    if directory.guard is not None or mount.is_network:
        found.append(network(mount))
    if mount.file_system in ("nfs", "nfs4"):
        found += nfs_options(mount)
    return found


def nfs_options(mount: Mount) -> Sequence[Finding]:
    """How an NFS share is mounted."""
    return (_hardness(mount), _locking(mount), _writing(mount))


def back_end(mount: Mount) -> Finding:
    """Whether what keeps the bytes is made for production, as far as the mount table shows it."""
    said, advice = "", "Use a disk, or a share of a server that is made for production."
    if mount.file_system in _NOT_FOR_PRODUCTION:
        said = f"{mount.file_system} {_NOT_FOR_PRODUCTION[mount.file_system]}"
    elif mount.source.startswith("/dev/loop"):
        said = f"{mount.file_system} in a file that is used as a disk"
    elif mount.file_system in ("fuse", "fuseblk"):
        said = f"{mount.file_system}: which program serves it cannot be told"
        advice = "Look that it keeps what it says."
    if said:
        return Finding("back-end", Grade.DOUBTFUL, said, advice)
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


def monitoring(*, is_watched: bool) -> Finding:
    """Whether the mount is looked at while nobody uses it."""
    if not is_watched:
        return Finding("monitoring", Grade.BAD, "the background look at the mount has ended", "Restart the service.")
    said = "the mount is looked at in the background; whether somebody is called cannot be seen from here"
    return Finding("monitoring", Grade.GOOD, said, "Load deploy/alerts/stores.yml into Prometheus.")


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


def network(mount: Mount, routes: Routes | None = None) -> Finding:
    """Whether the server is on a network of this machine's own; what cannot be told is doubtful."""
    name = "mount-network"
    if not mount.is_network:
        return Finding(name, Grade.GOOD, f"{mount.file_system} is mounted from this machine, from no server")
    server = mount.option("addr")
    if not server:
        said = f"cannot be told: the mount table has no address of a server for {mount.file_system}"
        return Finding(name, Grade.DOUBTFUL, said, _FAR_DELAY)
    match (routes or Routes.of_this_machine()).reach(server):
        case Reach.NEAR:
            return Finding(name, Grade.GOOD, f"{server} is reached without a router, by this machine's routes")
        case Reach.ROUTED:
            return Finding(name, Grade.DOUBTFUL, f"{server} is reached through a router", _FAR_DELAY)
        case Reach.UNKNOWN:
            said = f"cannot be told: the routes to {server[:64]!r} lead into a tunnel, or are not this table's"
            return Finding(name, Grade.DOUBTFUL, said, _FAR_DELAY)

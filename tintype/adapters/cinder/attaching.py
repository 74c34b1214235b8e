"""Volumes on this host: the seam to os-brick, which knows how each kind of storage is connected.

What it connects is a path (iSCSI, Fibre Channel, NVMe-oF, NFS, local), or a file object (Ceph RBD through librbd).
"""

from __future__ import annotations

import contextlib
import importlib
import os
import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol

from tintype.domain.errors import ConfigurationError, StoreAccessDeniedError, StoreMissingError, StoreUnavailableError

SCAN_ATTEMPTS = 5
MAX_KEYRING_BYTES = 64 * 1024


class Device(Protocol):
    """A connected volume, used by one thread at a time. Each method blocks, and raises what the storage raises."""

    @property
    def is_zeroed(self) -> bool:
        """Whether what was never written is read as zeros."""
        ...

    @property
    def sees_extension(self) -> bool:
        """Whether it has the new size by itself once Cinder has extended the volume."""
        ...

    def size(self) -> int:
        """How many bytes there are now."""
        ...

    def read(self, offset: int, length: int) -> bytes:
        """As many bytes as there are."""
        ...

    def write(self, offset: int, data: bytes | memoryview) -> None:
        """All of ``data``."""
        ...

    def flush(self) -> None:
        """Make it durable."""
        ...


class Attaching(Protocol):
    """Connects volumes to this host. Blocking."""

    def properties(self) -> Mapping[str, Any]:
        """What Cinder must know of this host to let it attach: its initiators and addresses."""
        ...

    def connect(self, connection: Mapping[str, Any]) -> tuple[Device, object]:
        """Connect what Cinder's ``connection_info`` describes; the second is for :meth:`disconnect` alone."""
        ...

    def disconnect(self, connection: Mapping[str, Any], connected: tuple[Device, object]) -> None:
        """Undo :meth:`connect`."""
        ...


class PathDevice:
    """A block device or a file."""

    is_zeroed = False
    sees_extension = False

    def __init__(self, path: str) -> None:
        self._descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)

    @classmethod
    def read_only(cls, path: str) -> PathDevice:
        """For an attachment that cannot be written to."""
        device = cls.__new__(cls)
        device._descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        return device

    def size(self) -> int:
        """To the end, which is how a block device tells it as well."""
        return os.lseek(self._descriptor, 0, os.SEEK_END)

    def read(self, offset: int, length: int) -> bytes:
        """As many bytes as there are."""
        return os.pread(self._descriptor, length, offset)

    def write(self, offset: int, data: bytes | memoryview) -> None:
        """All of ``data``."""
        view = memoryview(data).cast("B")
        while view:
            written = os.pwrite(self._descriptor, view, offset)
            offset += written
            view = view[written:]

    def flush(self) -> None:
        """Make it durable."""
        os.fsync(self._descriptor)

    def close(self) -> None:
        """Before it is disconnected."""
        os.close(self._descriptor)


class FileObjectDevice:
    """What os-brick hands out for Ceph RBD: a file object over librbd, without a kernel device."""

    is_zeroed = True
    sees_extension = True

    def __init__(self, file: Any) -> None:
        self._file = file

    def size(self) -> int:
        """What librbd knows of it now; it hears of an extension by itself."""
        self._file.seek(0, os.SEEK_END)
        return int(self._file.tell())

    def read(self, offset: int, length: int) -> bytes:
        """As many bytes as there are."""
        self._file.seek(offset)
        return bytes(self._file.read(length))

    def write(self, offset: int, data: bytes | memoryview) -> None:
        """All of ``data``, in one write of librbd's."""
        self._file.seek(offset)
        self._file.write(bytes(data))

    def flush(self) -> None:
        """Make it durable."""
        self._file.flush()


class BrickAttaching:
    """os-brick. ``io_timeout_s``: after so long librbd gives up, which otherwise waits for ever."""

    def __init__(
        self,
        *,
        root_helper: str,
        host_address: str,
        multipath: bool,
        lock_path: Path | None,
        ceph_keyring: Path | None,
        io_timeout_s: float,
    ) -> None:
        """Set os-brick up for this process.

        Raises:
            ConfigurationError: it is not installed.
        """
        self._root_helper = root_helper
        self._address = host_address
        self._multipath = multipath
        self._keyring = ceph_keyring
        self._io_timeout_s = io_timeout_s
        self._connector = _set_up(lock_path)

    def properties(self) -> Mapping[str, Any]:
        """What os-brick finds out of this host."""
        found = self._connector.get_connector_properties(self._root_helper, self._address, self._multipath, False)
        return dict(found)

    def connect(self, connection: Mapping[str, Any]) -> tuple[Device, object]:
        """Connect through the connector of that kind of storage.

        Raises:
            StoreMissingError: the volume is encrypted, and what is written here would not be.
        """
        if connection.get("encrypted"):
            raise StoreMissingError("the volume type encrypts its volumes, which a store cannot write: choose another")
        properties = self._with_ceph_options(connection)
        information = self._factory(connection).connect_volume(properties)
        path = information["path"]
        path = path.decode() if isinstance(path, bytes) else path
        if not isinstance(path, str):
            return FileObjectDevice(path), information
        try:
            is_ro = connection.get("access_mode") == "ro"
            return (PathDevice.read_only(path) if is_ro else PathDevice(path)), information
        except OSError:
            self._factory(connection).disconnect_volume(properties, information, force=True, ignore_errors=True)
            raise

    def disconnect(self, connection: Mapping[str, Any], connected: tuple[Device, object]) -> None:
        """Close it, and disconnect."""
        device, information = connected
        if isinstance(device, PathDevice):
            device.close()
        self._factory(connection).disconnect_volume(self._with_ceph_options(connection), information)

    def _factory(self, connection: Mapping[str, Any]) -> Any:
        return self._connector.InitiatorConnector.factory(
            str(connection.get("driver_volume_type", "")).upper(),
            self._root_helper,
            use_multipath=self._multipath,
            device_scan_attempts=SCAN_ATTEMPTS,
            conn=dict(connection),
        )

    def _with_ceph_options(self, connection: Mapping[str, Any]) -> dict[str, Any]:
        """os-brick writes the keyring into Ceph's configuration, where the deadlines can follow it."""
        properties = dict(connection)
        if connection.get("driver_volume_type") != "rbd":
            return properties
        user = f"{properties.get('cluster_name', 'ceph')}.client.{properties.get('auth_username', '')}"
        path = self._keyring or Path("/etc/ceph") / f"{user.replace('/', '')}.keyring"
        try:
            with path.open() as file:
                text = file.read(MAX_KEYRING_BYTES)
        except OSError as exc:
            raise StoreAccessDeniedError(f"Ceph's keyring {path.name} cannot be read: {exc.strerror}") from exc
        seconds = max(1, round(self._io_timeout_s))
        limits = f"rados_osd_op_timeout = {seconds}\nrados_mon_op_timeout = {seconds}\nclient_mount_timeout = {seconds}"
        properties["keyring"] = f"{text.rstrip()}\n[global]\n{limits}\n"
        return properties


def _set_up(lock_path: Path | None) -> Any:
    try:
        with _without_eventlet():
            backend = importlib.import_module("oslo_service.backend")
            backend.init_backend(backend.BackendType.THREADING)
            os_brick = importlib.import_module("os_brick")
            privileged = importlib.import_module("os_brick.privileged")
            connector = importlib.import_module("os_brick.initiator.connector")
            configuration = importlib.import_module("oslo_config.cfg").CONF
            lockutils = importlib.import_module("oslo_concurrency.lockutils")
    except ImportError as exc:
        raise ConfigurationError(f"a store in Cinder needs the extra tintype[cinder]: {exc.name} is missing") from exc
    configuration([], project="tintype", default_config_files=[], default_config_dirs=[])
    lockutils.set_defaults(str(lock_path or _own_lock_path()))
    os_brick.setup(configuration)
    if os.geteuid() == 0:  # root needs no daemon of root's beside it
        privileged.default.set_client_mode(False)
        privileged.brick_privsep_hide_output.set_client_mode(False)
    return connector


@contextlib.contextmanager
def _without_eventlet() -> Iterator[None]:
    """os-brick's libraries import it where it is installed, and do without it elsewhere: it hooks into every fork."""
    is_there = "eventlet" in sys.modules
    if not is_there:
        sys.modules["eventlet"] = None  # type: ignore[assignment]
    try:
        yield
    finally:
        if not is_there:
            del sys.modules["eventlet"]


def _own_lock_path() -> Path:
    path = Path(tempfile.gettempdir()) / f"tintype-os-brick-{os.geteuid()}"
    path.mkdir(mode=0o700, exist_ok=True)
    found = path.lstat()
    if found.st_uid != os.geteuid() or found.st_mode & 0o077:
        raise StoreUnavailableError(f"{path} belongs to somebody else: set lock_path")
    return path

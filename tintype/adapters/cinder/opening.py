"""A store in Cinder as its settings say."""

from __future__ import annotations

from tintype.adapters.cinder.attaching import BrickAttaching
from tintype.adapters.cinder.client import CinderClient
from tintype.adapters.cinder.settings import CinderStoreSettings
from tintype.adapters.cinder.store import CinderImageStore


def open_cinder(name: str, settings: CinderStoreSettings) -> CinderImageStore:
    """The store; nothing is asked of Cinder yet.

    Raises:
        ConfigurationError: a file that the settings name cannot be used, or os-brick is not installed.
    """
    attaching = BrickAttaching(
        root_helper=settings.root_helper,
        host_address=settings.host_address,
        multipath=settings.multipath,
        lock_path=settings.lock_path,
        ceph_keyring=settings.ceph_keyring,
        io_timeout_s=settings.timeout_s,
    )
    return CinderImageStore(
        name,
        CinderClient(name, settings),
        attaching,
        volume_type=settings.volume_type,
        timeout_s=settings.timeout_s,
        wait_s=settings.wait_s,
        lease_s=settings.lease_s,
        max_attachments=settings.max_attachments,
        probe_attach=settings.probe_attach,
    )

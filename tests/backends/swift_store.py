"""Swift stores for tests: containers that nobody else has, of a real Swift."""

from __future__ import annotations

import uuid
from pathlib import Path
from typing import Any

from tests.backends.swift import KEY, USER, SwiftCluster
from tintype.adapters.swift.settings import SwiftStoreSettings


def private_file(path: Path, text: str) -> Path:
    """A file that nobody else may read."""
    path.touch(mode=0o600)
    path.write_text(text)
    return path


def swift_settings(cluster: SwiftCluster, directory: Path, **changes: Any) -> SwiftStoreSettings:
    """Two new containers, which the store makes, small segments and short waits; secrets are in ``directory``."""
    told = {
        "type": "swift",
        "container": f"test-{uuid.uuid4().hex[:12]}",
        "create_containers": True,
        "auth": "v1",
        "auth_url": cluster.auth_url,
        "username": USER,
        "password_file": private_file(directory / "swift-key", KEY),
        "segment_size_mib": 1,
        "lease_s": 2,
        "timeout_s": 10.0,
    }
    return SwiftStoreSettings.model_validate(told | changes)

"""Runs in Swift's own environment: writes the rings of a cluster of one account, container and object server each."""

from __future__ import annotations

import sys
from pathlib import Path

PART_POWER = 2


def main(directory: str, *servers: str) -> None:
    """Write ``DIRECTORY/NAME.ring.gz`` for each ``NAME=PORT``."""
    from swift.common.ring import RingBuilder

    for server in servers:
        name, _, port = server.partition("=")
        builder = RingBuilder(PART_POWER, replicas=1, min_part_hours=0)
        builder.add_dev(
            {"id": 0, "region": 1, "zone": 1, "ip": "127.0.0.1", "port": int(port), "device": "disk", "weight": 1.0}
        )
        builder.rebalance(seed=1)
        builder.get_ring().save(str(Path(directory) / f"{name}.ring.gz"))


if __name__ == "__main__":
    main(*sys.argv[1:])

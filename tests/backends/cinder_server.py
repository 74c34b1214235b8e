"""Runs in Cinder's own environment: its API, scheduler and volume service in one process, without a message broker.

Arguments: a configuration file, and ``--make-database`` for nothing but that.
"""

from __future__ import annotations

import sys
from typing import Any

from cinder import monkey_patch

monkey_patch.patch()

import eventlet  # noqa: E402
from cinder import coordination, objects, rpc, service, utils, version  # noqa: E402
from cinder.cmd import volume as _volume_options  # noqa: E402, F401
from cinder.common import config  # noqa: E402
from oslo_config import cfg  # noqa: E402
from oslo_log import log  # noqa: E402


def main(path: str, *options: str) -> None:
    """Serve until ended."""
    conf = cfg.CONF
    objects.register_all()
    conf(["--config-file", path], project="cinder", version=version.version_string())
    config.set_middleware_defaults()
    log.setup(conf, "cinder")
    utils.monkey_patch()
    if "--make-database" in options:
        from cinder.db import migration

        migration.db_sync()
        return
    coordination.COORDINATOR.start()
    rpc.init(conf)
    services: list[Any] = []
    for backend in conf.enabled_backends:
        conf.register_opt(cfg.StrOpt("backend_host"), group=backend)
        volume = service.Service.create(
            host=f"{conf.host}@{backend}",
            service_name=backend,
            binary="cinder-volume",
            coordination=True,
            report_interval=2,
        )
        volume.start()
        services.append(volume)
    scheduler = service.Service.create(binary="cinder-scheduler", report_interval=2)
    eventlet.spawn(scheduler.start)  # it waits for the volume service's answer, which this process gives
    api = service.WSGIService("osapi_volume")
    api.start()
    services += [scheduler, api]
    while True:
        eventlet.sleep(3600)


if __name__ == "__main__":
    main(*sys.argv[1:])

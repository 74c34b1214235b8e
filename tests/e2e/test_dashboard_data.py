"""After one import the dashboard has data: a real Prometheus scrapes the stack, and is asked what each panel asks."""

from __future__ import annotations

import math
import os
import re
import time
import uuid
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest

import tintype.client
from tests.backends.ports import free_port
from tests.backends.prometheus import Prometheus, prometheus_server
from tests.e2e.conftest import ENVIRONMENT
from tests.e2e.roads import downloaded, imported
from tests.e2e.stack import Stack
from tests.e2e.web_source import web_source
from tests.packaging.test_alert_rules import RULES
from tests.packaging.test_dashboard import BOARD, PANELS
from tintype.client import ImportMethod, NotFoundError, OperationFailedError
from tintype.embedded.stack_settings import SERVICES

pytestmark = [pytest.mark.nats, pytest.mark.prometheus, pytest.mark.qemu, pytest.mark.sandbox]

DEADLINE_S = 75
"""Some gauges are told every half minute."""

NEEDS_MORE = {"Calls that fail, by reason", "Calls that were made again", "Ended by the jail"}
"""Panels that have nothing to show here: no store fails, and no tool is killed."""

OF_THE_MACHINE = {"TintypeCallsSlow", "TintypeLogAppendsSlow", "TintypeLoopStalls", "TintypeStoreNearlyFull"}
"""Alerts that a machine with much else to do, or a full disk, may give a reason for."""

CONVERTS = {"TINTYPE_CONVERTER__OUTPUT_FORMAT": "qcow2"}
"""By qemu-img in the jail."""

MIB = 1024 * 1024
LABEL_VALUES = re.compile(r"label_values\((.+), (\w+)\)")


@pytest.fixture(scope="module")
def targets() -> dict[str, list[str]]:
    """Where each service serves its metrics, by Prometheus' job."""
    return {f"tintype-{service}": [f"127.0.0.1:{free_port()}"] for service in SERVICES}


@pytest.fixture(scope="module")
def measured(targets: dict[str, list[str]], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """A stack that serves its metrics; its certificates are measured, too."""
    ports = {f"TINTYPE_{job.removeprefix('tintype-').upper()}__METRICS_LISTEN": at for job, (at,) in targets.items()}
    running = Stack(tmp_path_factory.mktemp("measured"), {**ENVIRONMENT, **ports, **CONVERTS}, ("--tls",))
    running.start()
    yield running
    assert running.stop() == 0


@pytest.fixture(scope="module")
def prometheus(
    measured: Stack, targets: dict[str, list[str]], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Prometheus]:
    """A server that has scraped every service at least once."""
    with prometheus_server(tmp_path_factory.mktemp("prometheus"), targets) as server:
        within_deadline(lambda: [] if len(server.query("up == 1")) == len(targets) else ["up"])
        yield server


def within_deadline(missing: Callable[[], list[str]]) -> None:
    """Ask until nothing is missing."""
    deadline = time.monotonic() + DEADLINE_S
    while found := missing():
        assert time.monotonic() < deadline, f"no data: {found}"
        time.sleep(0.5)


def as_asked(expression: str) -> str:
    """The expression as Grafana asks it, with all services and instances chosen."""
    return expression.replace("$__rate_interval", "1m").replace('"$job"', '".+"').replace('"$instance"', '".+"')


def without_data(server: Prometheus, begin: float, panels: Iterable[dict[str, Any]]) -> list[str]:
    """The panels whose graphs are empty since a moment; NaN is not drawn."""
    return [
        panel["title"]
        for panel in panels
        for target in panel["targets"]
        if not any(map(math.isfinite, server.values_since(begin, as_asked(target["expr"]))))
    ]


async def test_every_panel_has_data_after_one_import(measured: Stack, prometheus: Prometheus, tmp_path: Path) -> None:
    begin = time.time()
    async with tintype.client.connect(measured.client_config) as client:
        image = await imported(client, tmp_path, os.urandom(4 * MIB), "raw")
        await downloaded(client, image, tmp_path)
        refused = await client.images.create(name="refused", disk_format="raw", container_format="bare")
        with web_source(tmp_path) as url:
            operation = await client.images.import_(
                refused.id, method=ImportMethod.WEB_DOWNLOAD, uri=f"{url}/what-is-not-there"
            )
            with pytest.raises(OperationFailedError):
                await client.operations.wait(operation, timeout_s=DEADLINE_S)
        with pytest.raises(NotFoundError):
            await client.images.get(str(uuid.uuid4()))
    shown = [panel for panel in PANELS if panel["title"] not in NEEDS_MORE]
    within_deadline(lambda: without_data(prometheus, begin, shown))


def test_what_may_be_chosen_above_the_dashboard_is_there(prometheus: Prometheus, targets: dict[str, list[str]]) -> None:
    queries = {each["name"]: each["definition"] for each in BOARD["templating"]["list"] if "definition" in each}
    found = {}
    for name, query in queries.items():
        ((series, label),) = LABEL_VALUES.findall(as_asked(query))
        found[name] = sorted(prometheus.label_values(label, series))
    assert found == {"job": sorted(targets), "instance": sorted(address for (address,) in targets.values())}


def test_no_alert_fires_on_a_stack_that_is_well(prometheus: Prometheus) -> None:
    """An import that failed is its sender's affair."""
    firing = {rule["alert"]: prometheus.query(rule["expr"]) for rule in RULES if rule["alert"] not in OF_THE_MACHINE}
    assert {name: samples for name, samples in firing.items() if samples} == {}

"""What a running stack tells Prometheus: every metric that there is, and what an import has changed."""

from __future__ import annotations

import asyncio
import json
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from prometheus_client.metrics import MetricWrapperBase
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.samples import Sample

from tests.e2e.roads import DEADLINE_S, downloaded, imported
from tests.e2e.stack import SERVICES, Stack
from tintype.client import Client, OperationFailedError
from tintype.runtime import metrics

ABSENT = {
    "tintype_certificate_expiry_timestamp_seconds",
    "tintype_reload_failures",
    "tintype_reload_ok",
    "tintype_steps_waiting",
}
"""What a stack without a key manager that is away, and without certificates, has nothing to tell of."""


def samples(stack: Stack) -> Iterator[tuple[str, Sample]]:
    """All samples of all services, with the service's name."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    for service in SERVICES:
        if service != "nats":
            lines = (stack.data / "logs" / f"{service}.log").read_text().splitlines()
            told = [json.loads(line)["metrics"] for line in lines if '"probes are answered"' in line]
            with opener.open(f"http://{told[-1]}/metrics", timeout=DEADLINE_S) as answer:
                text = answer.read().decode()
            yield from ((service, each) for family in text_string_to_metric_families(text) for each in family.samples)


def value(stack: Stack, name: str, **labels: str) -> float:
    """The sum of all series of that name with these labels, over all services."""
    return sum(each.value for _, each in samples(stack) if each.name == name and labels.items() <= each.labels.items())


async def grows(read: Callable[[], float], before: float, least: float = 1) -> None:
    """Wait until a value has grown by so much."""
    deadline = time.monotonic() + DEADLINE_S
    while (now := await asyncio.to_thread(read)) < before + least:
        assert time.monotonic() < deadline, f"it was {before}, and is {now}"
        await asyncio.sleep(0.1)


async def test_an_import_is_seen_in_the_metrics_of_every_service(
    stack: Stack, client: Client, disks: Path, tmp_path: Path
) -> None:
    source = (disks / "disk.qcow2").read_bytes()
    asked: list[tuple[str, dict[str, str], float]] = [
        ("tintype_rpc_seconds_count", {"method": "ImportImage", "code": "OK"}, 1),
        ("tintype_rpc_seconds_count", {"method": "Read", "code": "OK"}, 1),
        *(
            ("tintype_step_seconds_count", {"step": step, "outcome": "done"}, 1)
            for step in ("stage", "verify", "convert", "attest", "publish")
        ),
        ("tintype_bytes_total", {"road": "web_download"}, len(source)),
        ("tintype_bytes_total", {"road": "conversion"}, len(source)),
        ("tintype_bytes_total", {"road": "download"}, 48 * 1024 * 1024),
        ("tintype_log_append_seconds_count", {}, 7),
        ("tintype_store_written_bytes_total", {}, len(source)),
        ("tintype_projection_position", {}, 7),
    ]
    before = [value(stack, name, **labels) for name, labels, _ in asked]
    await downloaded(client, await imported(client, tmp_path, source, "qcow2"), tmp_path)
    for (name, labels, least), was in zip(asked, before, strict=True):
        await grows(lambda name=name, labels=labels: value(stack, name, **labels), was, least)  # type: ignore[misc]


async def test_every_metric_is_told_by_a_service(stack: Stack, client: Client, disks: Path, tmp_path: Path) -> None:
    await imported(client, tmp_path, (disks / "disk.qcow2").read_bytes(), "qcow2")
    with pytest.raises(OperationFailedError):
        await imported(client, tmp_path, b"no disk at all", "qcow2")
    # The converter has asked it for its version.
    assert value(stack, "tintype_jail_runs_total", tool="qemu-img", outcome="ok") >= 1
    known = {
        family.name
        for instrument in vars(metrics).values()
        if isinstance(instrument, MetricWrapperBase)
        for family in instrument.describe()
    }
    deadline = time.monotonic() + DEADLINE_S
    while missing := known - ABSENT - {each.name for each in await asyncio.to_thread(told, stack)}:
        assert time.monotonic() < deadline, f"nobody tells {sorted(missing)}"
        await asyncio.sleep(0.1)


def told(stack: Stack) -> list[Sample]:
    """All samples by the name of their family."""
    endings = ("_total", "_count", "_sum", "_bucket", "_created")
    found = []
    for _, each in samples(stack):
        ending = next((end for end in endings if each.name.endswith(end)), "")
        found.append(each._replace(name=each.name.removesuffix(ending)))
    return found

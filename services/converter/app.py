"""The converter's parts, put together."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from dataclasses import replace
from functools import partial
from pathlib import Path

from prometheus_client import REGISTRY

from services.converter.converting import Converting
from services.converter.qemu_img import qemu_img_version
from services.converter.scratch import own_scratch
from services.converter.servicer import ConverterServicer
from services.converter.settings import ConverterSection, ConverterSettings
from services.converter.steps import Converter
from tintype.adapters.event_log import open_event_log
from tintype.adapters.stores import open_stores
from tintype.api.converter.v1 import converter_pb2, converter_pb2_grpc
from tintype.domain.events import ImageVerified, Step
from tintype.runtime.clock import SystemClock
from tintype.runtime.jail import detect_sandbox
from tintype.runtime.metrics import JAIL_RUNS
from tintype.runtime.service import Service
from tintype.runtime.store_states import StoreStateTeller
from tintype.runtime.worker import Worker


async def build(settings: ConverterSettings, stack: AsyncExitStack) -> Service:
    """The converter: one worker for CONVERT, and its servicer.

    Raises:
        ConfigurationError: qemu-img or the sandbox does not run, or a store is set up wrongly.
    """
    own = settings.converter
    scratch_dir = stack.enter_context(own_scratch(own.scratch_dir))
    converting = await _converting(own, scratch_dir)
    teller = StoreStateTeller("converter")
    opening = open_stores(settings.stores, settings.default_store, registry=REGISTRY, on_state=teller.note)
    stores = await stack.enter_async_context(opening)
    opened = await stack.enter_async_context(open_event_log(settings.nats, settings.tls, client_name="converter"))
    states = await opened.store_states()
    worker = Worker(
        name="converter",
        event_log=opened.log,
        clock=SystemClock(),
        steps={Step.CONVERT: Converter(stores, converting).convert_image},
        types=(ImageVerified,),
        settings=own.worker,
    )
    servicer = ConverterServicer(converting)
    return Service(
        registrations=[partial(converter_pb2_grpc.add_ConverterServiceServicer_to_server, servicer)],
        service_names=[converter_pb2.DESCRIPTOR.services_by_name["ConverterService"].full_name],
        background={"worker": worker.run, "store states": partial(teller.run, states)},
        health_checks={
            "event log": opened.check,
            "stores": stores.check,
        },
        part_checks={f"store {name}": store.check for name, store in stores.by_name.items()},
        roll_call=opened.roll_call,
    )


async def _converting(own: ConverterSection, scratch_dir: Path) -> Converting:
    # Even where nothing is converted the disks' file systems are read, by a tool that has to be confined.
    sandbox = await asyncio.to_thread(detect_sandbox, unsafe_no_sandbox=own.unsafe_no_sandbox)
    sandbox = replace(sandbox, on_end=lambda tool, outcome: JAIL_RUNS.labels(tool, outcome).inc())
    version = await qemu_img_version(sandbox) if own.preferred_format is not None else None
    return Converting(own.preference, own.limits, scratch_dir, sandbox, version)

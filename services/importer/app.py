"""The importer's parts, put together."""

from __future__ import annotations

import time
from collections.abc import Mapping
from contextlib import AsyncExitStack
from functools import partial

from prometheus_client import REGISTRY

from services.importer.admin import ADMIN_SERVICE_NAME, ImporterAdminServicer
from services.importer.background_scrub import BackgroundScrub
from services.importer.downloads import Downloads
from services.importer.fan_out import all_left
from services.importer.locations import Locations
from services.importer.origins import Origins
from services.importer.placing import Placing
from services.importer.publishing import Publishing
from services.importer.purging import Purging
from services.importer.scrubbing import Scrubber
from services.importer.servicer import SERVICE_NAME, ImporterServicer, register
from services.importer.settings import ImporterSettings
from services.importer.sources.http import WebSource
from services.importer.staging import Staging
from services.importer.store_listing import StoreListing
from services.importer.sweep import Sweeper
from services.importer.uploads import Uploads
from tintype.adapters.event_log import open_event_log
from tintype.adapters.stores import Stores, open_stores
from tintype.api.importer.v1 import importer_pb2_grpc
from tintype.domain.events import (
    CopyRemoved,
    CopyRequested,
    Event,
    ImageAttested,
    ImageDeleted,
    ImageExpired,
    ImagePlaced,
    ImagePublished,
    ImageStaged,
    ImageStepFailed,
    ImportRequested,
    Step,
)
from tintype.ports.clock import Clock
from tintype.ports.event_log import EventLog
from tintype.runtime.clock import SystemClock
from tintype.runtime.journal import Journal
from tintype.runtime.service import Service
from tintype.runtime.store_states import StoreStateTeller
from tintype.runtime.worker import Worker

PUBLISHERS: Mapping[str, type[Event]] = {"publisher": ImageAttested, "placed-publisher": ImagePlaced}
"""The workers for PUBLISH, and what may make it the next step.

The queue "publisher" is older than copies. Where replicas of an older release run beside this one, each sets the
queue's filter back to its own events whenever it connects, so that one of them may pass by ImagePlaced for good. That
event therefore has a queue that they do not know, and what is left of theirs is what they would be handed too.
"""

PURGER_EVENTS = (
    ImageStaged,
    ImagePlaced,
    ImagePublished,
    ImageStepFailed,
    CopyRemoved,
    ImageDeleted,
    ImageExpired,
)
"""What may make PURGE the next step, or bytes unwanted."""


async def build(settings: ImporterSettings, stack: AsyncExitStack) -> Service:
    """The importer: workers for STAGE, PLACE, PUBLISH and PURGE, uploads, downloads, the sweep and the scrub.

    Raises:
        ConfigurationError: a store or the log is set up wrongly.
        StoreUnavailableError, EventLogUnavailableError: it does not answer.
    """
    teller = StoreStateTeller("importer")
    opening = open_stores(settings.stores, settings.default_store, registry=REGISTRY, on_state=teller.note)
    stores = await stack.enter_async_context(opening)
    opened = await stack.enter_async_context(open_event_log(settings.nats, settings.tls, client_name="importer"))
    states = await opened.store_states()
    clock = SystemClock()
    own = settings.importer
    journal = Journal(opened.log, clock)
    stack.push_async_callback(all_left, own.worker.lease_s)
    uploads = Uploads(journal, stores, own.policy, own.upload_limits, monotonic=time.monotonic)
    stack.push_async_callback(uploads.aclose)
    sweeper = Sweeper(journal, stores, clock, own.sweep_limits)
    listing = StoreListing(stores)
    locations = Locations(journal, stores, own.location_rules)
    servicer = ImporterServicer(uploads, Downloads(journal, stores), own.plugins, listing, locations)
    scrubber = Scrubber(journal, stores)
    admin = ImporterAdminServicer(scrubber, opened.log, listing, sweeper)
    return Service(
        registrations=[
            partial(register, servicer),
            partial(importer_pb2_grpc.add_ImporterAdminServiceServicer_to_server, admin),
        ],
        service_names=[SERVICE_NAME, ADMIN_SERVICE_NAME],
        background={
            "worker": make_stager(settings, opened.log, clock, stores).run,
            "placer": make_placer(settings, opened.log, clock, stores).run,
            **{name: make_publisher(name, settings, opened.log, clock, stores).run for name in PUBLISHERS},
            "purger": make_purger(settings, opened.log, clock, stores, sweeper).run,
            "uploads": uploads.run,
            "sweep": sweeper.run,
            "store states": partial(teller.run, states),
            "scrub": BackgroundScrub(scrubber, opened.log, own.scrub_limits).run,
        },
        health_checks={
            "event log": opened.check,
            "stores": stores.check,
        },
        part_checks={f"store {name}": store.check for name, store in stores.by_name.items()},
        roll_call=opened.roll_call,
    )


def make_stager(settings: ImporterSettings, log: EventLog, clock: Clock, stores: Stores) -> Worker:
    """The worker that downloads."""
    own = settings.importer
    source = WebSource(own.rules, own.web_limits)
    staging = Staging(source, stores, own.policy, Journal(log, clock), Origins(source, clock))
    return Worker(
        name="importer",
        event_log=log,
        clock=clock,
        steps={Step.STAGE: staging.stage_image},
        types=(ImportRequested,),
        settings=own.worker,
    )


def make_placer(settings: ImporterSettings, log: EventLog, clock: Clock, stores: Stores) -> Worker:
    """The worker that copies: in a queue of its own, so that slow stores hold up nothing else."""
    return Worker(
        name="placer",
        event_log=log,
        clock=clock,
        steps={Step.PLACE: Placing(Journal(log, clock), stores).place_image},
        types=(ImageAttested, CopyRequested),
        settings=settings.importer.worker,
    )


def make_publisher(name: str, settings: ImporterSettings, log: EventLog, clock: Clock, stores: Stores) -> Worker:
    """A worker that takes the last look: in a queue of its own, so that slow web servers do not hold it up."""
    return Worker(
        name=name,
        event_log=log,
        clock=clock,
        steps={Step.PUBLISH: Publishing(stores).publish_image},
        types=(PUBLISHERS[name],),
        settings=settings.importer.worker,
    )


def make_purger(settings: ImporterSettings, log: EventLog, clock: Clock, stores: Stores, sweeper: Sweeper) -> Worker:
    """The worker that removes: in a queue of its own, so that a store which is away holds up nothing else."""
    return Worker(
        name="purger",
        event_log=log,
        clock=clock,
        steps={Step.PURGE: Purging(stores).purge_image},
        types=PURGER_EVENTS,
        settings=settings.importer.worker,
        observer=sweeper.observe,
    )

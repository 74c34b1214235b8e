"""The status of a deployment over the wire, and what is said to be wrong with it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta

import pytest

from tests.unit.client.conftest import no_sleep
from tests.unit.client.fake_services import NOW, FakeServices, operation, store
from tintype.api.catalog.v1 import catalog_pb2 as pb
from tintype.api.importer.v1 import importer_pb2
from tintype.api.runtime.v1 import runtime_pb2
from tintype.api.types.v1 import types_pb2
from tintype.client import Client, ClientConfig, Failure, Grade, SystemStatus
from tintype.client.transport import Transport
from tintype.codec import values

NAMES = ("catalog", "importer", "converter", "signer")
AWAY = types_pb2.Failure(reason="EVENT_LOG_UNAVAILABLE", message="NATS does not answer", retryable=True)


@pytest.fixture
async def client(services: FakeServices) -> AsyncIterator[Client]:
    """A client that knows one address, behind which all services are."""
    transport = Transport(ClientConfig(endpoint=services.target, actor="tester"), sleep=no_sleep)
    yield Client(transport)
    await transport.close()


def info(
    service: str, instance: str = "a/1", *checks: runtime_pb2.Check, version: str = "1"
) -> runtime_pb2.ServiceInfo:
    """A replica that is ready, unless a required check of its fails."""
    return runtime_pb2.ServiceInfo(
        service=service,
        version=version,
        instance=instance,
        started_at=values.encode_time(NOW),
        ready=all(check.ok or not check.required for check in checks),
        checks=checks,
    )


def check(name: str, failure: types_pb2.Failure | None = None, *, required: bool = True) -> runtime_pb2.Check:
    return runtime_pb2.Check(
        name=name, ok=failure is None, required=required, failure=failure, since=values.encode_time(NOW)
    )


@pytest.fixture
def well(services: FakeServices) -> FakeServices:
    """A deployment in which all is well."""
    services.infos = {name: info(name) for name in NAMES}
    services.stores = [store("main", is_default=True)]
    services.status = pb.SystemStatus(
        log=pb.LogStatus(server_version="2.15.1", head=7, newest_at=values.encode_time(NOW), size=100, replicas=1),
        projection=pb.ProjectionStatus(position=7, caught_up=True, lag_events=0, lag_seconds=0),
        work=pb.WorkStatus(queues=[pb.WorkQueue(name="importer", waiting_workers=1)]),
        images=pb.ImagesStatus(counts=[pb.StatusCount(status=types_pb2.STATUS_ACTIVE, images=3)]),
        replicas=pb.ReplicasStatus(services=services.infos.values()),
    )
    return services


def told(status: SystemStatus) -> list[tuple[str, str, str]]:
    """What is wrong, in few words."""
    return [(problem.grade.value, problem.part, problem.reason) for problem in status.problems]


async def test_where_all_is_well_nothing_is_wrong_and_everything_is_known(client: Client, well: FakeServices) -> None:
    status = await client.admin.status()

    assert (status.grade, status.problems, status.unknown) == (Grade.GOOD, (), {})
    assert {service.service: (service.answers, service.ready) for service in status.services} == dict.fromkeys(
        NAMES, (True, True)
    )
    assert all(service.address == well.target and service.versions == ("1",) for service in status.services)
    assert status.log is not None and (status.log.head, status.log.newest_at) == (7, NOW)
    assert status.images == {"active": 3}
    assert status.queues is not None and status.queues[0].waiting_workers == 1


async def test_a_service_that_is_away_hides_no_other(services: FakeServices, well: FakeServices) -> None:
    config = ClientConfig(catalog=services.target, importer="127.0.0.1:1", signer=services.target)
    transport = Transport(config)
    status = await Client(transport).admin.status()
    await transport.close()

    assert told(status) == [("bad", "importer", "UNAVAILABLE")]
    assert "127.0.0.1:1" in status.problems[0].message
    assert status.services[0].service == "importer"
    assert [(each.service, each.answers) for each in status.services[1:]] == [
        ("catalog", True),
        ("signer", True),
        ("converter", False),  # the configuration does not say where it is; the roll call knows that it is there
    ]
    assert status.stores is None
    assert status.unknown["stores"].message == "the importer does not answer"
    assert status.images == {"active": 3}


async def test_while_the_catalog_is_away_the_others_are_shown(services: FakeServices, well: FakeServices) -> None:
    config = ClientConfig(catalog="127.0.0.1:1", importer=services.target, converter=services.target)
    transport = Transport(config)
    status = await Client(transport).admin.status()
    await transport.close()

    assert told(status) == [("bad", "catalog", "UNAVAILABLE")]
    assert {service.service for service in status.services if service.ready} == {"importer", "converter"}
    assert (status.log, status.projection, status.queues, status.images, status.operations) == (None,) * 5
    assert status.stores is not None and status.stores[0].name == "main"


async def test_a_service_that_is_not_ready_says_why(client: Client, well: FakeServices) -> None:
    well.unready = {"signer"}
    well.infos["signer"] = info("signer", "a/1", check("event log", AWAY))
    status = await client.admin.status()

    assert told(status) == [("bad", "signer", "EVENT_LOG_UNAVAILABLE")]
    assert status.problems[0].message == "event log: NATS does not answer"
    assert not status.services[0].ready


async def test_a_service_that_is_not_ready_is_told_also_where_it_does_not_say_why(
    client: Client, well: FakeServices
) -> None:
    well.unready = {"signer"}

    assert told(await client.admin.status()) == [("bad", "signer", "NOT_READY")]


async def test_trouble_that_all_have_alike_is_told_once(client: Client, well: FakeServices) -> None:
    well.unready = set(NAMES)
    well.infos = {name: info(name, "a/1", check("event log", AWAY)) for name in NAMES}
    well.status.replicas.Clear()
    (problem,) = (await client.admin.status()).problems

    assert problem.part == "catalog, importer, converter, signer"


async def test_a_release_that_tells_nothing_of_itself_is_seen_by_its_health(client: Client, well: FakeServices) -> None:
    del well.infos["converter"]
    status = await client.admin.status()

    assert told(status) == [("doubtful", "converter", "INTERNAL")]
    assert next(each.ready for each in status.services if each.service == "converter")


async def test_a_failing_part_of_a_replica_is_told_with_the_replica(client: Client, well: FakeServices) -> None:
    lame = info("importer", "b/2", check("store other", AWAY, required=False))
    well.status.replicas.services.append(lame)
    (problem,) = (await client.admin.status()).problems

    assert (problem.part, problem.message) == ("importer", "store other: NATS does not answer (on b/2)")


async def test_a_stores_trouble_is_told_once(client: Client, well: FakeServices) -> None:
    missing = types_pb2.Failure(reason="STORE_MISSING", message="it is gone", hint="make it")
    well.stores = [store("main", mode=importer_pb2.STORE_MODE_AWAY, failure=missing, is_default=True)]
    well.infos["importer"] = info("importer", "a/1", check("store main", missing, required=False))
    well.status.replicas.Clear()
    status = await client.admin.status()

    assert told(status) == [("bad", "store main", "STORE_MISSING")]
    assert status.problems[0].hint == "make it"


async def test_a_store_that_is_no_default_one_may_be_read_only(client: Client, well: FakeServices) -> None:
    well.stores = [store("main", is_default=True), store("old", mode=importer_pb2.STORE_MODE_READ_ONLY)]

    assert told(await client.admin.status()) == [("doubtful", "store old", "STORE_READ_ONLY")]


async def test_several_versions_are_doubtful(client: Client, well: FakeServices) -> None:
    well.infos["signer"] = info("signer", version="2")
    well.status.replicas.Clear()
    (problem,) = (await client.admin.status()).problems

    assert (problem.grade, problem.reason) == (Grade.DOUBTFUL, "SEVERAL_VERSIONS")
    assert problem.message.endswith("1, 2")


@pytest.mark.parametrize(
    ("days", "problem"),
    [
        (-1, [("bad", "importer", "CERTIFICATE_EXPIRED")]),
        (13, [("doubtful", "importer", "CERTIFICATE_EXPIRES")]),
        (15, []),
    ],
)
async def test_a_certificate_is_told_of_before_it_expires(
    client: Client, well: FakeServices, days: int, problem: list[tuple[str, str, str]]
) -> None:
    end = datetime.now(UTC) + timedelta(days=days)
    certificate = runtime_pb2.Certificate(file="/tls/tls.crt", expires_at=values.encode_time(end))
    well.infos["importer"].certificates.append(certificate)
    well.status.replicas.Clear()

    assert told(await client.admin.status()) == problem


async def test_a_part_that_does_not_answer_is_told_and_hides_no_other(client: Client, well: FakeServices) -> None:
    well.status.log.CopyFrom(pb.LogStatus(failure=AWAY))
    well.status.work.CopyFrom(pb.WorkStatus(failure=AWAY))
    well.status.projection.ClearField("lag_events")
    well.status.projection.ClearField("lag_seconds")
    status = await client.admin.status()

    assert told(status) == [("bad", "log, queues", "EVENT_LOG_UNAVAILABLE")]
    assert (status.log, status.queues) == (None, None)
    assert status.unknown["log"] == Failure("EVENT_LOG_UNAVAILABLE", "NATS does not answer", "", True)
    assert status.projection is not None and status.projection.lag_events is None
    assert status.images == {"active": 3}


async def test_a_copy_of_the_log_that_is_offline_is_bad(client: Client, well: FakeServices) -> None:
    well.status.log.members.extend(
        [
            pb.LogReplica(name="n1", leader=True, current=True),
            pb.LogReplica(name="n2", offline=True),
            pb.LogReplica(name="n3", lag=5),
        ]
    )

    assert told(await client.admin.status()) == [
        ("bad", "log", "LOG_REPLICA_OFFLINE"),
        ("doubtful", "log", "LOG_REPLICA_BEHIND"),
    ]


async def test_a_log_without_a_leader_takes_nothing(client: Client, well: FakeServices) -> None:
    well.status.log.members.append(pb.LogReplica(name="n2", current=True))

    assert told(await client.admin.status()) == [("bad", "log", "LOG_LEADERLESS")]


@pytest.mark.parametrize(
    ("projection", "problem"),
    [
        (pb.ProjectionStatus(caught_up=True, lag_events=9, lag_seconds=29), []),
        (pb.ProjectionStatus(caught_up=True, lag_events=9, lag_seconds=31), [("bad", "projection", "PROJECTION_LAG")]),
        (pb.ProjectionStatus(lag_events=9), [("bad", "projection", "PROJECTION_LAG")]),
        (pb.ProjectionStatus(caught_up=True, parked_events=1), [("doubtful", "projection", "EVENTS_PARKED")]),
        (pb.ProjectionStatus(caught_up=True, rebuild_position=0), [("doubtful", "projection", "REBUILD_RUNS")]),
    ],
)
async def test_tables_that_are_behind_are_told(
    client: Client, well: FakeServices, projection: pb.ProjectionStatus, problem: list[tuple[str, str, str]]
) -> None:
    well.status.projection.CopyFrom(projection)

    assert told(await client.admin.status()) == problem


@pytest.mark.parametrize(
    ("queue", "problem"),
    [
        (pb.WorkQueue(name="q", pending=9, in_hand=4), []),
        (pb.WorkQueue(name="q", pending=9, waiting_workers=1), []),
        (pb.WorkQueue(name="q", pending=9), [("bad", "queue q", "QUEUE_ABANDONED")]),
        (pb.WorkQueue(name="q", in_hand=1, redelivered=1), [("doubtful", "queue q", "WORK_REPEATED")]),
    ],
)
async def test_a_queue_that_nobody_works_on_is_bad(
    client: Client, well: FakeServices, queue: pb.WorkQueue, problem: list[tuple[str, str, str]]
) -> None:
    well.status.work.CopyFrom(pb.WorkStatus(queues=[queue]))

    assert told(await client.admin.status()) == problem


async def test_failures_are_an_operators_trouble_only_where_the_deployment_failed(
    client: Client, well: FakeServices
) -> None:
    reasons = ("DIGEST_MISMATCH", "STORE_TIMEOUT", "A_REASON_OF_ANOTHER_RELEASE")
    well.status.operations.failures.extend(
        pb.FailureCount(reason=reason, operations=2, newest_at=values.encode_time(NOW)) for reason in reasons
    )
    status = await client.admin.status()

    assert told(status) == [("doubtful", "operations", "STORE_TIMEOUT")]
    assert status.operations is not None
    assert [failure.reason for failure in status.operations.failures] == list(reasons)


async def test_an_operation_that_waits_says_for_what(client: Client, well: FakeServices) -> None:
    waiting = operation("5e2f0a1c-0000-4000-8000-000000000000", step=types_pb2.STEP_VERIFY)
    waiting.progress.CopyFrom(
        types_pb2.Progress(
            image_id=waiting.image_id,
            project="default",
            operation_id=waiting.id,
            step=types_pb2.STEP_VERIFY,
            time=values.encode_time(NOW),
            waiting_for=types_pb2.Failure(reason="KEY_MANAGER_UNAVAILABLE", message="it is away"),
        )
    )
    well.status.operations.CopyFrom(pb.OperationsStatus(running=1, oldest=[waiting]))
    (problem,) = (await client.admin.status()).problems

    assert (problem.grade, problem.reason) == (Grade.DOUBTFUL, "KEY_MANAGER_UNAVAILABLE")
    assert problem.message == f"verify of image {waiting.image_id} waits: it is away"


async def test_who_is_no_administrator_is_told_so_once(client: Client, well: FakeServices) -> None:
    well.refuses_administrators = True
    status = await client.admin.status()

    assert [(problem.grade, problem.reason) for problem in status.problems] == [(Grade.BAD, "NOT_PERMITTED")]
    assert all(service.ready for service in status.services)
    assert status.stores is not None

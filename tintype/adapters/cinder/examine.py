"""What an operator should know of a Cinder before images are trusted to it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from tintype.adapters.cinder.attachment import Attachments
from tintype.adapters.cinder.client import MICROVERSION
from tintype.adapters.cinder.records import GIB
from tintype.adapters.cinder.volumes import Volumes
from tintype.domain.errors import BlobNotFoundError, StoreUnavailableError, TintypeError
from tintype.ports.image_store import Finding, Grade, StoreSpace

_INITIATORS = {"initiator": "iSCSI", "wwpns": "Fibre Channel", "nqn": "NVMe-oF"}


class Examination:
    """Looks at one store."""

    def __init__(self, volumes: Volumes, attachments: Attachments, volume_type: str) -> None:
        self._volumes = volumes
        self._attachments = attachments
        self._volume_type = volume_type

    async def findings(self, probe: Callable[[], Awaitable[None]] | None) -> list[Finding]:
        """All of them; what cannot be looked at because Cinder does not answer is left out."""
        access = await self._access()
        if access.grade is Grade.BAD:
            return [access]
        found = [access, await self._type(), await self._quota(), await self._connector()]
        return [*found, await self._attach(probe)] if probe is not None else found

    async def _access(self) -> Finding:
        try:
            await self._volumes.call("GET", "/volumes?limit=1")
        except TintypeError as exc:
            return Finding("access", Grade.BAD, exc.message, "Look at the credentials, the endpoint and the policies.")
        return Finding("access", Grade.GOOD, f"Cinder answers at version {MICROVERSION}")

    async def _type(self) -> Finding:
        wanted = self._volume_type or "default"
        try:
            described = await self._described_type(wanted)
        except TintypeError as exc:
            return Finding("volume-type", Grade.BAD, exc.message, "Look at volume_type, and at who may use it.")
        specs = described.get("extra_specs")
        said = str(specs.get("multiattach", "")) if isinstance(specs, Mapping) else ""
        if "true" in said.lower():
            return Finding("volume-type", Grade.GOOD, "its volumes can be attached to several hosts at once")
        advice = "Set the extra spec multiattach='<is> True' at the type, where the driver knows it."
        found = "its volumes can be attached once only: a reader waits for another host's to end"
        return Finding("volume-type", Grade.DOUBTFUL, found, advice)

    async def _described_type(self, wanted: str) -> Mapping[str, Any]:
        if wanted == "default":
            found = (await self._volumes.call("GET", "/types/default")).get("volume_type")
            return found if isinstance(found, Mapping) else {}
        types = (await self._volumes.call("GET", "/types?is_public=None")).get("volume_types")
        for one in types if isinstance(types, list) else ():
            if isinstance(one, Mapping) and wanted in (one.get("name"), one.get("id")):
                return one
        raise BlobNotFoundError(f"there is no volume type {wanted!r} that the service may use")

    async def _quota(self) -> Finding:
        try:
            space = await quota_space(self._volumes)
            volumes = await _limit(self._volumes, "maxTotalVolumes", "totalVolumesUsed")
        except TintypeError as exc:
            return Finding("quota", Grade.DOUBTFUL, exc.message)
        if (space and space.free < GIB) or volumes == 0:
            return Finding("quota", Grade.BAD, "no further volume fits into the project's quota", "Raise the quota.")
        left = "without bound" if space is None else f"{space.free // GIB} GiB"
        return Finding(
            "quota", Grade.GOOD, f"left of the quota: {left}, {'any' if volumes is None else volumes} volumes"
        )

    async def _connector(self) -> Finding:
        try:
            properties = await self._attachments.properties()
        except TintypeError as exc:
            return Finding("connector", Grade.BAD, exc.message, "Look at root_helper, and at os-brick's privileges.")
        kinds = [kind for name, kind in _INITIATORS.items() if properties.get(name)]
        return Finding(
            "connector", Grade.GOOD, f"os-brick works; this host has initiators of: {', '.join(kinds) or '-'}"
        )

    async def _attach(self, probe: Callable[[], Awaitable[None]]) -> Finding:
        try:
            await probe()
        except TintypeError as exc:
            return Finding(
                "attach", Grade.BAD, exc.message, "Look at Cinder's log, and at this host's way to the storage."
            )
        return Finding("attach", Grade.GOOD, "a volume was made, attached, written to and deleted")


async def quota_space(volumes: Volumes) -> StoreSpace | None:
    """What is left of the project's gigabytes; ``None`` where they are without bound.

    Raises:
        StoreUnavailableError: Cinder does not answer, or not so.
    """
    answer = await _absolute(volumes)
    total, used = answer.get("maxTotalVolumeGigabytes"), answer.get("totalGigabytesUsed")
    if not isinstance(total, int) or not isinstance(used, int):
        raise StoreUnavailableError(f"store {volumes.name!r}: Cinder's limits are not understood")
    return None if total < 0 else StoreSpace(max(0, min(total, total - used)) * GIB, total * GIB)


async def _limit(volumes: Volumes, most: str, used: str) -> int | None:
    answer = await _absolute(volumes)
    total, taken = answer.get(most), answer.get(used)
    return max(0, total - taken) if isinstance(total, int) and isinstance(taken, int) and total >= 0 else None


async def _absolute(volumes: Volumes) -> Mapping[str, Any]:
    limits = (await volumes.call("GET", "/limits")).get("limits")
    absolute = limits.get("absolute") if isinstance(limits, Mapping) else None
    return absolute if isinstance(absolute, Mapping) else {}

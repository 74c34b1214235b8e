"""Images: make, read, list, change, delete, import; and the entry to uploads, downloads, histories and watches."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Iterable, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from google.protobuf.field_mask_pb2 import FieldMask

from tintype.api.catalog.v1 import catalog_pb2 as pb
from tintype.api.types.v1 import types_pb2
from tintype.client import decoding, filters
from tintype.client.attributes import encode_checksums, encode_given, encode_placement, import_method
from tintype.client.copies import Copies
from tintype.client.custody import CustodyVerifier
from tintype.client.downloads import Downloads
from tintype.client.errors import InvalidRequestError
from tintype.client.models import (
    ContainerFormat,
    DiskFormat,
    Download,
    Image,
    ImageEvent,
    ImportMethod,
    OnProgress,
    Operation,
    Progress,
    PropertyValue,
    Provenance,
    SignedChecksums,
    Status,
    Trust,
    Upload,
    Verify,
    Visibility,
)
from tintype.client.naming import find_image
from tintype.client.signing import UploadSigner
from tintype.client.store_models import ImageLocation
from tintype.client.transport import Transport, new_request_id
from tintype.client.uploads import Uploads
from tintype.client.watching import watch_images
from tintype.codec import values

if TYPE_CHECKING:
    from tintype.trust.custody import Custody


class Images:
    """The images that the caller's project may see."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport
        self._uploads = Uploads(transport)
        self._copies = Copies(transport)
        self._verifier = CustodyVerifier(transport)
        self._downloads = Downloads(transport, self.get, self._verifier)

    async def create(
        self,
        name: str = "",
        *,
        image_id: str = "",
        disk_format: DiskFormat | str | None = None,
        container_format: ContainerFormat | str | None = None,
        visibility: Visibility | str | None = None,
        min_disk: int = 0,
        min_ram: int = 0,
        protected: bool = False,
        hidden: bool = False,
        tags: Sequence[str] = (),
        properties: Mapping[str, PropertyValue] | None = None,
        overrides: Mapping[str, PropertyValue] | None = None,
        request_id: str | None = None,
        validate_only: bool = False,
    ) -> Image:
        """Make an image without bytes. The same ``request_id`` twice makes one image.

        ``overrides`` are for administrators: what stands in them wins over properties, and over what will be read.

        Raises:
            InvalidRequestError: an attribute is out of bounds, or a property of another type.
            NotPermittedError: overrides are given, and the caller is no administrator.
            PreconditionError: ``kernel_id`` or ``ramdisk_id`` names an image that is not there, or of another kind.
            AlreadyExistsError: an image of that id exists, or has existed.
        """
        fields = encode_given(
            {
                "visibility": visibility,
                "disk_format": disk_format,
                "container_format": container_format,
                "name": name,
                "min_disk": min_disk,
                "min_ram": min_ram,
                "protected": protected,
                "hidden": hidden,
                "tags": tags,
            }
        )
        image = pb.Image(
            properties=values.encode_properties(properties or {}),
            overrides=values.encode_properties(overrides or {}),
            **fields,  # type: ignore[arg-type]
        )
        request = pb.CreateImageRequest(
            image=image, image_id=image_id, request_id=request_id or new_request_id(), validate_only=validate_only
        )
        return self._answer(await self._transport.call(self._transport.catalog.CreateImage, request))

    async def get(self, image_id: str, *, as_of: datetime | None = None) -> Image:
        """The image, as it is or as it was.

        Raises:
            NotFoundError: there is none of that id, or there was none then.
        """
        request = pb.GetImageRequest(
            image_id=image_id,
            min_position=self._transport.position,
            as_of=values.encode_time(as_of) if as_of else None,
        )
        return self._answer(await self._transport.call(self._transport.catalog.GetImage, request))

    async def list(
        self,
        *,
        name: str | None = None,
        status: Status | str | None = None,
        visibility: Visibility | str | None = None,
        owner: str | None = None,
        disk_format: DiskFormat | str | None = None,
        container_format: ContainerFormat | str | None = None,
        tags: Iterable[str] = (),
        hidden: bool | None = None,
        protected: bool | None = None,
        properties: Mapping[str, PropertyValue] | None = None,
        filter: str = "",
        order_by: str = "",
        limit: int | None = None,
        page_size: int = 100,
    ) -> AsyncGenerator[Image, None]:
        """Yield the images that all of the given words match, page by page as they are asked for.

        ``filter`` is an expression of the API (``size>=1073741824 AND properties.os_distro="debian"``), added to the
        words; ``order_by`` names fields, each with an optional `` desc``.

        Raises:
            InvalidRequestError: the filter or the order cannot be read.
        """
        terms = [("name", name), ("status", status), ("visibility", visibility), ("owner", owner)]
        terms += [("disk_format", disk_format), ("container_format", container_format)]
        flags = [("hidden", hidden), ("protected", protected)]
        tagged = [("tag", tag) for tag in tags]
        expression = filters.compose([*terms, *tagged, *flags], properties or {}, filter)
        left = limit
        token = ""
        while left is None or left > 0:
            size = page_size if left is None else min(page_size, left)
            answer = await self._page(expression, order_by, size, token)
            for message in answer.images:
                yield decoding.image(message)
            left = None if left is None else left - len(answer.images)
            token = answer.next_page_token
            if not token:
                return

    async def find(self, name_or_id: str) -> Image:
        """The image of that id, or else the only one of exactly that name.

        Raises:
            NotFoundError: there is none.
            ConflictError: reason ``NAME_NOT_UNIQUE``: several have that name; the message lists their ids.
        """
        return await find_image(name_or_id, self.get, self.list)

    async def update(
        self,
        image_id: str,
        *,
        name: str | None = None,
        visibility: Visibility | str | None = None,
        disk_format: DiskFormat | str | None = None,
        container_format: ContainerFormat | str | None = None,
        min_disk: int | None = None,
        min_ram: int | None = None,
        protected: bool | None = None,
        hidden: bool | None = None,
        tags: Sequence[str] | None = None,
        properties: Mapping[str, PropertyValue] | None = None,
        remove_properties: Iterable[str] = (),
        overrides: Mapping[str, PropertyValue] | None = None,
        clear_overrides: Iterable[str] = (),
        etag: str = "",
        request_id: str | None = None,
        validate_only: bool = False,
    ) -> Image:
        """Change what is given, and leave the rest. ``properties`` sets those that it names; ``tags`` replaces all.

        ``overrides`` and ``clear_overrides`` are for administrators: an override wins over the owner's property, and
        over what was read from the bytes; both stay visible, and count again once it is cleared. ``min_disk`` and
        ``min_ram`` can be overridden too. With ``etag`` only if the image is still as it was when that was read.

        Raises:
            NotFoundError: there is none of that id.
            NotPermittedError: it, or an override, is not the caller's to change.
            PreconditionError: that cannot change any more, or names an image that is not there, or of another kind.
            ConflictError: the etag is an older one.
        """
        fields = encode_given(
            {
                "name": name,
                "visibility": visibility,
                "disk_format": disk_format,
                "container_format": container_format,
                "min_disk": min_disk,
                "min_ram": min_ram,
                "protected": protected,
                "hidden": hidden,
                "tags": tags,
            }
        )
        wanted, put = properties or {}, overrides or {}
        paths = [*fields, *(f"properties.{key}" for key in (*wanted, *remove_properties))]
        paths += [f"overrides.{key}" for key in (*put, *clear_overrides)]
        image = pb.Image(
            id=image_id,
            etag=etag,
            properties=values.encode_properties(wanted),
            overrides=values.encode_properties(put),
            **fields,  # type: ignore[arg-type]
        )
        if not paths:
            return await self.get(image_id)
        request = pb.UpdateImageRequest(
            image=image,
            update_mask=FieldMask(paths=paths),
            request_id=request_id or new_request_id(),
            validate_only=validate_only,
        )
        return self._answer(await self._transport.call(self._transport.catalog.UpdateImage, request))

    async def delete(
        self,
        image_id: str,
        *,
        skip_delay: bool = False,
        etag: str = "",
        request_id: str | None = None,
        validate_only: bool = False,
    ) -> Image:
        """Delete the image and, soon after or once the deployment's delay has passed, its bytes. Returns it as it was
        last; before its ``purge_after`` it can be restored.

        With ``skip_delay`` the bytes go at once, also those of an image that is deleted already.

        Raises:
            NotFoundError: there is none of that id.
            PreconditionError: it is protected.
        """
        request = pb.DeleteImageRequest(
            image_id=image_id,
            etag=etag,
            request_id=request_id or new_request_id(),
            validate_only=validate_only,
            skip_delay=skip_delay,
        )
        return self._answer(await self._transport.call(self._transport.catalog.DeleteImage, request))

    async def restore(self, image_id: str, *, request_id: str | None = None, validate_only: bool = False) -> Image:
        """Undo a deletion whose delay has not passed. An upload or import that the deletion ended does not come back:
        such an image is queued again.

        Raises:
            NotFoundError: there is none of that id.
            PreconditionError: it is not deleted, or its bytes are given up already.
        """
        request = pb.RestoreImageRequest(
            image_id=image_id, request_id=request_id or new_request_id(), validate_only=validate_only
        )
        return self._answer(await self._transport.call(self._transport.catalog.RestoreImage, request))

    async def copy(
        self,
        image_id: str,
        stores: Sequence[str] = (),
        *,
        all_stores: bool = False,
        all_must_succeed: bool = False,
        request_id: str | None = None,
        validate_only: bool = False,
    ) -> Operation:
        """Have an active image copied to further ``stores``, or to ``all_stores``; it stays active all the while.

        Returns at once: wait for the operation, or follow it. It succeeds if one store took a copy, and the image's
        ``failed_stores`` tell the others; with ``all_must_succeed`` only if all did.

        Raises:
            NotFoundError: there is none of that id, or no such store.
            PreconditionError: the image has no bytes.
            AlreadyExistsError: it has a sound copy in each of them.
        """
        placement = encode_placement(stores, all_stores=all_stores, all_must_succeed=all_must_succeed)
        return await self._copies.copy(image_id, placement, request_id, validate_only=validate_only)

    async def remove_copy(
        self, image_id: str, store: str, *, etag: str = "", request_id: str | None = None, validate_only: bool = False
    ) -> Image:
        """Give up the image's copy in one store; never the last sound one.

        Raises:
            NotFoundError: there is none of that id, or no copy in that store.
            PreconditionError: reason ``LAST_COPY``: no sound copy would be left.
        """
        return await self._copies.remove(image_id, store, etag, request_id, validate_only=validate_only)

    async def locations(self, image_id: str, *, expires_in_s: int = 0) -> tuple[ImageLocation, ...]:
        """Where a compute service fetches or clones an active image by itself, the best place first; none where no
        store of the image hands bytes over.

        They work for ``expires_in_s`` seconds, at most what the deployment allows; 0 is its default.

        Raises:
            NotPermittedError: locations are not for this caller.
            NotFoundError: there is none of that id.
            PreconditionError: it has no bytes yet.
        """
        return await self._copies.locations(image_id, expires_in_s)

    async def import_(
        self,
        image_id: str,
        *,
        uri: str = "",
        method: ImportMethod | str | None = None,
        expected_size: int | None = None,
        expected_digest: str = "",
        checksums: SignedChecksums | None = None,
        stores: Sequence[str] = (),
        all_stores: bool = False,
        all_must_succeed: bool = False,
        request_id: str | None = None,
        validate_only: bool = False,
    ) -> Operation:
        """Have the service fetch the image's bytes: from ``uri``, or without one those that were staged.

        With ``checksums``, a publisher's signed list has to name the bytes' digest under the last segment of ``uri``.
        ``stores``, ``all_stores`` and ``all_must_succeed`` are as in :meth:`upload`.
        Returns at once: wait for the operation, or follow it.

        Raises:
            PreconditionError: the image has bytes, or gets them already, or nothing is staged.
            NotFoundError: there is no such image or store.
            InvalidRequestError: the URI, the digest or the publisher's key cannot be read.
        """
        source = types_pb2.ImportSource(
            method=values.IMPORT_METHOD.encode(import_method(method, uri)),
            uri=uri,
            expected_size=expected_size,
            expected_digest=expected_digest,
            checksums=encode_checksums(checksums),
        )
        request = pb.ImportImageRequest(
            image_id=image_id,
            source=source,
            request_id=request_id or new_request_id(),
            validate_only=validate_only,
            placement=encode_placement(stores, all_stores=all_stores, all_must_succeed=all_must_succeed),
        )
        message = await self._transport.call(self._transport.catalog.ImportImage, request)
        self._transport.observe(message.position)
        return decoding.operation(message)

    async def upload(
        self,
        image_id: str,
        source: Path | str | BinaryIO | AsyncIterator[bytes],
        *,
        stage: bool = False,
        expected_size: int | None = None,
        expected_digest: str = "",
        sign: UploadSigner | None = None,
        stores: Sequence[str] = (),
        all_stores: bool = False,
        all_must_succeed: bool = False,
        on_progress: OnProgress | None = None,
    ) -> Upload:
        """Send the image's bytes, resuming where the connection breaks; with ``stage`` keep them for an import.

        They are written at once to each of ``stores``, and with ``all_stores`` to all others as well; without either to
        the deployment's default store. A store that fails does not hold up the others, and stands with its reason among
        the image's ``failed_stores``; with ``all_must_succeed`` it fails the upload.

        With ``sign`` they are signed in the same pass: hashed while they are sent, signed when all are there, and the
        signature set on the image before the upload is finished. The service verifies it as it does a publisher's.

        A path or a file that can seek is read again from any place. An iterator, or a pipe, cannot be: it is resumed
        as far as the last 16 MiB, which are kept, reach. The file's size is announced where it is known.

        Raises:
            PreconditionError: the image has bytes, or gets them already, or has no formats.
            ContentError: the bytes are refused.
            NotPermittedError: the service does not sign for this project.
            SigningKeyError: the private key to sign with cannot be used.
            UploadInterruptedError: the connection broke, and the source could not go back far enough.
        """
        return await self._uploads.send(
            image_id,
            source,
            stage=stage,
            expected_size=expected_size,
            expected_digest=expected_digest,
            sign=sign,
            placement=encode_placement(stores, all_stores=all_stores, all_must_succeed=all_must_succeed),
            on_progress=on_progress,
        )

    async def download(
        self,
        image_id: str,
        destination: Path | str | BinaryIO,
        *,
        offset: int = 0,
        length: int | None = None,
        verify: Verify | bool = Verify.DIGEST,
        trust: Trust | None = None,
        allow_unsigned: bool = False,
        fsync: bool = False,
        on_progress: OnProgress | None = None,
    ) -> Download:
        """Write the image's bytes, or a range of them, to ``destination``, resuming where the connection breaks.

        Size and digest are verified while the bytes arrive (of a range, the size). A path gets its name only when all
        of that is done: before, the bytes are in a temporary file beside it. ``True`` and ``False`` are the digest and
        nothing.

        With ``Verify.CUSTODY``, or a ``trust``, it is proven that they are what their publisher signed, or what the
        service attests to have made of it; the answer has that proof. Without a ``trust`` those count that
        ``client.trust_store`` of the configuration holds, else those that the signer names. An image without signature
        is refused unless ``allow_unsigned``. What is written to a file object, a pipe or a device cannot be taken back:
        use it only once this has returned.

        Raises:
            NotFoundError: there is no such image.
            PreconditionError: it has no bytes yet.
            IntegrityError: the bytes are not those that the catalog describes, or that were proven to be the image.
            ContentError: a link of the chain of custody is missing, or does not hold; the reason says which.
            ConfigurationError: the trust store cannot be read, or the extra ``tintype[trust]`` is not installed.
        """
        wanted = verify if isinstance(verify, Verify) else (Verify.DIGEST if verify else Verify.NOTHING)
        if trust is not None and wanted is Verify.NOTHING:
            raise InvalidRequestError("whom to trust matters only to what is verified")
        return await self._downloads.save(
            image_id,
            destination,
            offset=offset,
            length=length,
            verify=Verify.CUSTODY if trust is not None else wanted,
            trust=trust,
            allow_unsigned=allow_unsigned,
            fsync=fsync,
            on_progress=on_progress,
        )

    async def provenance(self, image_id: str) -> Provenance:
        """What is told of where the image's bytes come from, and who vouches for it; nothing of it is proven.

        Raises:
            NotFoundError: there is none of that id.
            PreconditionError: it has no bytes yet.
        """
        return await self._verifier.provenance(image_id)

    async def verify(
        self,
        image_id: str,
        *,
        trust: Trust | None = None,
        allow_unsigned: bool = False,
        provenance: Provenance | None = None,
    ) -> Custody:
        """Prove where the image's bytes come from, without the bytes: from the publisher's signature to the digest that
        is served. ``trust`` is as in :meth:`download`; a ``provenance`` that was fetched before is not fetched again.

        Raises:
            ContentError: a link of the chain is missing, or does not hold; the reason says which.
            ConfigurationError: the trust store cannot be read, or the extra ``tintype[trust]`` is not installed.
        """
        return await self._verifier.verify(image_id, trust, allow_unsigned=allow_unsigned, provenance=provenance)

    def read(self, image_id: str, *, offset: int = 0, length: int | None = None) -> AsyncGenerator[bytes, None]:
        """Yield the image's bytes, or a range of them, resuming where the connection breaks. Nothing is verified.

        Raises:
            NotFoundError: there is no such image.
            PreconditionError: it has no bytes yet.
        """
        return self._downloads.chunks(image_id, offset=offset, length=length)

    async def history(self, image_id: str, *, as_of: datetime | None = None) -> AsyncGenerator[ImageEvent, None]:
        """Yield what has happened to the image, oldest first.

        Raises:
            NotFoundError: there is none of that id.
        """
        token = ""
        while True:
            request = pb.ListImageEventsRequest(
                image_id=image_id,
                page_token=token,
                as_of=values.encode_time(as_of) if as_of else None,
                min_position=self._transport.position,
            )
            answer = await self._transport.call(self._transport.catalog.ListImageEvents, request)
            for message in answer.events:
                yield decoding.event(message)
            token = answer.next_page_token
            if not token:
                return

    def watch(self, image_id: str = "", *, after: int | None = None) -> AsyncGenerator[ImageEvent | Progress, None]:
        """Yield what happens to one image, or to all, with the progress of running steps between; it never ends.

        Begins behind the log position ``after`` (0 is the beginning), else now, and survives a restart of the service
        without a gap: only progress may be lost.

        Raises:
            NotFoundError: there is none of that id.
        """
        return watch_images(self._transport, image_id, after)

    async def _page(self, expression: str, order_by: str, size: int, token: str) -> pb.ListImagesResponse:
        request = pb.ListImagesRequest(
            filter=expression,
            order_by=order_by,
            page_size=size,
            page_token=token,
            min_position=self._transport.position,
        )
        return await self._transport.call(self._transport.catalog.ListImages, request)

    def _answer(self, message: pb.Image) -> Image:
        self._transport.observe(message.position)
        return decoding.image(message)

"""Every way in which Tintype refuses or fails, in one tree.

A class stands for one stable, machine-readable ``reason``. ``retryable`` says whether the same call may succeed later
without any change by the caller; ``hint`` tells the user what to do. The gRPC status of each *category* (the direct
children of :class:`TintypeError`) stands in :mod:`tintype.runtime.error_table`.

    TintypeError
    ├── InvalidArgumentError      the request itself is wrong
    ├── NotFoundError             no such thing, or not yours to see
    ├── AlreadyExistsError        it is there already
    ├── PreconditionError         not in this state
    ├── ConflictError             somebody else was faster
    ├── RefusedContentError       the bytes are not what they should be
    ├── SourceError               the place the bytes come from
    ├── NotPermittedError         not allowed
    ├── ExhaustedError            a limit is reached
    ├── UnavailableError          a part that Tintype needs does not answer
    ├── AbandonedError            ended on request
    └── InternalError             a defect of Tintype, or damage
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import ClassVar


class TintypeError(Exception):
    """Root of the tree; ``str()`` is one sentence for the user.

    ``evidence`` is what the refusal is based on, for programs: a few short texts by name.
    """

    reason: ClassVar[str] = "INTERNAL"
    retryable: ClassVar[bool] = False
    hint: ClassVar[str] = ""

    def __init__(self, message: str, *, evidence: Mapping[str, str] | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.evidence: Mapping[str, str] = evidence or {}


# --- the request ------------------------------------------------------------------------------------------------------


class InvalidArgumentError(TintypeError):
    """A field of the request is missing, malformed or out of bounds."""

    reason = "INVALID_ARGUMENT"
    hint = "Correct the field that the message names."


class InvalidIdentifierError(InvalidArgumentError):
    """An id is not of its form."""

    reason = "INVALID_IDENTIFIER"


class InvalidDigestError(InvalidArgumentError):
    """A digest is not ``ALGORITHM:HEX``."""

    reason = "INVALID_DIGEST"


class InvalidNameError(InvalidArgumentError):
    """A name is too long or has control characters."""

    reason = "INVALID_NAME"


class InvalidTagError(InvalidArgumentError):
    """A tag is empty, too long, or there are too many."""

    reason = "INVALID_TAG"


class InvalidPropertyError(InvalidArgumentError):
    """A property's key or value is too long, or there are too many."""

    reason = "INVALID_PROPERTY"


class PropertyTypeError(InvalidArgumentError):
    """A property's value is not of the type that is known for its key."""

    reason = "PROPERTY_TYPE"
    hint = "Known properties have a type; all others take a string."


class InvalidFormatError(InvalidArgumentError):
    """A disk or container format is unknown, or the two do not go together."""

    reason = "INVALID_FORMAT"


class InvalidSizeError(InvalidArgumentError):
    """A size is negative or beyond the site's limit."""

    reason = "INVALID_SIZE"


class InvalidUriError(InvalidArgumentError):
    """A source URI is not an absolute http or https URL, or is too long."""

    reason = "INVALID_URI"
    hint = "Give an absolute http:// or https:// URL."


class InvalidFilterError(InvalidArgumentError):
    """A list's filter, order or page token cannot be read."""

    reason = "INVALID_FILTER"


class InvalidUpdateMaskError(InvalidArgumentError):
    """An update mask names a field that does not exist or cannot be changed."""

    reason = "INVALID_UPDATE_MASK"


class InvalidPlacementError(InvalidArgumentError):
    """The stores that an image's bytes shall be in are not said in a way that can be followed."""

    reason = "INVALID_PLACEMENT"
    hint = "Name each store once, up to 32 of them; `tintype store list` shows their names."


class WrongOffsetError(InvalidArgumentError):
    """Bytes were sent for another offset than the committed size."""

    reason = "WRONG_OFFSET"
    retryable = True
    hint = "Ask QueryWriteStatus for the committed size, and go on from there."


class RangeNotSatisfiableError(InvalidArgumentError):
    """A read begins beyond the end of the image."""

    reason = "RANGE_NOT_SATISFIABLE"
    hint = "Read from an offset below the image's size."


# --- state ------------------------------------------------------------------------------------------------------------


class NotFoundError(TintypeError):
    """The named thing does not exist, or the caller may not see it."""

    reason = "NOT_FOUND"
    hint = "Look for it among those that a list shows, in the project that owns it."


class ImageNotFoundError(NotFoundError):
    """No such image."""

    reason = "IMAGE_NOT_FOUND"
    hint = "Lists show the images that a project may see."


class OperationNotFoundError(NotFoundError):
    """No such operation."""

    reason = "OPERATION_NOT_FOUND"
    hint = "An image's operation_id names its newest operation."


class UploadNotFoundError(NotFoundError):
    """No such upload, or it has been finished, cancelled or swept."""

    reason = "UPLOAD_NOT_FOUND"
    hint = "Start a new upload."


class BlobNotFoundError(NotFoundError):
    """A store has no bytes under that key."""

    reason = "BLOB_NOT_FOUND"
    hint = "Please report it, with the service's log."


class AlreadyExistsError(TintypeError):
    """The thing to be made is there already."""

    reason = "ALREADY_EXISTS"
    hint = "Use what is there, or choose another name for the new thing."


class ImageExistsError(AlreadyExistsError):
    """An image of that id exists, or has existed: ids are never used twice."""

    reason = "IMAGE_EXISTS"
    hint = "Choose another id, or leave it out to have one chosen."


class RequestIdReusedError(AlreadyExistsError):
    """A request id was used before for another command."""

    reason = "REQUEST_ID_REUSED"
    hint = "Use a new request id for each new request."


class PreconditionError(TintypeError):
    """The image is not in a state that allows this."""

    reason = "FAILED_PRECONDITION"
    hint = "Look at the image's status, and at its history."


class ImageProtectedError(PreconditionError):
    """A protected image cannot be deleted."""

    reason = "IMAGE_PROTECTED"
    hint = "Clear `protected` first."


class ImageHasDataError(PreconditionError):
    """The image has its bytes already: they never change."""

    reason = "IMAGE_HAS_DATA"
    hint = "Create a new image for new bytes."


class ImageHasNoDataError(PreconditionError):
    """The image has no bytes to read yet."""

    reason = "IMAGE_HAS_NO_DATA"
    retryable = True
    hint = "Wait until its status is active."


class ImageBusyError(PreconditionError):
    """Bytes of the image are being processed."""

    reason = "IMAGE_BUSY"
    retryable = True
    hint = "Wait for the running operation, or cancel it."


class FormatMissingError(PreconditionError):
    """The image has no disk or container format, which bytes need."""

    reason = "FORMAT_MISSING"
    hint = "Set disk_format and container_format first."


class FormatFixedError(PreconditionError):
    """The formats of an image cannot change once its bytes are on their way."""

    reason = "FORMAT_FIXED"
    hint = "Create a new image for bytes of another format."


class SignaturePropertiesFixedError(PreconditionError):
    """The signature properties of an image cannot change once its bytes are on their way."""

    reason = "SIGNATURE_PROPERTIES_FIXED"
    hint = "Create a new image for bytes with another signature."


class LinkedImageError(PreconditionError):
    """A property names an image that does not exist for the caller, or is of another kind than it has to be."""

    reason = "LINKED_IMAGE"
    hint = "Name an image that you can see: one of disk format aki as kernel_id, one of ari as ramdisk_id."


class NothingStagedError(PreconditionError):
    """An import of staged bytes was asked for, and none are staged."""

    reason = "NOTHING_STAGED"
    hint = "Stage bytes first: start an upload with purpose STAGE."


class OperationDoneError(PreconditionError):
    """The operation has ended, and cannot be cancelled."""

    reason = "OPERATION_DONE"
    hint = "Nothing is left to cancel; delete the image if it is not wanted."


class ConflictError(TintypeError):
    """Somebody else changed the same thing meanwhile."""

    reason = "CONFLICT"
    retryable = True
    hint = "Read the image again, and repeat what still applies."


class ConcurrencyConflictError(ConflictError):
    """The image's log has gone on since it was read."""

    reason = "CONCURRENT_CHANGE"


class EtagMismatchError(ConflictError):
    """The image is no longer what the caller's etag says."""

    reason = "ETAG_MISMATCH"
    retryable = False


class StaleStepError(ConflictError):
    """A worker finished a step that is no longer the image's next one; its result is dropped."""

    reason = "STALE_STEP"
    retryable = False


class RebuildBusyError(ConflictError):
    """The catalog's tables are being rebuilt already, or another rebuild took this one's place."""

    reason = "REBUILD_BUSY"
    hint = "Wait for the running rebuild to end."


class UploadBusyError(ConflictError):
    """Another stream is writing to the same upload."""

    reason = "UPLOAD_BUSY"


# --- bytes ------------------------------------------------------------------------------------------------------------


class RefusedContentError(TintypeError):
    """The bytes are not what was promised, or are not safe."""

    reason = "CONTENT_REFUSED"
    hint = "Look at the file where it was made, and send a sound one."


class EmptyImageError(RefusedContentError):
    """There was not one byte."""

    reason = "EMPTY_IMAGE"
    hint = "Look whether the file was written at its source."


class SizeMismatchError(RefusedContentError):
    """More or fewer bytes came than were announced."""

    reason = "SIZE_MISMATCH"
    hint = "Look whether the file is whole at its source, and whether the expected size is that of this file."


class DigestMismatchError(RefusedContentError):
    """The bytes' digest is not the expected one."""

    reason = "DIGEST_MISMATCH"
    hint = "Look whether the file is whole at its source, and whether the expected digest is that of this file."


class FormatMismatchError(RefusedContentError):
    """The bytes are of another format than was declared."""

    reason = "FORMAT_MISMATCH"
    hint = (
        "Declare the format that the bytes are in: `tintype inspect FILE` tells. "
        "A disk in a format that is not taken has to be converted first."
    )


class TruncatedError(RefusedContentError):
    """The format's own tables point beyond the end of the bytes."""

    reason = "TRUNCATED"
    hint = "Get the file again: its end is missing, or was never written where it was made."


class MalformedImageError(RefusedContentError):
    """The format's header contradicts itself, or uses what is not known to be safe."""

    reason = "MALFORMED_IMAGE"
    hint = "Get the file again; if it stays so, have it made anew: a disk by `qemu-img convert`."


class UnsafeBackingFileError(RefusedContentError):
    """The image names a backing file, which the host would open."""

    reason = "UNSAFE_BACKING_FILE"
    hint = "Flatten it first: `qemu-img convert` makes a file that stands alone."


class UnsafeDataFileError(RefusedContentError):
    """The image keeps its data in an external file, which the host would open."""

    reason = "UNSAFE_DATA_FILE"
    hint = "Flatten it first: `qemu-img convert` makes a file that stands alone."


class UnsafeExtentError(RefusedContentError):
    """A VMDK descriptor names another file, which the host would open."""

    reason = "UNSAFE_EXTENT"
    hint = "Convert it to a single file: monolithicSparse or streamOptimized."


class DifferencingDiskError(RefusedContentError):
    """The image holds only the difference to a parent disk."""

    reason = "DIFFERENCING_DISK"
    hint = "Merge it with its parent first."


class EncryptedImageError(RefusedContentError):
    """The disk is encrypted, so it cannot be converted."""

    reason = "ENCRYPTED_IMAGE"
    hint = "Decrypt it first, or upload it: a plain upload is not converted."


class VirtualSizeTooLargeError(RefusedContentError):
    """The guest's disk is larger than the site allows."""

    reason = "VIRTUAL_SIZE_TOO_LARGE"
    hint = "Shrink the guest's disk; an operator can raise importer.max_virtual_bytes."


class AllocationRatioError(RefusedContentError):
    """The guest's disk is too much larger than the file that stands for it."""

    reason = "ALLOCATION_RATIO"
    hint = "Make the guest's disk smaller; an operator can raise importer.max_allocation_ratio."


class DecompressionBombError(RefusedContentError):
    """The bytes grow to far more than they are, or than the site allows."""

    reason = "DECOMPRESSION_BOMB"
    hint = "Send the image uncompressed, or compressed by a usual program."


class UnsupportedImageError(RefusedContentError):
    """The image is sound as far as can be told, and in a state or a variant that is not taken."""

    reason = "UNSUPPORTED_IMAGE"
    hint = "Make it anew without what the message names: a disk by `qemu-img convert`."


class ArchiveTraversalError(RefusedContentError):
    """An archive has a name or a link that leads out of it."""

    reason = "ARCHIVE_TRAVERSAL"
    hint = "Make the archive anew, with plain relative names and without links that lead out of it."


class ArchiveContentError(RefusedContentError):
    """An archive does not hold just what it should."""

    reason = "ARCHIVE_CONTENT"
    hint = "The message says what is missing, or too much: make the archive anew."


class ManifestMismatchError(RefusedContentError):
    """A file in an archive is not the one that the archive's manifest lists."""

    reason = "MANIFEST_MISMATCH"
    hint = "Get the archive again; if it stays so, its publisher has to make it anew."


class UnsafeXmlError(RefusedContentError):
    """An XML document declares entities or refers to others."""

    reason = "UNSAFE_XML"
    hint = "Make the document anew, without a document type."


class ConversionChangedDiskError(RefusedContentError):
    """The converted disk is not the disk that was to be converted."""

    reason = "CONVERSION_CHANGED_DISK"
    hint = "Please report it, with the converter's log; the image can be imported without conversion meanwhile."


class ConversionFailedError(RefusedContentError):
    """qemu-img could not convert the image."""

    reason = "CONVERSION_FAILED"
    hint = "Check the image with `qemu-img check`; the converter's log has what qemu-img said."


class SignatureIncompleteError(RefusedContentError):
    """Some of the four signature properties are set, but not all."""

    reason = "SIGNATURE_INCOMPLETE"
    hint = (
        "Set img_signature, img_signature_hash_method, img_signature_key_type and img_signature_certificate_uuid, "
        "or none of them."
    )


class SignatureMissingError(RefusedContentError):
    """The site wants signed images only, and this one has no signature."""

    reason = "SIGNATURE_MISSING"
    hint = (
        "Sign the bytes, and set the four img_signature properties when you create the image. Who verifies a download "
        "may say --allow-unsigned, and take the service's word alone."
    )


class SignatureUnsupportedError(RefusedContentError):
    """The signature's hash method or key type is not known here."""

    reason = "SIGNATURE_UNSUPPORTED"
    hint = "Sign with RSA-PSS and SHA-256, or with another method that the message names."


class SignatureChangedError(RefusedContentError):
    """The signature properties were changed while the bytes were on their way."""

    reason = "SIGNATURE_CHANGED"
    hint = "Send the bytes again: they are hashed as the signature says while they arrive."


class SignatureMalformedError(RefusedContentError):
    """The signature is not base64, or not of the form that the certificate's key makes: cut short, or doubled."""

    reason = "SIGNATURE_MALFORMED"
    hint = "Set img_signature to the whole signature in base64, once, made with the key of that certificate."


class SignatureInvalidError(RefusedContentError):
    """The signature does not match the bytes and the certificate."""

    reason = "SIGNATURE_INVALID"
    hint = "Sign exactly the bytes that are sent, with the key of that certificate and the method that is declared."


class CertificateNotFoundError(RefusedContentError):
    """No certificate of that id is known here."""

    reason = "CERTIFICATE_NOT_FOUND"
    hint = (
        "An operator puts publishers' certificates into signer.certificate_dir, named by their ids; in a Barbican, the "
        "signer's user must be allowed to read them."
    )


class CertificateInvalidError(RefusedContentError):
    """The certificate cannot be read, or has extensions that are malformed or not understood."""

    reason = "CERTIFICATE_INVALID"
    hint = "Sign with an X.509 certificate of version 3 that is made for such signatures."


class CertificateExpiredError(RefusedContentError):
    """A certificate of the chain has expired."""

    reason = "CERTIFICATE_EXPIRED"
    hint = "Sign with a certificate that is valid now; if it is, look at the clock of the signer's machine."


class CertificateNotYetValidError(RefusedContentError):
    """A certificate of the chain is not valid yet."""

    reason = "CERTIFICATE_NOT_YET_VALID"
    hint = "Wait until it is valid, or sign with another; if it should be, look at the clock of the signer's machine."


class CertificateUntrustedError(RefusedContentError):
    """No chain leads from the certificate to a root that is trusted here."""

    reason = "CERTIFICATE_UNTRUSTED"
    hint = (
        "Sign with a certificate of an authority that is trusted there, or add its root: an operator to "
        "signer.trusted_roots_dir, who verifies to the trust store."
    )


class CertificateChainError(RefusedContentError):
    """The chain is longer than allowed, or leads through a certificate that is no authority."""

    reason = "CERTIFICATE_CHAIN"
    hint = "Have the certificate issued by an authority whose own certificate allows it."


class CertificateUsageError(RefusedContentError):
    """The certificate was issued for another purpose than signing."""

    reason = "CERTIFICATE_USAGE"
    hint = "Have a certificate issued with the key usage digitalSignature, and no extended use but code signing."


class CertificateRevokedError(RefusedContentError):
    """A certificate of the chain was revoked by its issuer."""

    reason = "CERTIFICATE_REVOKED"
    hint = "Sign again, with a new key and a new certificate."


class RevocationUnknownError(RefusedContentError):
    """Whether a certificate was revoked cannot be told: the revocation list is out of date or not its issuer's."""

    reason = "REVOCATION_UNKNOWN"
    hint = "An operator has to fetch the issuer's newest revocation list (CRL)."


class CertificateTooOldError(RefusedContentError):
    """The certificate was issued longer ago than the project's policy accepts."""

    reason = "CERTIFICATE_TOO_OLD"
    hint = "Sign with a newer certificate; an operator can raise max_certificate_age_days."


class KeyTypeMismatchError(RefusedContentError):
    """The certificate holds another kind of key than the signature declares."""

    reason = "KEY_TYPE_MISMATCH"
    hint = "Set img_signature_key_type to the kind of key that the certificate holds."


class WeakKeyError(RefusedContentError):
    """A key of the chain is too small, or a certificate is signed with a broken hash."""

    reason = "WEAK_KEY"
    hint = "Sign with RSA of at least 2048 bits or a curve of at least 256, and certificates with SHA-256 or better."


class SignerNotAllowedError(RefusedContentError):
    """The project's policy does not allow this certificate to sign its images."""

    reason = "SIGNER_NOT_ALLOWED"
    hint = "Sign with an allowed certificate; an operator can add its fingerprint to the policy's allowed_signers."


class AttestationMissingError(RefusedContentError):
    """The image has no attestation by a service."""

    reason = "ATTESTATION_MISSING"
    hint = "Import the image again: it was published before its road was attested."


class AttestationInvalidError(RefusedContentError):
    """The attestation cannot be read, or its signature is not the key's."""

    reason = "ATTESTATION_INVALID"
    hint = "Do not use the image: it, or what is told of it, was changed. Look for who could write to the log."


class AttestationForeignError(RefusedContentError):
    """The attestation is genuine, and is about another image or other bytes."""

    reason = "ATTESTATION_FOREIGN"
    hint = "Do not use the image: what is told of it was exchanged. Look for who could write to the log."


class ServiceKeyUnknownError(RefusedContentError):
    """The attestation is signed with a key that is not trusted as a service's."""

    reason = "SERVICE_KEY_UNKNOWN"
    hint = "Get the certificates of the service's keys, old ones too, over a way that you trust: `tintype key list`."


class CustodyBrokenError(RefusedContentError):
    """A link is missing in the chain from what the publisher signed to the bytes that are served."""

    reason = "CUSTODY_BROKEN"
    hint = "Do not use the image; the message says which two links do not fit."


class BundleInvalidError(RefusedContentError):
    """A provenance bundle cannot be read."""

    reason = "BUNDLE_INVALID"
    hint = "Get the bundle again: `tintype image provenance IMAGE --save FILE` writes one."


class ChecksumsMalformedError(RefusedContentError):
    """A list of checksums cannot be read."""

    reason = "CHECKSUMS_MALFORMED"
    hint = (
        "Give the URL of a list as sha256sum or sha512sum writes it; if its signature is a file of its own, the URL of "
        "that too."
    )


class ChecksumsIncompleteError(RefusedContentError):
    """A list of checksums does not name the file that is imported, or names it twice."""

    reason = "CHECKSUMS_INCOMPLETE"
    hint = "Give the list that its publisher offers for this file."


class ChecksumsSignatureError(RefusedContentError):
    """A list of checksums is not signed with the given publisher's key."""

    reason = "CHECKSUMS_SIGNATURE"
    hint = "Get the publisher's key over a way that you trust, and the list and its signature from the publisher."


class PublisherKeyError(InvalidArgumentError):
    """A publisher's OpenPGP key cannot be read, or can verify nothing."""

    reason = "PUBLISHER_KEY"
    hint = "Give the publisher's OpenPGP certificate, as `gpg --export --armor` writes it."


class CheckpointInvalidError(RefusedContentError):
    """A checkpoint of the log cannot be read, does not follow the one before it, or its signature is not the key's."""

    reason = "CHECKPOINT_INVALID"
    hint = "Do not rely on it. Get the checkpoint that you saved, or look for who could write to the log."


class CheckpointMismatchError(RefusedContentError):
    """The log is not the one that a signed checkpoint was made of: events were changed, or have vanished."""

    reason = "CHECKPOINT_MISMATCH"
    hint = "Keep the log as it is, compare it with a backup, and look for who could write to its files."


class BackupInvalidError(RefusedContentError):
    """A backup of the log is cut off, was changed, or is none."""

    reason = "BACKUP_INVALID"
    hint = "Take another copy of it; `tintype admin check-backup` reads one without any service."


class BackupChainError(RefusedContentError):
    """Backups of the log do not follow one another, or not the log that they should continue."""

    reason = "BACKUP_CHAIN"
    hint = "Give the full backup first, then each that continues it, oldest first, none left out."


class LogDiffersError(PreconditionError):
    """The log in NATS is not a beginning of what is to be restored; nothing was written."""

    reason = "LOG_DIFFERS"
    hint = (
        "Keep it until you know whose it is; a restore goes into a NATS without the streams, or goes on with its own."
    )


class LogInUseError(PreconditionError):
    """Services are at work on the log that is being restored."""

    reason = "LOG_IN_USE"
    hint = "Stop every service, and wait until none is left; then restore."


class ServiceKeyNotFoundError(NotFoundError):
    """The service has no key of that id."""

    reason = "SERVICE_KEY_NOT_FOUND"
    hint = "`tintype key list` shows the keys that there are."


class CheckpointNotFoundError(NotFoundError):
    """The signer has published no checkpoint of the log yet, or none up to that position."""

    reason = "CHECKPOINT_NOT_FOUND"
    hint = "One is published every signer.checkpoint_every events, and signer.checkpoint_interval_s after the last one."


class StoreNotFoundError(NotFoundError):
    """No store of that name is configured."""

    reason = "STORE_NOT_FOUND"
    hint = "`tintype store list` names the stores; an operator's [stores.NAME] define them."


class LastCopyError(PreconditionError):
    """It is the last sound copy of the image."""

    reason = "LAST_COPY"
    hint = "Copy the image to another store first, or delete the image."


class ImageNotDeletedError(PreconditionError):
    """The image is not deleted, or its bytes are being removed already."""

    reason = "IMAGE_NOT_DELETED"
    hint = "Only an image that was deleted, and whose delay has not passed, can be restored."


class RestoreTooLateError(ImageNotDeletedError):
    """The time in which the deleted image could be restored has passed."""

    reason = "RESTORE_TOO_LATE"
    hint = "Create a new image; the history of this one can still be read."


class CopyExistsError(AlreadyExistsError):
    """The image has a sound copy in every store that was named."""

    reason = "COPY_EXISTS"


class CopyNotFoundError(NotFoundError):
    """The image has no copy at that place."""

    reason = "COPY_NOT_FOUND"
    hint = "An image's stores are where its copies are."


class SourceError(TintypeError):
    """The bytes could not be had from where they should come."""

    reason = "SOURCE_FAILED"
    hint = "Look whether the URL can be fetched with another program."


class SourceForbiddenError(SourceError):
    """The URL leads to an address, port or host that this site does not fetch from."""

    reason = "SOURCE_FORBIDDEN"
    hint = "Only public addresses are fetched; an operator can allow more with importer.allowed_hosts."


class SourceUnreachableError(SourceError):
    """The host's name does not resolve, or the host does not answer."""

    reason = "SOURCE_UNREACHABLE"
    retryable = True
    hint = "Look whether the host's name is right and the host answers; then import again."


class SourceNotFoundError(SourceError):
    """The server answered that it has no such file, or will not give it."""

    reason = "SOURCE_NOT_FOUND"
    hint = "Look whether the URL is right, and needs no login."


class SourceServerError(SourceError):
    """The server answered with an error of its own."""

    reason = "SOURCE_SERVER_ERROR"
    retryable = True
    hint = "Import again later."


class SourceRedirectError(SourceError):
    """The server redirects too often, or to what is no URL."""

    reason = "SOURCE_REDIRECTS"
    hint = "Give the URL that the redirects should have led to."


class SourceInterruptedError(SourceError):
    """The connection ended, or stood still, before all bytes were there."""

    reason = "SOURCE_INTERRUPTED"
    retryable = True
    hint = "Import again."


class SourceCertificateError(SourceError):
    """The server could not prove over TLS that it is the host of the URL."""

    reason = "SOURCE_CERTIFICATE"
    hint = "The server needs a certificate for its host's name, from an authority that the importer's machine trusts."


class SourceEncodingError(SourceError):
    """The server sends the file in another encoding than as it is."""

    reason = "SOURCE_ENCODING"
    hint = "Serve the file without a Content-Encoding."


# --- surroundings -----------------------------------------------------------------------------------------------------


class NotPermittedError(TintypeError):
    """The caller may not do this."""

    reason = "NOT_PERMITTED"
    hint = "Ask the project that owns it, or an administrator, who says `tintype --admin`."


class UnauthenticatedError(NotPermittedError):
    """The caller shows no token, or one that is not known."""

    reason = "UNAUTHENTICATED"
    hint = "Name your token's file in client.toml (`token_file`), or set TINTYPE_TOKEN; an operator makes tokens."


class ProjectNotPermittedError(NotPermittedError):
    """The caller's token is not for that project."""

    reason = "PROJECT_NOT_PERMITTED"
    hint = "Set `project` in client.toml, or `--project`, to one that your token is for."


class SigningNotPermittedError(NotPermittedError):
    """The service does not sign for the caller's project."""

    reason = "SIGNING_NOT_PERMITTED"
    hint = "An operator can add the project to signer.sign_for; or sign with a key of your own (`--sign-key`)."


class ExhaustedError(TintypeError):
    """A limit is reached."""

    reason = "EXHAUSTED"
    hint = "Wait until other work has ended, and try again."


class ImageTooLargeError(ExhaustedError):
    """There are more bytes than the site allows for one image."""

    reason = "IMAGE_TOO_LARGE"
    hint = "Send a smaller image, such as a compressed qcow2; an operator can raise importer.max_image_bytes."


class EventTooLargeError(ExhaustedError):
    """An event does not fit into one message of the log."""

    reason = "EVENT_TOO_LARGE"
    hint = "Give the image fewer or shorter properties and tags."


class HistoryFullError(ExhaustedError):
    """The image has been changed so often that it takes no further changes by users."""

    reason = "HISTORY_FULL"
    hint = "Create a new image; this one can still be read and deleted."


class TooManyKeysError(ExhaustedError):
    """The service has so many keys that it makes no further one."""

    reason = "TOO_MANY_KEYS"
    hint = "An operator should remove keys, and certificates, of which nothing is to be verified any more."


class StoreFullError(ExhaustedError):
    """The store has no room for the bytes."""

    reason = "STORE_FULL"
    retryable = True
    hint = "An operator must make room in the store."


class StoreQuotaExceededError(StoreFullError):
    """The store has room, and the service may not use it."""

    reason = "STORE_QUOTA_EXCEEDED"
    hint = "An operator must raise the quota of the service's user, project or bucket."


class StoreObjectTooLargeError(StoreFullError):
    """The store takes no single object of that size."""

    reason = "STORE_OBJECT_TOO_LARGE"
    retryable = False
    hint = "Choose another store, or have an operator raise the store's limit."


class UnavailableError(TintypeError):
    """A part that Tintype needs does not answer; the same call may succeed later."""

    reason = "UNAVAILABLE"
    retryable = True
    hint = "Try again; if it lasts, an operator should look at the service's log."


class EventLogUnavailableError(UnavailableError):
    """The event log does not answer."""

    reason = "EVENT_LOG_UNAVAILABLE"


class KeyManagerUnavailableError(UnavailableError):
    """The key manager does not answer, or does not let the service in."""

    reason = "KEY_MANAGER_UNAVAILABLE"
    hint = "The image waits; an operator should look at the key manager and at the signer's credentials for it."


class StoreUnavailableError(UnavailableError):
    """A store does not answer, or answers with an error of its own."""

    reason = "STORE_UNAVAILABLE"


class StoreReadOnlyError(StoreUnavailableError):
    """The store takes no bytes for the time being: its mount is lost, stale or read-only, or it failed too often."""

    reason = "STORE_READ_ONLY"
    hint = "An operator sees why with `tintype store check NAME`; what can be reached is still read."


class StoreTimeoutError(StoreUnavailableError):
    """The store did not answer in the time that it is given."""

    reason = "STORE_TIMEOUT"


class StoreBusyError(StoreUnavailableError):
    """The store asks to be called less often."""

    reason = "STORE_BUSY"


class StoreAccessDeniedError(StoreUnavailableError):
    """The store does not know the service's credentials, or does not let them do this."""

    reason = "STORE_ACCESS_DENIED"
    hint = "An operator must look at the store's credentials and at the rights that they have; see docs/stores.md."


class StoreMissingError(StoreUnavailableError):
    """The bucket, container, pool or directory that a store should be in is not there."""

    reason = "STORE_MISSING"
    hint = "An operator must make it, or correct [stores.NAME]; see docs/stores.md."


class StoreDeviceError(StoreUnavailableError):
    """The disk beneath a store failed (EIO)."""

    reason = "STORE_DEVICE"
    hint = "An operator must look at the disk beneath the store."


class StoreMountStaleError(StoreReadOnlyError):
    """The server no longer knows what is mounted (ESTALE)."""

    reason = "STORE_MOUNT_STALE"
    hint = "An operator must mount the share again."


class UploadStalledError(UnavailableError):
    """A client holds an upload, and sends nothing; the bytes that came are kept."""

    reason = "UPLOAD_STALLED"
    hint = "Ask how many bytes are kept, and go on behind them."


class ProjectionLagError(UnavailableError):
    """The catalog has not yet seen the position that the read asks for."""

    reason = "PROJECTION_LAG"


class CatalogDatabaseError(UnavailableError):
    """The database that the catalog's tables are in does not answer, or refuses."""

    reason = "CATALOG_DATABASE"


class ProjectionReplacedError(UnavailableError):
    """The catalog's tables were replaced by a newer generation while they were in use."""

    reason = "PROJECTION_REPLACED"


class AbandonedError(TintypeError):
    """The work was ended on request."""

    reason = "CANCELLED"
    hint = "Import or upload again, if it is wanted after all."


class RetriesExhaustedError(UnavailableError):
    """A step was begun several times and never ended, as if it brought its worker down."""

    reason = "RETRIES_EXHAUSTED"


class InternalError(TintypeError):
    """A defect of Tintype, or damage to what it keeps."""

    reason = "INTERNAL"
    hint = "Please report it, with the service's log."


class BlobDamagedError(InternalError):
    """Stored bytes are not what was written, in every copy that there is."""

    reason = "BLOB_DAMAGED"
    hint = "An operator should look at the store, and at a backup; `tintype admin scrub` tells which copies are sound."


class LogCorruptError(InternalError):
    """An event cannot be decoded, or the chain of hashes is broken.

    ``position`` is that of the event, where the log was being followed; 0 elsewhere.
    """

    reason = "LOG_CORRUPT"
    position: int = 0


class EventTypeUnknownError(LogCorruptError):
    """An event is of a type or version that this release does not know."""

    reason = "EVENT_TYPE_UNKNOWN"
    hint = "A newer release writes to the same log: upgrade this service."


class LogReplacedError(LogCorruptError):
    """The log is not the one that the catalog's tables were made of: it was put back from a backup, or is another."""

    reason = "LOG_REPLACED"
    hint = "The catalog builds its tables anew. If nobody restored the log, look which NATS the services are given."


class CatalogValueError(InternalError):
    """The catalog's database cannot store a value that an event carries."""

    reason = "CATALOG_VALUE"


class ConfigurationError(InternalError):
    """A setting is missing or wrong; the service does not start."""

    reason = "CONFIGURATION"
    hint = "Correct the setting that the message names; --help lists all of them."


class TrustStoreError(ConfigurationError):
    """A directory of trusted certificates holds something that cannot be read, or too much."""

    reason = "TRUST_STORE"
    hint = "Put nothing but certificates and revocation lists in PEM there; the message names the file."


class KeyPermissionsError(ConfigurationError):
    """Others than the service may read or replace a private key."""

    reason = "KEY_PERMISSIONS"
    hint = (
        "The file must belong to the user who reads it, with mode 0600, in a directory that nobody else may write to."
    )


class KeyUnreadableError(ConfigurationError):
    """What should be a private key is none, is of no kind that signs, or does not belong to its certificate."""

    reason = "KEY_UNREADABLE"
    hint = (
        "Give a private key in PEM, as `openssl genpkey` writes it: RSA of 2048 bits and more, P-256, P-384 or P-521."
    )


class KeyPassphraseError(ConfigurationError):
    """A private key is encrypted, and its passphrase is missing or wrong."""

    reason = "KEY_PASSPHRASE"
    hint = "Give the passphrase in a file that nobody else may read, or at the prompt of the command line."


def every_error() -> Iterator[type[TintypeError]]:
    """All classes of the tree, parents first."""
    found: list[type[TintypeError]] = [TintypeError]
    for parent in found:
        found.extend(parent.__subclasses__())
        yield parent

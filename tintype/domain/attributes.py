"""What a user says about an image: names, formats, tags and typed properties, and the bounds of each."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, fields, replace

from tintype.domain.errors import (
    InvalidFormatError,
    InvalidNameError,
    InvalidPropertyError,
    InvalidSizeError,
    InvalidTagError,
    InvalidUpdateMaskError,
    PropertyTypeError,
)
from tintype.domain.values import DIGEST_ALGORITHMS, ContainerFormat, DiskFormat, Fact, PropertyValue, Visibility

MAX_NAME_LENGTH = 255
MAX_TAGS = 128
MAX_PROPERTIES = 128
MAX_PROPERTY_KEY_LENGTH = 255
MAX_PROPERTY_VALUE_LENGTH = 16 * 1024
MAX_PROPERTIES_LENGTH = 128 * 1024
"""All keys and values of one image together, in characters: an event has to fit into one message."""

MAX_MIN_DISK_GIB = 1024 * 1024
MAX_MIN_RAM_MIB = 64 * 1024 * 1024
OVERRIDABLE_SIZES: Mapping[str, int] = {"min_disk": MAX_MIN_DISK_GIB, "min_ram": MAX_MIN_RAM_MIB}
"""Facts and overrides of these keys stand for the attribute of that name, and have its bounds."""

MAX_INTEGER_PROPERTY = 2**63 - 1

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")  # C0, DEL and C1: U+009B alone begins a terminal's sequence
_AMAZON = {"ami", "aki", "ari"}

PROPERTY_TYPES: Mapping[str, type[str] | type[int] | type[bool]] = {
    "architecture": str,
    "hw_boot_menu": bool,
    "hw_cdrom_bus": str,
    "hw_cpu_cores": int,
    "hw_cpu_max_cores": int,
    "hw_cpu_max_sockets": int,
    "hw_cpu_max_threads": int,
    "hw_cpu_sockets": int,
    "hw_cpu_threads": int,
    "hw_disk_bus": str,
    "hw_firmware_type": str,
    "hw_machine_type": str,
    "hw_mem_encryption": bool,
    "hw_pmu": bool,
    "hw_qemu_guest_agent": bool,
    "hw_rng_model": str,
    "hw_scsi_model": str,
    "hw_serial_port_count": int,
    "hw_video_model": str,
    "hw_video_ram": int,
    "hw_vif_model": str,
    "hw_vif_multiqueue_enabled": bool,
    "img_hide_hypervisor_id": bool,
    "img_signature": str,
    "img_signature_certificate_uuid": str,
    "img_signature_hash_method": str,
    "img_signature_key_type": str,
    "kernel_id": str,
    "os_admin_user": str,
    "os_distro": str,
    "os_require_quiesce": bool,
    "os_type": str,
    "os_version": str,
    "ramdisk_id": str,
    "vmware_adaptertype": str,
    "vmware_disktype": str,
    "vmware_ostype": str,
}
"""The type of each property that compute services give a meaning to; any other key takes a string."""

SIGNATURE_PROPERTIES = (
    "img_signature",
    "img_signature_hash_method",
    "img_signature_key_type",
    "img_signature_certificate_uuid",
)
"""Glance's signature convention: all four, or none."""

HASH_METHODS: Mapping[str, str] = {
    "SHA-224": "sha224",
    "SHA-256": "sha256",
    "SHA-384": "sha384",
    "SHA-512": "sha512",
}
"""img_signature_hash_method → the name of the digest's algorithm, as in :class:`~tintype.domain.values.Digest`."""

_TRUE = {"true", "yes", "on", "1"}
_FALSE = {"false", "no", "off", "0"}


@dataclass(frozen=True, slots=True)
class ImageAttributes:
    """The changeable part of an image. ``min_disk`` is in GiB and ``min_ram`` in MiB, as in Glance."""

    name: str = ""
    visibility: Visibility = Visibility.SHARED
    disk_format: DiskFormat | None = None
    container_format: ContainerFormat | None = None
    min_disk: int = 0
    min_ram: int = 0
    protected: bool = False
    hidden: bool = False
    tags: tuple[str, ...] = ()
    properties: Mapping[str, PropertyValue] = field(default_factory=dict)
    overrides: Mapping[str, PropertyValue] = field(default_factory=dict)
    """What an administrator has put in the place of properties and of facts that were read from the bytes."""

    def format_of_bytes(self) -> DiskFormat | None:
        """The format that the bytes are declared to be in: an archive's, whatever the disk inside of it.

        Glance's users declare an appliance as a ``vmdk`` in the container ``ova``.
        """
        match self.container_format:
            case ContainerFormat.OVA:
                return DiskFormat.OVA
            case ContainerFormat.DOCKER:
                return DiskFormat.DOCKER
            case _:
                return self.disk_format

    def signature_properties(self) -> dict[str, PropertyValue]:
        """The signature properties that are set."""
        return {key: self.properties[key] for key in SIGNATURE_PROPERTIES if key in self.properties}

    def signature_digest_algorithm(self) -> str | None:
        """The algorithm of the digest that the signature covers; ``None`` where none is declared that is known."""
        declared = self.properties.get("img_signature_hash_method")
        # Glance's names: SHA-256.
        name = declared.lower().replace("-", "") if isinstance(declared, str) else ""
        return name if name in DIGEST_ALGORITHMS else None


UPDATABLE = tuple(f.name for f in fields(ImageAttributes))


def checked(attributes: ImageAttributes) -> ImageAttributes:
    """Return the attributes in normal form: tags sorted and unique, known properties of their type.

    Raises:
        InvalidArgumentError: the class, and so the reason, says which bound is broken.
    """
    if len(attributes.name) > MAX_NAME_LENGTH or _CONTROL.search(attributes.name):
        raise InvalidNameError(f"a name has at most {MAX_NAME_LENGTH} characters, none of them a control character")
    _check_bound("min_disk", attributes.min_disk, MAX_MIN_DISK_GIB)
    _check_bound("min_ram", attributes.min_ram, MAX_MIN_RAM_MIB)
    _check_formats(attributes.disk_format, attributes.container_format)
    return replace(
        attributes,
        tags=_checked_tags(attributes.tags),
        properties=_checked_properties(attributes.properties, typed_property),
        overrides=_checked_overrides(attributes.overrides),
    )


def merged(current: ImageAttributes, wanted: ImageAttributes, mask: Iterable[str]) -> ImageAttributes:
    """Take from ``wanted`` the fields that ``mask`` names, and the rest from ``current``.

    A path is a field's name, or ``properties.KEY`` or ``overrides.KEY`` for one of them: it is removed where ``wanted``
    has none.

    Raises:
        InvalidUpdateMaskError: a path names no field that can be changed.
    """
    changes: dict[str, object] = {}
    maps = {"properties": dict(current.properties), "overrides": dict(current.overrides)}
    for path in mask:
        name, dot, key = path.partition(".")
        if name in maps:
            given: Mapping[str, PropertyValue] = getattr(wanted, name)
            if not dot:
                maps[name] = dict(given)
            elif key in given:
                maps[name][key] = given[key]
            else:
                maps[name].pop(key, None)
        elif not dot and name in UPDATABLE:
            changes[name] = getattr(wanted, name)
        else:
            raise InvalidUpdateMaskError(
                f"{path[:80]!r} cannot be updated: name one of {', '.join(UPDATABLE)}, properties.KEY or overrides.KEY"
            )
    return replace(current, **changes, **maps)  # type: ignore[arg-type]


def _check_bound(name: str, value: int, maximum: int) -> None:
    if not 0 <= value <= maximum:
        raise InvalidSizeError(f"{name} is {value}, and must be between 0 and {maximum}")


def _check_formats(disk: DiskFormat | None, container: ContainerFormat | None) -> None:
    # Glance's rule: a kernel, ramdisk or machine image of the Amazon kind is its own container.
    if disk and container and disk.value != container.value and (disk in _AMAZON or container in _AMAZON):
        raise InvalidFormatError(f"disk format {disk} does not go with container format {container}")


def _checked_tags(tags: tuple[str, ...]) -> tuple[str, ...]:
    if len(tags) > MAX_TAGS:
        raise InvalidTagError(f"an image has at most {MAX_TAGS} tags")
    for tag in tags:
        if not tag or len(tag) > MAX_NAME_LENGTH or _CONTROL.search(tag):
            raise InvalidTagError(f"tag {tag[:80]!r} must have 1 to {MAX_NAME_LENGTH} printable characters")
    return tuple(sorted(set(tags)))


_Typed = Callable[[str, PropertyValue], PropertyValue]


def _checked_properties(properties: Mapping[str, PropertyValue], typed: _Typed) -> dict[str, PropertyValue]:
    if len(properties) > MAX_PROPERTIES:
        raise InvalidPropertyError(f"an image has at most {MAX_PROPERTIES} properties")
    result = {key: _checked_property(key, value, typed) for key, value in sorted(properties.items())}
    if sum(len(key) + len(str(value)) for key, value in result.items()) > MAX_PROPERTIES_LENGTH:
        raise InvalidPropertyError(f"the properties have over {MAX_PROPERTIES_LENGTH} characters together")
    return result


def _checked_overrides(overrides: Mapping[str, PropertyValue]) -> dict[str, PropertyValue]:
    fixed = sorted(key for key in overrides if key in SIGNATURE_PROPERTIES)
    if fixed:
        raise InvalidPropertyError(f"{fixed[0]} is the publisher's, and cannot be overridden")
    return _checked_properties(overrides, typed_override)


def _checked_property(key: str, value: PropertyValue, typed: _Typed) -> PropertyValue:
    if not key or len(key) > MAX_PROPERTY_KEY_LENGTH or _CONTROL.search(key):
        raise InvalidPropertyError(
            f"property key {key[:80]!r} must have 1 to {MAX_PROPERTY_KEY_LENGTH} printable characters"
        )
    if isinstance(value, str) and (len(value) > MAX_PROPERTY_VALUE_LENGTH or "\x00" in value):
        raise InvalidPropertyError(
            f"the value of property {key!r} must have at most {MAX_PROPERTY_VALUE_LENGTH} characters, none of them NUL"
        )
    return typed(key, value)


def typed_property(key: str, value: PropertyValue) -> PropertyValue:
    """Turn ``value`` into the type known for ``key``; text is read as a person would write it.

    Raises:
        PropertyTypeError: it cannot be read as that type.
    """
    return _of_type(PROPERTY_TYPES.get(key, str), key, value)


def typed_override(key: str, value: PropertyValue) -> PropertyValue:
    """Turn ``value`` into what an override of ``key`` takes.

    ``min_disk`` and ``min_ram`` take an integer within the bounds of the attribute, in its unit; a key with a known
    type takes that type; any other takes text, an integer or a boolean, since it may stand in for a fact of each.

    Raises:
        PropertyTypeError: it is of another type.
        InvalidSizeError: ``min_disk`` or ``min_ram`` is out of bounds.
    """
    if key in OVERRIDABLE_SIZES:
        size = _of_type(int, key, value)
        _check_bound(f"override {key}", int(size), OVERRIDABLE_SIZES[key])
        return size
    return _of_type(PROPERTY_TYPES.get(key, type(value)), key, value)


def typed_as_read(
    before: Mapping[str, PropertyValue], after: Mapping[str, PropertyValue], facts: Mapping[str, Fact]
) -> dict[str, PropertyValue]:
    """The overrides ``after`` a change, those that changed in the type of the fact that each stands in for.

    Raises:
        PropertyTypeError: one cannot be read as that type.
    """
    return {
        key: _of_type(type(facts[key].value), key, value)
        if key in facts and key not in PROPERTY_TYPES and before.get(key) != value
        else value
        for key, value in after.items()
    }


def _of_type(wanted: type[str] | type[int] | type[bool], key: str, value: PropertyValue) -> PropertyValue:
    if type(value) is wanted:
        if wanted is int and not -MAX_INTEGER_PROPERTY <= int(value) <= MAX_INTEGER_PROPERTY:
            raise PropertyTypeError(f"property {key!r} is beyond 64 bits")
        return value
    text = value.strip().lower() if isinstance(value, str) else ""
    if wanted is bool and text in _TRUE | _FALSE:
        return text in _TRUE
    if wanted is int and re.fullmatch(r"-?[0-9]{1,18}", text):
        return int(text)
    raise PropertyTypeError(f"property {key!r} takes {_TYPE_NAMES[wanted]}, and {str(value)[:80]!r} is not one")


_TYPE_NAMES: Mapping[type[str] | type[int] | type[bool], str] = {
    str: "a string",
    int: "an integer",
    bool: "true or false",
}

"""The bounds of what a user says about an image."""

from __future__ import annotations

import pytest

from tintype.domain import errors
from tintype.domain.attributes import ImageAttributes, checked
from tintype.domain.values import ContainerFormat, Digest, DiskFormat, PropertyValue, image_id, project_id


@pytest.mark.parametrize(
    ("attributes", "refusal"),
    [
        (ImageAttributes(name="x" * 256), errors.InvalidNameError),
        (ImageAttributes(name="a\nb"), errors.InvalidNameError),
        (ImageAttributes(name="a\x1b[2Jb"), errors.InvalidNameError),
        (ImageAttributes(name="a\x9b2Jb"), errors.InvalidNameError),
        (ImageAttributes(tags=("a\x9b2Jb",)), errors.InvalidTagError),
        (ImageAttributes(min_disk=-1), errors.InvalidSizeError),
        (ImageAttributes(min_ram=2**62), errors.InvalidSizeError),
        (ImageAttributes(tags=("",)), errors.InvalidTagError),
        (ImageAttributes(tags=("x" * 256,)), errors.InvalidTagError),
        (ImageAttributes(tags=tuple(str(n) for n in range(129))), errors.InvalidTagError),
        (ImageAttributes(properties={"": "x"}), errors.InvalidPropertyError),
        (ImageAttributes(properties={"k" * 256: "x"}), errors.InvalidPropertyError),
        (ImageAttributes(properties={"k": "x" * 16385}), errors.InvalidPropertyError),
        (ImageAttributes(properties={"k": "a\x00b"}), errors.InvalidPropertyError),
        (ImageAttributes(properties={str(n): "x" for n in range(129)}), errors.InvalidPropertyError),
        (ImageAttributes(properties={str(n): "x" * 16000 for n in range(10)}), errors.InvalidPropertyError),
        (ImageAttributes(properties={"free": 7}), errors.PropertyTypeError),
        (ImageAttributes(properties={"hw_cpu_cores": "four"}), errors.PropertyTypeError),
        (ImageAttributes(properties={"hw_cpu_cores": 2**63}), errors.PropertyTypeError),
        (ImageAttributes(properties={"hw_cpu_cores": True}), errors.PropertyTypeError),
        (ImageAttributes(properties={"hw_boot_menu": "maybe"}), errors.PropertyTypeError),
        (ImageAttributes(properties={"os_type": False}), errors.PropertyTypeError),
        (
            ImageAttributes(disk_format=DiskFormat.AMI, container_format=ContainerFormat.BARE),
            errors.InvalidFormatError,
        ),
    ],
)
def test_what_is_out_of_bounds_is_refused(attributes: ImageAttributes, refusal: type[errors.TintypeError]) -> None:
    with pytest.raises(refusal):
        checked(attributes)


@pytest.mark.parametrize(
    ("key", "written", "typed"),
    [
        ("hw_cpu_cores", "4", 4),
        ("hw_cpu_cores", 4, 4),
        ("hw_boot_menu", "True", True),
        ("hw_boot_menu", "off", False),
        ("os_type", "linux", "linux"),
        ("anything", "4", "4"),
    ],
)
def test_a_known_property_gets_its_type_and_any_other_stays_a_string(
    key: str, written: PropertyValue, typed: PropertyValue
) -> None:
    value = checked(ImageAttributes(properties={key: written})).properties[key]
    assert (value, type(value)) == (typed, type(typed))


def test_tags_are_a_set() -> None:
    assert checked(ImageAttributes(tags=("b", "a", "b"))).tags == ("a", "b")


@pytest.mark.parametrize(
    "text", ["", "sha256", "sha256:", "sha256:xyz", "crc:00", "sha256:" + "0" * 63, "md5:" + "g" * 32]
)
def test_a_malformed_digest_is_refused(text: str) -> None:
    with pytest.raises(errors.InvalidDigestError):
        Digest.parse(text)


def test_a_digest_reads_as_it_is_written() -> None:
    text = "sha256:" + "ab" * 32
    assert str(Digest.parse(text.replace("ab", "AB"))) == text


@pytest.mark.parametrize("text", ["", "x", "../../etc/passwd", "{6f1c5a3e-0d0f-4a39-9d43-3f6c0b6f7a01}"])
def test_an_image_id_is_a_uuid_with_hyphens(text: str) -> None:
    with pytest.raises(errors.InvalidIdentifierError):
        image_id(text)


@pytest.mark.parametrize("text", ["", "a.b", "a>b", "*", "a b", "x" * 65, "é"])
def test_a_project_id_cannot_reach_into_a_subject(text: str) -> None:
    with pytest.raises(errors.InvalidIdentifierError):
        project_id(text)

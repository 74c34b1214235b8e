"""Minimal well-formed OVAs and container archives, member by member, so that a test can spoil any one of them."""

from __future__ import annotations

import gzip
import hashlib
import json
from collections.abc import Mapping, Sequence

from tintype.testing.handmade import stream_vmdk

END = bytes(1024)
"""The two blocks of zeros at the end of a tar archive."""


def member(
    name: str | bytes,
    data: bytes = b"",
    *,
    kind: bytes = b"0",
    target: str = "",
    size: int | None = None,
    prefix: bytes = b"",
    magic: bytes = b"ustar\x0000",
) -> bytes:
    """One member of a tar archive: header, data and padding; ``size`` is what the header says of the data's size."""
    told = len(data) if size is None else size
    number = b"%011o\0" % told if 0 <= told < 1 << 33 else (told % (1 << 96) | 1 << 95).to_bytes(12, "big")
    raw = name.encode() if isinstance(name, str) else name
    header = bytearray(512)
    header[:100] = raw[:100].ljust(100, b"\0")
    header[100:136] = b"0000644\0" + b"0000000\0" * 2 + number
    header[136:156] = b"00000000000\0" + b" " * 8
    header[156:157] = kind
    header[157:257] = target.encode()[:100].ljust(100, b"\0")
    header[257:265] = magic
    header[345 : 345 + len(prefix)] = prefix
    header[148:156] = b"%06o\0 " % sum(header)
    return bytes(header) + data + bytes(-len(data) % 512)


def link(name: str, target: str) -> bytes:
    """A symbolic link."""
    return member(name, kind=b"2", target=target)


def hard_link(name: str, target: str) -> bytes:
    """A hard link."""
    return member(name, kind=b"1", target=target)


def directory(name: str) -> bytes:
    """A directory."""
    return member(name, kind=b"5")


def pax(records: Mapping[str, str], *, kind: bytes = b"x") -> bytes:
    """An extended header for the member that follows."""
    payload = b""
    for key, value in records.items():
        rest = f" {key}={value}\n".encode()
        length = len(rest) + 1
        while len(str(length)) + len(rest) != length:
            length = len(str(length)) + len(rest)
        payload += str(length).encode() + rest
    return member("pax", payload, kind=kind)


def long_name(name: str, *, kind: bytes = b"L") -> bytes:
    """GNU's header for the long name of the member that follows; of its link's target if ``kind`` is ``K``."""
    return member("././@LongLink", name.encode() + b"\0", kind=kind, magic=b"ustar  \0")


def tar(*members: bytes, end: bytes = END) -> bytes:
    """An archive of members."""
    return b"".join(members) + end


# --- OVA --------------------------------------------------------------------------------------------------------------

VMDK_URI = "http://www.vmware.com/interfaces/specifications/vmdk.html#streamOptimized"
ONE_FILE = '<File ovf:id="file1" ovf:href="machine-disk1.vmdk"/>'
ONE_DISK = (
    f'<Disk ovf:diskId="vmdisk1" ovf:fileRef="file1" ovf:capacity="1" ovf:capacityAllocationUnits="byte * 2^20" '
    f'ovf:format="{VMDK_URI}"/>'
)
ONE_ITEM = (
    "<Item><rasd:HostResource>ovf:/disk/vmdisk1</rasd:HostResource><rasd:ResourceType>17</rasd:ResourceType></Item>"
)


def ovf(
    *, files: str = ONE_FILE, disks: str = ONE_DISK, items: str = ONE_ITEM, prologue: str = "", name: str = "machine"
) -> bytes:
    """The descriptor of a machine with one disk."""
    namespace = "http://schemas.dmtf.org"
    return f"""<?xml version="1.0" encoding="UTF-8"?>{prologue}
<Envelope xmlns="{namespace}/ovf/envelope/1" xmlns:ovf="{namespace}/ovf/envelope/1"
 xmlns:rasd="{namespace}/wbem/wscim/1/cim-schema/2/CIM_ResourceAllocationSettingData"
 xmlns:vssd="{namespace}/wbem/wscim/1/cim-schema/2/CIM_VirtualSystemSettingData"
 xmlns:vmw="http://www.vmware.com/schema/ovf">
 <References>{files}</References>
 <DiskSection><Info>Disks</Info>{disks}</DiskSection>
 <VirtualSystem ovf:id="vm"><Info>A machine</Info><Name>{name}</Name>
  <OperatingSystemSection ovf:id="94" vmw:osType="ubuntu64Guest"><Description>Ubuntu Linux (64-bit)</Description>
  </OperatingSystemSection>
  <ProductSection><Info>Product</Info><Product>Appliance</Product><Vendor>Example</Vendor><Version>1.2</Version>
  </ProductSection>
  <VirtualHardwareSection><Info>Hardware</Info>
   <System><vssd:VirtualSystemType>vmx-13</vssd:VirtualSystemType></System>
   <Item><rasd:ResourceType>3</rasd:ResourceType><rasd:VirtualQuantity>2</rasd:VirtualQuantity></Item>
   <Item><rasd:AllocationUnits>byte * 2^20</rasd:AllocationUnits><rasd:ResourceType>4</rasd:ResourceType>
    <rasd:VirtualQuantity>4096</rasd:VirtualQuantity></Item>
   <Item><rasd:ResourceSubType>VmxNet3</rasd:ResourceSubType><rasd:ResourceType>10</rasd:ResourceType></Item>
   {items}
   <vmw:Config ovf:required="false" vmw:key="firmware" vmw:value="efi"/>
  </VirtualHardwareSection>
 </VirtualSystem>
</Envelope>""".encode()


def manifest(files: Mapping[str, bytes], algorithm: str = "sha256") -> bytes:
    """The manifest of these files."""
    lines = (
        f"{algorithm.upper()}({name})= {hashlib.new(algorithm, data).hexdigest()}\n" for name, data in files.items()
    )
    return "".join(lines).encode()


def ova(
    descriptor: bytes | None = None,
    *,
    disk: bytes | None = None,
    manifest_first: bytes = b"",
    manifest_last: bytes = b"",
    more: Sequence[bytes] = (),
) -> bytes:
    """An OVA of a descriptor and one disk, with a manifest before or behind the disk if there is any."""
    text = ovf() if descriptor is None else descriptor
    members = [member("machine.ovf", text)]
    if manifest_first:
        members.append(member("machine.mf", manifest_first))
    members.append(member("machine-disk1.vmdk", stream_vmdk() if disk is None else disk))
    if manifest_last:
        members.append(member("machine.mf", manifest_last))
    return tar(*members, *more)


# --- containers -------------------------------------------------------------------------------------------------------

LAYER = tar(directory("etc/"), member("etc/os-release", b"ID=example\n"), link("var/run", "/run"))
SECOND_LAYER = tar(
    member("etc/.wh.os-release"), member("etc/hostname", b"box\n"), hard_link("etc/name", "etc/hostname")
)


def digest(data: bytes) -> str:
    """SHA-256 in hexadecimal."""
    return hashlib.sha256(data).hexdigest()


def as_json(value: object) -> bytes:
    """The document of a value."""
    return json.dumps(value).encode()


def container_config(layers: Sequence[bytes] = (LAYER, SECOND_LAYER), **fields: object) -> bytes:
    """An image's configuration; ``layers`` are uncompressed tars."""
    config: dict[str, object] = {
        "architecture": "amd64",
        "os": "linux",
        "config": {"Entrypoint": ["/bin/init"], "Cmd": ["--all"], "User": "app", "Env": ["A=1", "B=2"]},
        "rootfs": {"type": "layers", "diff_ids": [f"sha256:{digest(layer)}" for layer in layers]},
    }
    return as_json(config | fields)


def docker_archive(
    layers: Sequence[bytes] = (LAYER, SECOND_LAYER),
    *,
    config: bytes | None = None,
    entries: list[dict[str, object]] | None = None,
    before: Sequence[bytes] = (),
    more: Sequence[bytes] = (),
) -> bytes:
    """What ``docker save`` wrote up to version 24."""
    document = container_config(layers) if config is None else config
    names = [f"{digest(layer)}/layer.tar" for layer in layers]
    entry = {"Config": f"{digest(document)}.json", "RepoTags": ["example/box:1"], "Layers": names}
    files = [member(name, layer) for name, layer in dict(zip(names, layers, strict=True)).items()]
    files.append(member(f"{digest(document)}.json", document))
    files.append(member("manifest.json", as_json([entry] if entries is None else entries)))
    return tar(*before, *files, *more)


def descriptor_of(data: bytes, media_type: str, **fields: object) -> dict[str, object]:
    """An OCI descriptor."""
    return {"mediaType": media_type, "digest": f"sha256:{digest(data)}", "size": len(data)} | fields


def blob(data: bytes) -> bytes:
    """A blob of an OCI layout."""
    return member(f"blobs/sha256/{digest(data)}", data)


def oci_manifest(config: bytes, layers: Sequence[bytes], /, **fields: object) -> bytes:
    """An image's manifest; ``layers`` are the blobs."""
    return as_json(
        {
            "schemaVersion": 2,
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "config": descriptor_of(config, "application/vnd.oci.image.config.v1+json"),
            "layers": [descriptor_of(layer, "application/vnd.oci.image.layer.v1.tar+gzip") for layer in layers],
        }
        | fields
    )


def oci_layout(*manifests: bytes, blobs: Sequence[bytes], index: bytes | None = None, version: str = "1.0.0") -> bytes:
    """An OCI image layout with these manifests in its index."""
    kind = "application/vnd.oci.image.manifest.v1+json"
    tag = {"org.opencontainers.image.ref.name": "box:1"}
    document = index or as_json(
        {"schemaVersion": 2, "manifests": [descriptor_of(text, kind, annotations=tag) for text in manifests]}
    )
    files = [blob(data) for data in dict.fromkeys((*blobs, *manifests))]
    layout = member("oci-layout", as_json({"imageLayoutVersion": version}))
    return tar(directory("blobs/"), directory("blobs/sha256/"), *files, member("index.json", document), layout)


def oci_archive(layers: Sequence[bytes] = (LAYER, SECOND_LAYER), *, blobs: Sequence[bytes] | None = None) -> bytes:
    """An OCI image layout of one image; its layers are compressed by gzip unless ``blobs`` are given for them."""
    packed = [gzip.compress(layer, mtime=0) for layer in layers] if blobs is None else list(blobs)
    config = container_config(layers)
    return oci_layout(oci_manifest(config, packed), blobs=[*packed, config])

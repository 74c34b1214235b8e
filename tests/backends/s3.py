"""Buckets on the real servers of the tests that speak S3: Swift's s3api, and Ceph's object gateway."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from tests.backends.ceph import GATEWAY_USERS, Ceph
from tests.backends.swift import SwiftCluster
from tintype.adapters.s3.client import new_client
from tintype.adapters.s3.settings import S3StoreSettings


@dataclass(frozen=True, slots=True)
class S3Server:
    """Where a server is, and who may use it."""

    url: str
    access_key: str
    secret_key: str

    @property
    def address(self) -> tuple[str, int]:
        """Host and port."""
        parts = urlsplit(self.url)
        return str(parts.hostname), int(parts.port or 80)

    def settings(self, name: str, **changes: Any) -> S3StoreSettings:
        """Of a store in the bucket of that name; with short deadlines, and the smallest parts."""
        told = {
            "type": "s3",
            "bucket": name,
            "endpoint_url": self.url,
            "access_key_id": self.access_key,
            "secret_access_key": self.secret_key,
            "timeout_s": 10,
            "part_size_mib": 5,
            "lease_s": 1,
        }
        return S3StoreSettings.model_validate(told | changes)

    def client(self) -> Any:
        """botocore's, for looking behind a store's back."""
        return new_client("test", self.settings("any-bucket"))


def s3_of_swift(cluster: SwiftCluster) -> S3Server:
    """Swift's s3api."""
    return S3Server(cluster.url, cluster.s3_access_key, cluster.s3_secret_key)


def s3_of_ceph(cluster: Ceph) -> S3Server:
    """Ceph's object gateway, which is started where it does not run."""
    user = GATEWAY_USERS[0]
    return S3Server(cluster.start_gateway(), user.access_key, user.secret_key)


@contextmanager
def new_bucket(server: S3Server) -> Iterator[str]:
    """An empty bucket, which is removed with all that is in it."""
    name = make_bucket(server)
    yield name
    remove_bucket(server, name)


def make_bucket(server: S3Server) -> str:
    """An empty bucket; its name."""
    name = f"test-{uuid.uuid4().hex[:16]}"
    with closing(server.client()) as client:
        client.create_bucket(Bucket=name)
    return name


def remove_bucket(server: S3Server, name: str) -> None:
    """Remove a bucket, and all that is in it."""
    with closing(server.client()) as client:
        for found in remains(client, name):
            client.delete_object(Bucket=name, Key=found)
        for upload in client.list_multipart_uploads(Bucket=name).get("Uploads", []):
            client.abort_multipart_upload(Bucket=name, Key=upload["Key"], UploadId=upload["UploadId"])
        client.delete_bucket(Bucket=name)


def remains(client: Any, bucket: str) -> list[str]:
    """The names of all objects, and of what is being uploaded."""
    pages = client.get_paginator("list_objects_v2").paginate(Bucket=bucket)
    found = [str(item["Key"]) for page in pages for item in page.get("Contents", [])]
    return found + [str(item["Key"]) for item in client.list_multipart_uploads(Bucket=bucket).get("Uploads", [])]

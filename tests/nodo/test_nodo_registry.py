"""Reading nodo's registry, and loading our message classes beside nodo's."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from aihd.errors import DependencyError
from aihd.nodo.hashing import ALGORITHMS
from aihd.nodo.pb import aihd_celaut_pb2 as pb
from aihd.nodo.registry import METADATA, REGISTRY, LocalService, Registry, list_services

A, B, C, D = (digit * 64 for digit in "abcd")


def _metadata(service: str, *tags: str) -> bytes:
    hashes = [pb.Metadata.HashTag.Hash(type=ALGORITHMS["sha3_256"](b""), value=bytes.fromhex(service))]
    return pb.Metadata(hashtag=pb.Metadata.HashTag(hash=hashes, tag=tags)).SerializeToString()


def test_list_services__when__entries_lack_metadata_or_are_no_ids__then__left_out(tmp_path: Path) -> None:
    for name in (A, B, C, "f" * 63, "F" * 64, "README"):
        (tmp_path / REGISTRY).mkdir(exist_ok=True)
        (tmp_path / REGISTRY / name).write_bytes(b"service")
    (tmp_path / REGISTRY / D).mkdir()  # a service in blocks is a folder
    (tmp_path / METADATA).mkdir()
    for name, content in ((A, _metadata(A)), (B, _metadata(B, "name", "other")), (D, _metadata(D, "blocks"))):
        (tmp_path / METADATA / name).write_bytes(content)
    assert list_services(tmp_path) == (
        LocalService(bytes.fromhex(A), ""),
        LocalService(bytes.fromhex(B), "name"),
        LocalService(bytes.fromhex(D), "blocks"),
    )


@pytest.mark.parametrize(
    "metadata", [b"\xff\xff", _metadata(B), pb.Metadata().SerializeToString()], ids=["garbage", "another's", "no hash"]
)
def test_list_services__when__metadata_does_not_name_the_service__then__left_out_as_nodo_would_not_start_it(
    tmp_path: Path, metadata: bytes
) -> None:
    for kind, content in ((REGISTRY, b"service"), (METADATA, metadata)):
        (tmp_path / kind).mkdir()
        (tmp_path / kind / A).write_bytes(content)
    assert list_services(tmp_path) == ()


def test_list_services__when__there_is_no_registry__then__error_names_the_folder(tmp_path: Path) -> None:
    with pytest.raises(DependencyError, match=f"{REGISTRY} cannot be read: No such file"):
        list_services(tmp_path)


def test_messages__when__nodo_s_own_classes_are_loaded_before__then__no_clash_in_the_descriptor_pool() -> None:
    program = """
from google.protobuf import descriptor_pb2, descriptor_pool
for name, package, message in (("buffer.proto", "buffer", "Buffer"), ("celaut.proto", "celaut", "Service")):
    file = descriptor_pb2.FileDescriptorProto(name=name, package=package, syntax="proto3")
    file.message_type.add(name=message)
    descriptor_pool.Default().Add(file)
from aihd.nodo.pb import aihd_buffer_pb2, aihd_celaut_pb2
print(aihd_celaut_pb2.Service.DESCRIPTOR.full_name, aihd_buffer_pb2.Buffer.DESCRIPTOR.full_name)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr) == ("aihd.celaut.Service aihd.buffer.Buffer\n", "")


def _registry(folder: Path, *names: str) -> Registry:
    registry = Registry(folder / REGISTRY, folder / METADATA)
    for kind in (REGISTRY, METADATA):
        (folder / kind).mkdir()
    for name in names:
        _add(folder, name)
    return registry


def _add(folder: Path, name: str) -> None:
    (folder / REGISTRY / name).write_bytes(b"service")
    (folder / METADATA / name).write_bytes(_metadata(name, f"name of {name[0]}"))


def _age(folder: Path, seconds: int) -> None:
    for kind in (REGISTRY, METADATA):
        os.utime(folder / kind, (time.time() - seconds,) * 2)


def test_registry__when__service_comes_or_goes__then__the_next_look_shows_it(tmp_path: Path) -> None:
    registry = _registry(tmp_path, A)
    assert [service.name for service in registry.services()] == ["name of a"]
    _add(tmp_path, B)
    assert [service.name for service in registry.services()] == ["name of a", "name of b"]
    _age(tmp_path, 100)
    assert len(registry.services()) == 2
    (tmp_path / METADATA / A).unlink()
    assert [service.name for service in registry.services()] == ["name of b"]


def test_registry__when__nothing_changed_for_a_while__then__files_are_not_read_again(tmp_path: Path) -> None:
    registry = _registry(tmp_path, A)
    _age(tmp_path, 100)
    before = registry.services()
    (tmp_path / METADATA / A).write_bytes(_metadata(A, "other"))  # a change within a file is none of its folder
    assert registry.services() is before
    _age(tmp_path, 50)
    assert [service.name for service in registry.services()] == ["other"]


def test_registry__when__folders_go_away__then__error_and_all_is_there_again_after(tmp_path: Path) -> None:
    registry = _registry(tmp_path, A)
    _age(tmp_path, 100)
    before = registry.services()
    (tmp_path / REGISTRY).rename(tmp_path / "away")
    with pytest.raises(DependencyError, match="cannot be read"):
        registry.services()
    (tmp_path / "away").rename(tmp_path / REGISTRY)
    assert registry.services() == before


@pytest.mark.parametrize("name", ALGORITHMS)
def test_algorithm_of__when__content_has_its_id_by_an_algorithm__then__that_one(tmp_path: Path, name: str) -> None:
    content = b"content"
    service = ALGORITHMS[name](content).hex()
    registry = _registry(tmp_path)
    (tmp_path / REGISTRY / service).write_bytes(content)
    (tmp_path / REGISTRY / B).write_bytes(content)
    (tmp_path / REGISTRY / C).mkdir()
    assert [registry.algorithm_of(entry) for entry in (service, B, C, D)] == [name, None, None, None]

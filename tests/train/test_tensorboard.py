"""Event files, read back by Protocol Buffers' own parser."""

import struct
from pathlib import Path
from typing import Any

import pytest

from windownet.train.tensorboard import TensorBoard, crc32c

descriptor_pb2 = pytest.importorskip("google.protobuf.descriptor_pb2")
from google.protobuf import descriptor_pool, message_factory  # noqa: E402

TYPES = {"double": 1, "float": 2, "int64": 3, "string": 9, "message": 11}
# The fields of tensorflow/core/util/event.proto and framework/summary.proto that are written.
MESSAGES = {
    "Value": [("tag", 1, "string", ""), ("simple_value", 2, "float", "")],
    "Summary": [("value", 1, "message", "*Value")],
    "SessionLog": [("status", 1, "int64", "")],
    "Event": [
        ("wall_time", 1, "double", ""),
        ("step", 2, "int64", ""),
        ("file_version", 3, "string", ""),
        ("summary", 5, "message", "Summary"),
        ("session_log", 7, "message", "SessionLog"),
    ],
}


def event_type() -> Any:
    file = descriptor_pb2.FileDescriptorProto(name="event.proto", package="t", syntax="proto3")
    for name, fields in MESSAGES.items():
        message = file.message_type.add(name=name)
        for field, number, kind, of in fields:
            added = message.field.add(name=field, number=number, type=TYPES[kind], label=3 if of[:1] == "*" else 1)
            if of:
                added.type_name = f".t.{of.lstrip('*')}"
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("t.Event"))


def events(path: Path) -> list[Any]:
    data, found = path.read_bytes(), []
    while data:
        (length,) = struct.unpack("<Q", data[:8])
        for part, checksum in ((data[:8], data[8:12]), (data[12 : 12 + length], data[12 + length : 16 + length])):
            crc = crc32c(part)
            assert struct.unpack("<I", checksum)[0] == (((crc >> 15) | (crc << 17)) + 0xA282EAD8) % 2**32
        event = event_type()()
        event.ParseFromString(data[12 : 12 + length])
        # Nothing that the parser does not know; a step of 0 is written all the same.
        assert event.ByteSize() + (0 if event.step else 2) == length
        found.append(event)
        data = data[16 + length :]
    return found


@pytest.mark.parametrize(
    ("data", "checksum"),
    # RFC 3720, appendix B.4, and the usual check value.
    [(bytes(32), 0x8A9136AA), (b"\xff" * 32, 0x62A8AB43), (bytes(range(32)), 0x46DD794E), (b"123456789", 0xE3069283)],
)
def test_the_checksum_is_castagnoli_s(data: bytes, checksum: int) -> None:
    assert crc32c(data) == checksum


def test_records_become_scalars(tmp_path: Path) -> None:
    scores = {"f1": 50.0, "precision": 40.0, "recall": 60.0, "gold": 3}
    log = TensorBoard()
    log.begin(tmp_path, 0)
    statistics = {"rate": 0.001, "gradient/words": 2.5}
    log.record(
        {
            "kind": "step",
            "epoch": 1,
            "step": 300,
            "loss": 0.5,
            "tokens_per_second": 7,
            "statistics": statistics,
            "time": 9.5,
        }
    )
    log.record({"kind": "epoch", "epoch": 1, "step": 300, "loss": 0.5, "dev": scores, "time": 10.0})
    log.record({"kind": "end", "dev": scores, "test": {**scores, "f1": 45.0}, "time": 11.0})
    log.end()
    (path,) = (tmp_path / "events").iterdir()
    assert path.name.startswith("events.out.tfevents.")
    version, call, epoch, end = events(path)
    assert version.file_version == "brain.Event:2"
    told = [{value.tag: round(value.simple_value, 6) for value in e.summary.value} for e in (call, epoch, end)]
    assert told == [
        {"train/loss": 0.5, "train/tokens_per_second": 7.0, **statistics},
        {"dev/f1": 50.0, "dev/precision": 40.0, "dev/recall": 60.0},
        {"test/f1": 45.0, "test/precision": 40.0, "test/recall": 60.0},
    ]
    assert [(e.step, e.wall_time) for e in (call, epoch, end)] == [(300, 9.5), (300, 10.0), (300, 11.0)]


def test_a_resumed_run_voids_what_came_behind_its_checkpoint(tmp_path: Path) -> None:
    for step in (0, 12, 0):
        log = TensorBoard()
        log.begin(tmp_path, step)
        log.end()
    first, *rest = sorted((tmp_path / "events").iterdir())
    assert len(events(first)) == 1
    # SessionLog.START: TensorBoard drops what it has from this step on; of a run without a checkpoint, all of it.
    for later, step in zip(rest, (13, 1), strict=True):
        _, started = events(later)
        assert (started.step, started.session_log.status) == (step, 1)

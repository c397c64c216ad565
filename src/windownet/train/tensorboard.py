"""Event files for TensorBoard, written by hand.

The format is small and has not changed since TensorFlow 1: records framed by their length and masked CRC-32C, each an
`Event` message of Protocol Buffers with at most four fields. A library for it would bring more than it saves.
"""

import socket
import struct
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO

from windownet import run_folder


class TensorBoard:
    """A `Logger` that writes scalars into the run's `events/`.

    `train/loss`, `train/tokens_per_second` and the statistics come with each call, `dev/f1`, `dev/precision` and
    `dev/recall` with each epoch, `test/f1` and its like, of the best epoch's model, at the end.
    """

    def __init__(self) -> None:
        self._file: BinaryIO | None = None
        self._step = 0

    def begin(self, folder: Path, step: int) -> None:
        """Open a file; where the run goes on, TensorBoard then forgets what came after `step`."""
        events = folder / run_folder.EVENTS
        events.mkdir(exist_ok=True)
        # TensorBoard reads the files in the order of their names; clocks may run backwards, numbers do not.
        number = len(list(events.iterdir()))
        self._file = (events / f"events.out.tfevents.{number:010}.{socket.gethostname()}").open("wb", buffering=0)
        self._step = step
        self._write(time.time(), 0, _bytes(3, b"brain.Event:2"))
        if step or number:
            started = _number(1, 1)
            self._write(time.time(), step + 1, _bytes(7, started))

    def record(self, record: Mapping[str, Any]) -> None:
        """Write the scalars of a record."""
        scalars = {}
        if record["kind"] == "step":
            scalars = {f"train/{name}": record[name] for name in ("loss", "tokens_per_second")}
            scalars |= record.get("statistics", {})
        for part in ("dev", "test"):
            # At the end dev's scores are told again, of another epoch.
            if part in record and (part == "test" or record["kind"] == "epoch"):
                scalars |= {f"{part}/{name}": record[part][name] for name in ("f1", "precision", "recall")}
        self._step = record.get("step", self._step)
        values = b"".join(_bytes(1, _bytes(1, name.encode()) + _float(2, value)) for name, value in scalars.items())
        self._write(record["time"], self._step, _bytes(5, values))

    def end(self) -> None:
        """Close the file."""
        if self._file is not None:
            self._file.close()

    def _write(self, seconds: float, step: int, field: bytes) -> None:
        event = b"\x09" + struct.pack("<d", seconds) + _number(2, step) + field
        length = struct.pack("<Q", len(event))
        assert self._file is not None
        self._file.write(length + _masked(length) + event + _masked(event))


def _number(field: int, value: int) -> bytes:
    return _varint(field << 3) + _varint(value)


def _float(field: int, value: float) -> bytes:
    return _varint(field << 3 | 5) + struct.pack("<f", value)


def _bytes(field: int, value: bytes) -> bytes:
    return _varint(field << 3 | 2) + _varint(len(value)) + value


def _varint(value: int) -> bytes:
    found = bytearray()
    while value > 0x7F:
        found.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*found, value])


def _masked(data: bytes) -> bytes:
    crc = crc32c(data)
    return struct.pack("<I", ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF)


def crc32c(data: bytes) -> int:
    """The checksum of RFC 3720 (Castagnoli's polynomial)."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc = _TABLE[(crc ^ byte) & 0xFF] ^ crc >> 8
    return crc ^ 0xFFFFFFFF


def _entry(byte: int) -> int:
    for _ in range(8):
        byte = byte >> 1 ^ (0x82F63B78 if byte & 1 else 0)
    return byte


_TABLE = tuple(map(_entry, range(256)))

"""The GGUF header parser on files put together, and damaged, by hand."""

from __future__ import annotations

import struct
import tracemalloc

import numpy as np
import pytest

from lepton.errors import ModelFormatError
from lepton.kernels.quants import TensorType
from lepton.models.weights import gguf_cursor, gguf_header
from lepton.models.weights.gguf_header import read_header

U8, U32, F32, BOOL, STRING, ARRAY, U64 = 0, 4, 6, 7, 8, 9, 10
FIRST_KEY = 24
"""Byte of the first metadata key: after magic, version and two counts."""


def u32(value):
    return struct.pack("<I", value)


def u64(value):
    return struct.pack("<Q", value)


def text(value):
    value = value.encode() if isinstance(value, str) else value
    return u64(len(value)) + value


def key(name, kind, payload):
    return text(name) + u32(kind) + payload


def array(kind, count, payload=b""):
    return u32(kind) + u64(count) + payload


def tensor(name="t", dimensions=(32,), code=0, offset=0):
    sizes = b"".join(u64(size) for size in dimensions)
    return text(name) + u32(len(dimensions)) + sizes + u32(code) + u64(offset)


def build(keys=(), tensors=(), data=b"", **changes):
    """A GGUF file; ``changes`` falsify its opening fields or its alignment."""
    head = changes.get("magic", b"GGUF") + changes.get("version", u32(3))
    head += u64(changes.get("num_tensors", len(tensors)))
    head += u64(changes.get("num_keys", len(keys)))
    head += b"".join(keys) + b"".join(tensors)
    return head + bytes(-len(head) % changes.get("alignment", 32)) + data


def refusal(data):
    with pytest.raises(ModelFormatError) as caught:
        read_header(data, "model.gguf")
    assert caught.value.file == "model.gguf"
    assert str(caught.value).startswith("model.gguf")
    return caught.value


@pytest.mark.parametrize("version", [2, 3])
def test_a_small_file_of_each_version(version):
    data = build(
        [key("general.name", STRING, text("小模型 🌱")), key("answer", U32, u32(42))],
        [tensor("a", (32, 3), TensorType.Q8_0), tensor("b", (5,), TensorType.F32, 128)],
        bytes(128 + 20),
        version=u32(version),
    )
    header = read_header(data, "model.gguf")
    assert header.version == version
    assert header.metadata == {"general.name": "小模型 🌱", "answer": 42}
    assert list(header.tensors) == ["a", "b"]
    a, b = header.tensors.values()
    assert (a.name, a.type, a.shape, a.nbytes) == ("a", TensorType.Q8_0, (3, 32), 102)
    assert (b.name, b.type, b.shape, b.nbytes) == ("b", TensorType.F32, (5,), 20)
    assert header.offsets["b"] == header.offsets["a"] + 128 == len(data) - 20


@pytest.mark.parametrize(
    ("kind", "form", "value"),
    [
        (0, "<B", 255),
        (1, "<b", -128),
        (2, "<H", 65535),
        (3, "<h", -32768),
        (4, "<I", 2**32 - 1),
        (5, "<i", -(2**31)),
        (6, "<f", 0.25),
        (7, "<?", True),
        (10, "<Q", 2**64 - 1),
        (11, "<q", -(2**63)),
        (12, "<d", 1e300),
    ],
)
def test_numbers_of_every_kind_alone_and_in_arrays(kind, form, value):
    packed = struct.pack(form, value)
    data = build([key("one", kind, packed), key("many", ARRAY, array(kind, 3, 3 * packed))])
    metadata = read_header(data, "model.gguf").metadata
    assert metadata["one"] == value
    assert type(metadata["one"]) is type(value)
    assert metadata["many"].tolist() == [value] * 3
    assert not metadata["many"].flags.writeable


def test_arrays_of_strings_of_nothing_and_of_arrays():
    nested = array(ARRAY, 2, array(U8, 2, b"\x01\x02") + array(STRING, 1, text("é")))
    data = build(
        [
            key("strings", ARRAY, array(STRING, 3, text("a") + text("") + text("\0"))),
            key("no strings", ARRAY, array(STRING, 0)),
            key("no numbers", ARRAY, array(F32, 0)),
            key("nested", ARRAY, nested),
        ]
    )
    metadata = read_header(data, "model.gguf").metadata
    assert metadata["strings"] == ["a", "", "\0"]
    assert metadata["no strings"] == []
    assert metadata["no numbers"].shape == (0,)
    assert [list(part) for part in metadata["nested"]] == [[1, 2], ["é"]]


def test_a_stated_alignment_places_the_data():
    keys = [key("general.alignment", U32, u32(256))]
    data = build(keys, [tensor()], bytes(128), alignment=256)
    assert read_header(data, "model.gguf").offsets == {"t": 256}


def test_a_vocabulary_without_tensors_is_a_file():
    assert read_header(build([key("a", BOOL, b"\x01")])[:-5], "model.gguf").tensors == {}


def test_bytearrays_can_be_resized_after_a_refusal():
    data = bytearray(build(magic=b"GGML"))
    refusal(data)
    data += b"released"


GOOD_KEY = key("a", U32, u32(1))
ALIGNMENT = ("general.alignment", U32)
AFTER_KEY = FIRST_KEY + len(GOOD_KEY)

DAMAGED_METADATA = {
    "empty file": (b"", "not a GGUF file", 0),
    "wrong magic": (build(magic=b"GGML"), "starts with b'GGML'", 0),
    "zip": (b"PK\x03\x04" + bytes(64), "not a GGUF file", 0),
    "nothing but magic": (b"GGUF", "file ends after 0", 4),
    "version 1": (build(version=u32(1)), "version 1 is obsolete", 4),
    "version 4": (build(version=u32(4)), "version 4 is not supported", 4),
    "big-endian": (build(version=struct.pack(">I", 3)), "big-endian", 4),
    "too many tensors": (build(num_tensors=2**63), "tensors announced", 8),
    "too many keys": (build(num_keys=2**64 - 1), "metadata keys announced", 16),
    "fewer keys than announced": (build([GOOD_KEY], num_keys=2)[:AFTER_KEY], "ends", AFTER_KEY),
    "fewer tensors than announced": (build(num_tensors=1)[:FIRST_KEY], "ends", FIRST_KEY),
    "empty key": (build([key("", U32, u32(1))]), "key of 0 bytes", FIRST_KEY),
    "endless key": (build([u64(2**64 - 1) + bytes(99)]), "key of 18,446", FIRST_KEY),
    "key past the end": (build([u64(9_000) + bytes(64)]), "9,000 bytes are", FIRST_KEY + 8),
    "key not UTF-8": (build([key(b"ab\xff", U32, u32(1))]), "UTF-8", FIRST_KEY + 10),
    "key twice": (build([GOOD_KEY, GOOD_KEY]), "key 'a': the key appears twice", AFTER_KEY),
    "value type": (build([key("a", 13, u32(1))]), "key 'a': unknown value type 13", 33),
    "truth value": (build([key("a", BOOL, b"\x02")]), "must be 0 or 1", 37),
    "truth values": (
        build([key("a", ARRAY, array(BOOL, 3, b"\x01\x00\x07"))]),
        "must be 0 or 1",
        37 + 12 + 2,
    ),
    "value cut off": (build([key("a", U64, b"")])[:37], "8 bytes are announced", 37),
    "string not UTF-8": (
        build([key("a", STRING, text(b"abc\xed\xa0\x80"))]),
        "'a': the text is not valid UTF-8",
        37 + 8 + 3,
    ),
    "string past the end": (
        build([key("a", STRING, u64(2**63))]),
        "9,223,372,036,854,775,808 bytes are announced",
        37 + 8,
    ),
    "array element type": (
        build([key("a", ARRAY, array(99, 1))]),
        "unknown array element type 99",
        37,
    ),
    "array of 2^40 numbers": (
        build([key("a", ARRAY, array(F32, 2**40))]),
        "4,398,046,511,104 bytes are announced",
        37 + 12,
    ),
    "array of 2^40 strings": (
        build([key("a", ARRAY, array(STRING, 2**40))]),
        "8,796,093,022,208 bytes are announced",
        37 + 12,
    ),
    "array of 2^64 - 1 arrays": (
        build([key("a", ARRAY, array(ARRAY, 2**64 - 1))]),
        "bytes are announced",
        37 + 12,
    ),
    "array cut off in a string": (
        build([key("a", ARRAY, array(STRING, 2, text("x") + u64(500)))]),
        "500 bytes are announced",
        37 + 12 + 9 + 8,
    ),
    "deep arrays": (
        build([key("a", ARRAY, array(ARRAY, 1) * 4 + array(U8, 0))]),
        "nested more than 4 deep",
        37 + 4 * 12,
    ),
    "alignment zero": (build([key(*ALIGNMENT, u32(0))]), "0 is no power of two", 53),
    "alignment 48": (build([key(*ALIGNMENT, u32(48))]), "48 is no power of two", 53),
    "alignment 4": (build([key(*ALIGNMENT, u32(4))]), "4 is no power of two", 53),
    "alignment 2^31": (build([key(*ALIGNMENT, u32(2**31))]), "2,147,483,648 is no power", 53),
    "alignment true": (build([key(ALIGNMENT[0], BOOL, b"\x01")]), "a whole number", 53),
    "alignment text": (build([key(ALIGNMENT[0], STRING, text("32"))]), "a whole number", 53),
    "one of several parts": (
        build([key("split.count", U32, u32(3))]),
        "one of 3 parts of a split model",
        47,
    ),
}


@pytest.mark.parametrize("case", DAMAGED_METADATA)
def test_damaged_metadata_is_refused_with_key_and_byte(case):
    data, message, offset = DAMAGED_METADATA[case]
    error = refusal(data)
    assert message in str(error)
    assert error.offset == offset


DATA = bytes(512)
NAME_BYTES = 8 + 1

DAMAGED_TENSORS = {
    "no dimensions": ([tensor(dimensions=())], "0 dimensions", FIRST_KEY + NAME_BYTES),
    "five dimensions": ([tensor(dimensions=(1,) * 5)], "5 dimensions", FIRST_KEY + NAME_BYTES),
    "2^32 - 1 dimensions": (
        [text("t") + u32(2**32 - 1) + bytes(64)],
        "4,294,967,295 dimensions",
        FIRST_KEY + NAME_BYTES,
    ),
    "dimension zero": (
        [tensor(dimensions=(32, 0, 2))],
        "a dimension is zero",
        FIRST_KEY + NAME_BYTES + 4 + 8,
    ),
    "unknown type": ([tensor(code=77)], "unknown type 77; supported", FIRST_KEY + 21),
    "removed type": ([tensor(code=4)], "unknown type 4", FIRST_KEY + 21),
    "known type without kernel": ([tensor(code=16)], "type IQ2_XXS is not", FIRST_KEY + 21),
    "broken row": (
        [tensor(dimensions=(33, 32), code=TensorType.Q4_0)],
        "no whole number of Q4_0 blocks of 32",
        FIRST_KEY + NAME_BYTES + 4,
    ),
    "broken super-block": (
        [tensor(dimensions=(128, 2), code=TensorType.Q4_K)],
        "no whole number of Q4_K blocks of 256",
        FIRST_KEY + NAME_BYTES + 4,
    ),
    "offset off the alignment": ([tensor(offset=16)], "multiple of the alignment", FIRST_KEY + 25),
    "data past the end": ([tensor(offset=448)], "past the end of the file", 64 + 448),
    "offset 2^64 - 32": ([tensor(offset=2**64 - 32)], "past the end", 64 + 2**64 - 32),
    "product overflows": ([tensor(dimensions=(2**40,) * 4)], "past the end of the file", 96),
    "product wraps to nothing": ([tensor(dimensions=(2**32, 2**32))], "past the end", 96),
    "2^63 values": ([tensor(dimensions=(2**63,))], "past the end of the file", 64),
    "twice": ([tensor(), tensor(offset=128)], "appears twice", FIRST_KEY + 33),
    "overlap": ([tensor("a"), tensor("t", offset=96)], "overlaps that of tensor 'a'", 96 + 96),
    "same place": ([tensor("a"), tensor("t")], "overlaps that of tensor 'a'", 96),
    "inside another": (
        [tensor("a", (128,)), tensor("t", (8,), offset=256)],
        "overlaps that of tensor 'a'",
        96 + 256,
    ),
}


@pytest.mark.parametrize("case", DAMAGED_TENSORS)
def test_damaged_tensors_are_refused_with_name_and_byte(case):
    tensors, message, offset = DAMAGED_TENSORS[case]
    error = refusal(build(tensors=tensors, data=DATA))
    assert error.tensor == "t"
    assert message in str(error)
    assert error.offset == offset


@pytest.mark.parametrize("name", [b"", b"x" * 257, b"\xff"])
def test_tensor_names_must_be_short_text(name):
    assert "tensor number 0" in str(refusal(build(tensors=[tensor(name)], data=DATA)))


def test_a_file_cut_anywhere_is_refused():
    keys = [GOOD_KEY, key("b", ARRAY, array(STRING, 2, text("x") + text("yz")))]
    data = build(keys, [tensor("first"), tensor("second", offset=128)], bytes(256))
    read_header(data, "model.gguf")
    for length in range(len(data)):
        refusal(data[:length])


def test_limits_hold_for_files_that_are_large_enough(monkeypatch):
    strings = key("a", ARRAY, array(STRING, 6, text("") * 6))
    more_strings = key("b", ARRAY, array(STRING, 5, text("") * 5))
    arrays = key("c", ARRAY, array(ARRAY, 4, array(U8, 0) * 4))
    monkeypatch.setattr(gguf_cursor, "MAX_LIST_ELEMENTS", 10)
    monkeypatch.setattr(gguf_cursor, "MAX_NESTED_ARRAYS", 3)
    read_header(build([strings]), "model.gguf")
    assert "more than 10 strings" in str(refusal(build([strings, more_strings])))
    assert "or 3 arrays" in str(refusal(build([arrays])))

    monkeypatch.setattr(gguf_cursor, "MAX_HEADER_BYTES", 64)
    error = refusal(build([key("a", STRING, text("x" * 100))]))
    assert "header is larger than the 64 bytes allowed" in str(error)


@pytest.mark.parametrize(
    "claim",
    [
        build([key("a", ARRAY, array(F32, 2**40))]),
        build([key("a", ARRAY, array(STRING, 2**29))]) + bytes(1 << 20),
        build([key("a", STRING, u64(2**34))]),
        build(num_tensors=gguf_header.MAX_TENSORS),
        build(num_keys=gguf_header.MAX_METADATA_KEYS),
        build(tensors=[tensor(dimensions=(2**62,))]),
    ],
)
def test_no_claim_makes_the_parser_allocate(claim):
    tracemalloc.start()
    try:
        refusal(claim)
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
    finally:
        tracemalloc.stop()


def test_numbers_at_odd_bytes_are_read_right():
    values = np.arange(5, dtype=np.float32)
    data = build([key("ab", ARRAY, array(F32, 5, values.tobytes()))])
    assert np.array_equal(read_header(data, "model.gguf").metadata["ab"], values)

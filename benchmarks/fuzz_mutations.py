"""How `fuzz.py` damages a file: blindly, byte by byte, or with false values where it knows the format."""

from __future__ import annotations

import gzip
import json
import random
import re
import struct

# Values that a reader may not expect.
LIES = [
    None, True, "", "nan", "inf", [], {}, [[]], -1, 0, 1.5, 1e308, -1e308, 2**31, 2**63, 10**400, "x" * 1000,
    [1, 2, 3], {"layer": "ReLU"}, {"layer": "Nothing"}, {"same_as": 0}, {"initializer": "zeros"}, [2**40],
    [30000, 30000], "nested 10", "nested 500", "nested 5000",
]  # fmt: skip
NUMBERS = [0, 1, 127, 128, 255, 2**15, 2**16 - 1, 2**31 - 1, 2**31, 2**32 - 1, 2**63 - 1]


def mutated(content: bytes, rng: random.Random) -> bytes:
    """`content` with one to three changes."""
    for _ in range(rng.choice([1, 1, 1, 2, 3])):
        if content[:2] == b"\x1f\x8b" and rng.random() < 0.6:
            content = packed(blind(unpacked(content), rng), rng)
        elif b'"xpnet"' in content[:100_000] and rng.random() < 0.9:
            content = lying_tensors(content, rng)
        elif content[:1] in b"#abcdefghijklmnopqrstuvwxyz" and rng.random() < 0.6:
            content = lying_text(content, rng)
        else:
            content = blind(content, rng)
    return content


def blind(content: bytes, rng: random.Random) -> bytes:
    """The content with a bit flipped, bytes overwritten, a number planted, or a part cut out, repeated or moved."""
    data = bytearray(content)
    at = rng.randrange(min(len(data), 64) if rng.random() < 0.5 else len(data)) if data else 0
    end = min(len(data), at + rng.choice([1, 2, 4, 16, 256, 4096]))
    how = rng.randrange(8)
    if how == 0 and data:
        data[at] ^= 1 << rng.randrange(8)
    elif how == 1:
        data[at:end] = rng.randbytes(end - at)
    elif how == 2:
        number = rng.choice(NUMBERS)
        size = rng.choice([n for n in (1, 2, 4, 8) if number < 256**n])
        data[at : at + size] = number.to_bytes(size, rng.choice(["big", "little"]))
    elif how == 3:
        del data[at:]
    elif how == 4:
        del data[at:end]
    elif how == 5:
        data[at:at] = data[at:end] * rng.choice([1, 2, 100])
    elif how == 6:
        data += rng.randbytes(rng.choice([1, 10, 1000]))
    else:
        other = rng.randrange(len(data) + 1)
        data[at:end] = data[other : other + end - at]
    return bytes(data)


def unpacked(content: bytes) -> bytes:
    try:
        return gzip.decompress(content)
    except (OSError, EOFError, ValueError):
        return content
    except Exception:  # zlib.error is none of these
        return content


def packed(content: bytes, rng: random.Random) -> bytes:
    """The content as gzip, now and then followed by 50 MB of zeros, or in many members."""
    how = rng.randrange(8)
    if how == 0:
        return gzip.compress(content + bytes(50_000_000), 1, mtime=0)
    if how == 1:
        return gzip.compress(content, mtime=0) + gzip.compress(b"", mtime=0) * 20_000
    return gzip.compress(content, mtime=0)


def lying_tensors(content: bytes, rng: random.Random) -> bytes:
    """A safetensors file with changed metadata, or with a header that describes other tensors."""
    try:
        length = struct.unpack("<Q", content[:8])[0]
        header = json.loads(content[8 : 8 + length])
        own = json.loads(header["__metadata__"]["xpnet"])
        if rng.random() < 0.9:
            lie(own["run"] if "run" in own and rng.random() < 0.7 else own, rng)  # a checkpoint's own part
            header["__metadata__"]["xpnet"] = as_json(own)
        else:
            lie(header, rng)
    except (ValueError, KeyError, TypeError, struct.error, RecursionError):
        return blind(content, rng)
    text = as_json(header).encode()
    text += b" " * (-len(text) % 8)
    values = content[8 + length :]
    if rng.random() < 0.2:  # not a number, or one that overflows later
        at = rng.randrange(len(values) // 4 + 1) * 4
        values = values[:at] + rng.choice([b"\0\0\xc0\x7f", b"\0\0\x80\x7f", b"\xff\xff\x7f\x7f"]) + values[at + 4 :]
    return struct.pack("<Q", len(text)) + text + values


def lie(value: object, rng: random.Random) -> None:
    """Change one thing somewhere inside a JSON value."""
    while isinstance(value, (dict, list)) and value:
        key = rng.choice(list(value)) if isinstance(value, dict) else rng.randrange(len(value))
        inner = value[key]
        if isinstance(inner, (dict, list)) and inner and rng.random() < 0.8:
            value = inner
            continue
        how = rng.randrange(5)
        if how == 0:
            del value[key]
        elif how == 1 and isinstance(value, list):
            value.insert(key, inner)
        elif how == 2 and isinstance(inner, (int, float)) and not isinstance(inner, bool):
            value[key] = inner + rng.choice([-1, 1, 7, 1000, 0.5])
        else:
            value[key] = rng.choice(LIES)
        return


def as_json(value: object) -> str:
    """JSON, with "nested 500" replaced by 500 nested lists: Python's own writer cannot nest as deeply."""
    text = json.dumps(value)
    return re.sub(r'\\*"nested (\d+)\\*"', lambda found: "[" * int(found[1]) + "]" * int(found[1]), text)


def lying_text(content: bytes, rng: random.Random) -> bytes:
    """A TOML file with another value, other letters, a repeated line, or a very long name."""
    lines = content.split(b"\n")
    at = rng.randrange(len(lines))
    name = lines[at].split(b"=")[0]
    values = [
        b"nan", b"-inf", b"1e400", str(10**400).encode(), b"0x" + b"f" * 5000, b"true", b"[]", b"{}", b'""',
        b"[" * 20_000, b"{a=" * 5000, b"1979-05-27", b'"\\u0000"', b'"\\ud800"', b"-1", b"[1, 'a']", b"0.5.5",
        b"'''" + b"x" * 2_000_000,
    ]  # fmt: skip
    how = rng.randrange(5)
    if how < 2:
        lines[at] = name + b"= " + rng.choice(values)
    elif how == 2:
        lines.insert(at, lines[rng.randrange(len(lines))])
    elif how == 3:
        lines[at] = re.sub(rb"[a-z]", lambda _: bytes([rng.randrange(256)]), lines[at], count=rng.randint(1, 4))
    else:
        lines.insert(at, b".".join([b"a"] * rng.choice([2, 50, 5000])) + b" = 1")
    return b"\n".join(lines)

"""Small files that ask a decoder for much more time or memory than their pixels deserve."""

import struct
import zlib

from PIL import Image

from tests.pictures import encode


def jpeg2000_of_tiny_precincts(side: int) -> bytes:
    """166 bytes: each 2 x 2 pixels are to be decoded on their own, at 400 bytes a pixel."""
    sound = encode(
        Image.new("RGB", (64, 64)),
        "JPEG2000",
        no_jp2=True,
        precinct_size=(64, 64),
        num_resolutions=1,
    )
    data = bytearray(sound)
    size_segment = data.index(b"\xff\x51")
    for offset in (6, 22):  # of the image, of its only tile
        struct.pack_into(">2I", data, size_segment + offset, side, side)
    coding_segment = data.index(b"\xff\x52")
    data[coding_segment + 14] = 0x11  # precincts of 2 ** 1 x 2 ** 1 pixels
    return bytes(data)


def jpeg_of_many_scans(side: int, num_scans: int) -> bytes:
    """Some 50 bytes a scan, each of which goes over all pixels once more."""
    sound = encode(Image.new("L", (side, side), 100), "JPEG", progressive=True)
    end = sound.rindex(b"\xff\xd9")
    last_scan = sound[sound.rindex(b"\xff\xc4", 0, sound.rindex(b"\xff\xda")) : end]
    return sound[:end] + num_scans * last_scan + sound[end:]


def png_of_many_chunks(num_chunks: int) -> bytes:
    """Twelve bytes a chunk, each of which is looked at; they compress to almost nothing."""
    sound = encode(Image.new("RGB", (64, 64)))
    chunk = struct.pack(">I", 0) + b"abCd" + struct.pack(">I", zlib.crc32(b"abCd"))
    return sound[:33] + num_chunks * chunk + sound[33:]


def tiff_of_one_tile(side: int, tile_side: int) -> bytes:
    """A picture that lies in the corner of a much larger tile of black."""
    rows = zlib.compressobj(9)
    tile = b"".join(rows.compress(bytes(3 * tile_side)) for _ in range(tile_side)) + rows.flush()
    tags = (
        *((256, 4, side), (257, 4, side), (258, 3, 8 + len(tile)), (259, 3, 8), (262, 3, 2)),
        *((277, 3, 3), (322, 4, tile_side), (323, 4, tile_side), (324, 4, 8)),
        (325, 4, len(tile)),
    )
    directory = struct.pack("<H", len(tags))
    for tag, kind, value in tags:
        number = 3 if tag == 258 else 1  # three channels of 8 bits, named behind the tile
        directory += struct.pack("<2H2I", tag, kind, number, value)
    header = struct.pack("<2sHI", b"II", 42, 8 + len(tile) + 6)
    return header + tile + struct.pack("<3H", 8, 8, 8) + directory + bytes(4)

"""Hypothesis strategies: archives that no honest program writes, and addresses that lead astray."""

import gzip
import io
import json
import struct
import tarfile
import warnings
import zipfile

from hypothesis import strategies as st

from tests.hostile_pictures import damaged, pictures, texts

SECRET = "xqzwk"  # stands in every name, text and path that is made here; must never be told

_ODD_PARTS = (
    *("..", ".", "", "/", "\\", "C:", "~", "__MACOSX", ".git", "CON", "a" * 255, "a" * 5_000),
    *(
        "..\\..",
        "/etc/cron.d",
        "\x7f\x1b[31m",
        "\n",
        "\r\n",
        "\t",
        "%00",
        "${HOME}",
        "写真",
        "\u202e",
    ),
)
_ENDINGS = (
    *(".jpg", ".JPG", ".jpeg", ".png", ".HEIC", ".tif", ".txt", ".caption", ".zip", ".tar", ".exe"),
    *("_mask.png", "-masklabel.png", ".jpg.txt", "/", "\\", ".", "", " ", "\0.jpg"),
)
_TABLES = ("metadata.jsonl", "captions.csv", "caption.csv", "a/metadata.jsonl", "Thumbs.db")


@st.composite
def names(draw: st.DrawFn) -> str:
    if draw(st.integers(0, 9)) == 0:
        return draw(st.sampled_from(_TABLES))
    parts = draw(st.lists(st.sampled_from(_ODD_PARTS), max_size=3))
    number = draw(st.integers(1, 3))  # few, so that many are the same, or belong together
    return "/".join((*parts, f"{SECRET}{number}{draw(st.sampled_from(_ENDINGS))}"))


def _secret_texts() -> st.SearchStrategy[bytes]:
    return st.builds(lambda text: SECRET.encode() + b" " + text, texts())


def _files() -> st.SearchStrategy[tuple[str, bytes]]:
    contents = st.one_of(pictures(), pictures(), _secret_texts(), st.binary(max_size=30))
    return st.tuples(names(), contents)


_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA)


@st.composite
def sound_zips(draw: st.DrawFn) -> bytes:
    buffer = io.BytesIO()
    with warnings.catch_warnings(), zipfile.ZipFile(buffer, "w") as archive:
        warnings.simplefilter("ignore")  # of names that are there twice
        for name, data in draw(st.lists(_files(), max_size=5)):
            info = zipfile.ZipInfo(name)
            info.external_attr = draw(st.sampled_from((0, 0o120777 << 16, 0o40755 << 16, 0x10)))
            info.extra = draw(
                st.sampled_from((b"", b"", b"\x01\0\x08\0" + b"\xff" * 8, b"\x75\x70"))
            )
            archive.writestr(info, data, draw(st.sampled_from(_METHODS)))
        archive.comment = draw(st.sampled_from((b"", b"PK\5\6", b"\0" * 300)))
    return buffer.getvalue()


# Where the fields of a zip's headers stand, behind their mark: offset and bytes.
_LOCAL, _CENTRAL, _END = b"PK\3\4", b"PK\1\2", b"PK\5\6"
_FIELDS = {
    _LOCAL: ((6, 2), (8, 2), (14, 4), (18, 4), (22, 4), (26, 2), (28, 2)),
    _CENTRAL: ((8, 2), (10, 2), (16, 4), (20, 4), (24, 4), (28, 2), (30, 2), (32, 2), (42, 4)),
    _END: ((8, 2), (10, 2), (12, 4), (16, 4), (20, 2)),
}
_VALUES = (0, 1, 7, 8, 9, 12, 14, 93, 98, 100, 0x800, 0xFFFF, 2**20, 2**28, 2**31, 2**32 - 1)


@st.composite
def forged(draw: st.DrawFn, zips: st.SearchStrategy[bytes]) -> bytes:
    """A zip whose headers lie: about sizes, offsets, methods, passwords, names, or how many."""
    data = bytearray(draw(zips))
    for _ in range(draw(st.integers(1, 3))):
        mark = draw(st.sampled_from(tuple(_FIELDS)))
        places = [place for place in range(len(data)) if data.startswith(mark, place)]
        if not places:
            continue
        offset, num_bytes = draw(st.sampled_from(_FIELDS[mark]))
        value = struct.pack("<I", draw(st.sampled_from(_VALUES)))[:num_bytes]
        start = draw(st.sampled_from(places)) + offset
        data[start : start + num_bytes] = value
    return bytes(data)


_MEMBERS = (tarfile.REGTYPE, tarfile.AREGTYPE, tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE)


@st.composite
def tars(draw: st.DrawFn) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=draw(st.sampled_from((0, 1, 2)))) as archive:
        for name, data in draw(st.lists(_files(), max_size=4)):
            member = tarfile.TarInfo(name.replace("\0", "")[:90])
            member.size = len(data)
            member.type = draw(st.sampled_from((*_MEMBERS, tarfile.FIFOTYPE, tarfile.DIRTYPE)))
            member.linkname = draw(st.sampled_from(("", "/etc/passwd", f"{SECRET}1.jpg", "..")))
            archive.addfile(member, io.BytesIO(data))
    return buffer.getvalue()


def archives() -> st.SearchStrategy[bytes]:
    """All that a form's file field may be given."""
    zips = sound_zips()
    packed_tars = st.builds(lambda tar: gzip.compress(tar, mtime=0), tars())
    nested = st.builds(lambda inner: _zip_of_one(f"{SECRET}.zip", inner), st.one_of(zips, tars()))
    joined = st.builds(lambda first, second: first + second, st.one_of(zips, pictures()), zips)
    return st.one_of(
        *(zips, zips, forged(zips), forged(zips), damaged(zips), damaged(zips)),
        *(tars(), damaged(tars()), packed_tars, damaged(packed_tars)),
        *(nested, joined, pictures(), st.binary(max_size=600)),
    )


def _zip_of_one(name: str, data: bytes) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr(zipfile.ZipInfo(name), data)
    return buffer.getvalue()


# This machine and its neighbours, in all the ways that resolvers understand; nothing is asked.
_PRIVATE_HOSTS = (
    *("127.0.0.1", "127.1", "2130706433", "0x7f000001", "0177.0.0.1", "0x7f.1", "017700000001"),
    *("0", "0.0.0.0", "[::]", "[::1]", "[::ffff:127.0.0.1]", "[::ffff:7f00:1]", "[::127.0.0.1]"),
    *("10.0.0.1", "0xa000001", "172.16.0.1", "192.168.0.1", "3232235521", "169.254.169.254"),
    *(
        "2852039166",
        "[::ffff:169.254.169.254]",
        "[fe80::1]",
        "[fd00::1]",
        "[fc00::1]",
        "100.64.0.1",
    ),
    *("198.18.0.1", "224.0.0.1", "240.0.0.1", "255.255.255.255", "192.0.2.1", "[64:ff9b::7f00:1]"),
    *("[2002:7f00:1::]", "[2001:db8::1]", "[ff02::1]", "\uff11\uff12\uff17.0.0.1", "127。0。0。1"),
)


@st.composite
def addresses(draw: st.DrawFn) -> str:
    if draw(st.integers(0, 4)) == 0:
        return draw(st.text(max_size=40))
    scheme = draw(
        st.sampled_from(("http", "http", "https", "HTTP", "ftp", "file", "data", "", "//"))
    )
    user = draw(st.sampled_from(("", "", "me:pw@", "example.com@", "@", "example.com\\@")))
    host = draw(st.sampled_from(_PRIVATE_HOSTS) | st.text("a.-[]:%@é\0 ", max_size=9))
    port = draw(st.sampled_from(("", ":9", ":0", ":99999", ":-1", ":x", ":")))
    path = draw(
        st.sampled_from((f"/{SECRET}.jpg", f"?{SECRET}", f"#{SECRET}", "/..", "/\0", "\r\nX: y"))
    )
    return f"{scheme}://{user}{host}{port}{path}"


def lists_as_text() -> st.SearchStrategy[str]:
    """`instance_data_urls` as somebody may write it."""
    some = st.lists(addresses(), max_size=4)
    anything = st.recursive(
        st.none() | st.booleans() | st.floats() | addresses(),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner),
        max_leaves=5,
    )
    return st.one_of(
        some.map(json.dumps),
        some.map("\n".join),
        anything.map(json.dumps).map(lambda text: f"[{text}"),
        anything.map(json.dumps),
        st.sampled_from(
            ("[" * 5_000, "[]", "[[]]", "['a']", '["', " ", "\ufeff[]", "[NaN]", '["\\ud800"]')
        ),
    )

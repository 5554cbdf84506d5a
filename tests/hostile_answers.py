"""Hypothesis strategies: what a web server may say that is no longer, or never was, well."""

from hypothesis import strategies as st

from tests.hostile_archives import SECRET, addresses, archives
from tests.hostile_pictures import damaged, pictures

_STATUS_LINES = (
    *(
        b"HTTP/1.1 200 OK",
        b"HTTP/1.1 200 OK",
        b"HTTP/1.1 200 OK",
        b"HTTP/1.0 200",
        b"HTTP/1.1 206 Some",
    ),
    *(b"HTTP/1.1 204 None", b"HTTP/1.1 301 Moved", b"HTTP/1.1 302 Found", b"HTTP/1.1 304 Same"),
    *(
        b"HTTP/1.1 404 Gone",
        b"HTTP/1.1 500 Oops",
        b"HTTP/1.1 999 What",
        b"HTTP/9.9 200 OK",
        b"220 ftp",
    ),
)
_HEADERS = (
    *(b"Content-Length: 0", b"Content-Length: 7", b"Content-Length: -1", b"Content-Length: 9" * 9),
    *(b"Content-Length: 99999999999", b"Content-Length: x", b"Transfer-Encoding: chunked"),
    *(b"Content-Encoding: gzip", b"Content-Encoding: br", b"Content-Type: text/html; charset=\xff"),
    *(
        b"Content-Disposition: attachment; filename=../../" + SECRET.encode(),
        b"Set-Cookie: a=" + b"b" * 5_000,
    ),
    *(b"Location: ", b"no colon", b": no name", b"X: " + b"y" * 70_000, b"\0: \0", b" folded"),
)


@st.composite
def answers(draw: st.DrawFn) -> tuple[bytes, ...]:
    """The bytes of one answer, in the pieces in which they are sent."""
    lines = [draw(st.sampled_from(_STATUS_LINES))]
    lines += draw(st.lists(st.sampled_from(_HEADERS), max_size=3))
    if draw(st.booleans()):
        lines.append(b"Location: " + draw(addresses()).encode("utf-8", "replace"))
    body = draw(st.one_of(pictures(), archives(), st.binary(max_size=99)))
    if draw(st.booleans()):
        lines.append(b"Content-Length: %d" % len(body))
    how = draw(st.sampled_from(("plain", "plain", "chunks", "bad chunks")))
    if how != "plain":
        lines.append(b"Transfer-Encoding: chunked")
        length = b"%x" % len(body) if how == "chunks" else draw(st.binary(max_size=5))
        body = length + b"\r\n" + body + b"\r\n0\r\n\r\n"
    head = b"\r\n".join(lines) + b"\r\n\r\n"
    if draw(st.integers(0, 4)) == 0:
        head = draw(damaged(st.just(head)))
    return (head, body) if draw(st.booleans()) else (head + body,)

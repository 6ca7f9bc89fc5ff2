"""http11.py: requests out of bytes, answers into bytes."""

import json
from urllib.parse import parse_qsl

MAX_HEAD = 64 * 1024
REASONS = {
    200: "OK", 302: "Found", 400: "Bad Request", 401: "Unauthorized",
    402: "Request Failed", 403: "Forbidden", 404: "Not Found",
    405: "Method Not Allowed", 409: "Conflict", 410: "Gone", 429: "Too Many Requests",
    500: "Internal Server Error", 502: "Bad Gateway", 503: "Service Unavailable",
    504: "Gateway Timeout",
}


def refuse_constant(name):
    raise ValueError(f"{name} is no JSON")


DECODER = json.JSONDecoder(parse_constant=refuse_constant)


def read_json(body):
    """The value of JSON in UTF-8; None when it is none (or null)."""
    try:
        return DECODER.decode(body.decode("utf-8"))
    except (ValueError, RecursionError):
        return None


class NotHttp(Exception):
    """What came is no request that can be read."""


class Request:
    """One request, as it came; n and at are for whoever journals it."""

    __slots__ = ("method", "path", "query", "headers", "body", "keep", "n", "at",
                 "connection", "payload", "payload_known", "id")

    def __init__(self, method, target, version, headers, body):
        self.method = method
        self.path, _, self.query = target.partition("?")
        self.headers = headers
        self.body = body
        wish = headers.get("connection", "").lower()
        self.keep = wish != "close" and (version == "HTTP/1.1" or wish == "keep-alive")
        self.id = ""
        self.payload = None
        self.payload_known = False

    def kind(self):
        return self.headers.get("content-type", "").partition(";")[0].strip().lower()

    def form(self):
        """The fields of the query and of a form in the body."""
        text = self.query
        if self.kind() == "application/x-www-form-urlencoded":
            text += "&" + self.body.decode("utf-8", "replace")
        return dict(parse_qsl(text, keep_blank_values=True))

    def json(self):
        """The body's JSON; None when it is none."""
        if not self.payload_known:
            self.payload_known = True
            self.payload = read_json(self.body)
        return self.payload


class Answer:
    """What the service would say; code is its own word for it, "" when all is well."""

    __slots__ = ("status", "body", "kind", "headers", "code")

    def __init__(self, status, body, kind="text/html", headers=(), code=""):
        self.status = status
        self.body = body
        self.kind = kind
        self.headers = headers
        self.code = code


def json_answer(value, status=200, headers=()):
    code = value.get("error", "") if isinstance(value, dict) else ""
    body = json.dumps(value, separators=(",", ":")).encode()
    return Answer(status, body, "application/json; charset=utf-8", headers, code)


def head_of(answer, length, keep):
    """Status line and headers; a length of None is not told."""
    status = answer.status
    lines = [f"HTTP/1.1 {status} {REASONS.get(status, 'Unknown')}",
             f"content-type: {answer.kind}"]
    if length is not None:
        lines.append(f"content-length: {length}")
    if not keep:
        lines.append("connection: close")
    lines.extend(f"{name}: {value}" for name, value in answer.headers)
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")


def read_request(buffer):
    """The first request in buffer and how many bytes it took, or (None, 0)
    while it isn't whole."""
    end = buffer.find(b"\r\n\r\n")
    if end < 0:
        if len(buffer) > MAX_HEAD:
            raise NotHttp
        return None, 0
    method, target, version, headers = read_head(bytes(buffer[:end]))
    if headers.get("transfer-encoding", "").lower() == "chunked":
        body, used = read_chunks(buffer, end + 4)
    else:
        body, used = read_body(buffer, end + 4, headers.get("content-length", "0"))
    if body is None:
        return None, 0
    return Request(method, target, version, headers, body), used


def wants_continue(buffer):
    """Does the client wait for leave to send the body?"""
    end = buffer.find(b"\r\n\r\n")
    return end >= 0 and b"100-continue" in buffer[:end].lower()


def read_head(head):
    lines = head.decode("latin-1").split("\r\n")
    words = lines[0].split(" ")
    if len(words) != 3 or not words[2].startswith("HTTP/1."):
        raise NotHttp
    headers = {}
    for line in lines[1:]:
        name, _, value = line.partition(":")
        headers[name.lower()] = value.strip()
    return *words, headers


def read_body(buffer, start, length):
    if not length.isdecimal():
        raise NotHttp
    end = start + int(length)
    if len(buffer) < end:
        return None, 0
    return bytes(buffer[start:end]), end


def read_chunks(buffer, start):
    body = b""
    while True:
        end = buffer.find(b"\r\n", start)
        if end < 0:
            return None, 0
        try:
            size = int(bytes(buffer[start:end]).partition(b";")[0], 16)
        except ValueError:
            raise NotHttp from None
        start = end + 2 + size + 2
        if len(buffer) < start:
            return None, 0
        if size == 0:
            return body, start
        body += buffer[end + 2:end + 2 + size]

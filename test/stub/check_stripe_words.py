"""check_stripe_words.py: a small client of Stripe's API, for check_stripe.py and
check_stripe_faults.py.
"""

import json
from urllib.parse import quote, urlencode

from check_words import connect, control, header, read_answer

KEY = "sk_test_plain"
sockets = {}


def request_bytes(target, key=KEY, method="GET", form=None, **headers):
    body = urlencode(form, doseq=True).encode() if form is not None else b""
    lines = [f"{method} {target} HTTP/1.1", "Host: 127.0.0.1", f"Content-Length: {len(body)}"]
    if key:
        lines.append(f"Authorization: Bearer {key}")
    if form is not None:
        lines.append("Content-Type: application/x-www-form-urlencoded")
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return ("\r\n".join(lines) + "\r\n\r\n").encode() + body


def exchange(target, timeout=10, **how):
    with connect(timeout=timeout) as sock:
        sock.sendall(request_bytes(target, **how))
        return read_answer(sock)


def whole(target, **how):
    """Head and value of a whole answer, over a connection that is kept."""
    sock = sockets.get("kept") or sockets.setdefault("kept", connect(timeout=10))
    sock.sendall(request_bytes(target, **how))
    data, _ = read_answer(sock)
    head, _, body = data.partition(b"\r\n\r\n")
    return head, json.loads(body)


def ask(target, **how):
    head, value = whole(target, **how)
    return int(head.split(b" ")[1]), value


def get(target, **how):
    return ask(target, **how)[1]


def error(target, **how):
    """Status, and Stripe's code, or its type where there is none."""
    status, value = ask(target, **how)
    return status, value["error"].get("code", value["error"]["type"])


def ids(target, **how):
    return [each["id"] for each in get(target, **how)["data"]]


def walk(path, limit, **how):
    """Every id of a list, by starting_after."""
    seen, cursor = [], ""
    while True:
        page = get(f"{path}{'&' if '?' in path else '?'}limit={limit}{cursor}", **how)
        seen += [each["id"] for each in page["data"]]
        if not page["has_more"]:
            return seen
        cursor = f"&starting_after={quote(seen[-1])}"


def fill(name, count, **how):
    return control("fill", {"type": name, "count": count, **how})["ids"]


def run(checks):
    for check in checks:
        control("reset", {})
        check()

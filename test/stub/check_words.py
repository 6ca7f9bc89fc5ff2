"""check_words.py: the words of the programs that check a stub: check_stub.py and
check_stripe.py.  The stub runs over TLS in the directory that is their argument.
"""

import json
import os
import socket
import ssl
import sys
import time
import urllib.request

DIR = sys.argv[1]


def read_port(name):
    with open(os.path.join(DIR, name), encoding="ascii") as file:
        return int(file.read())


def is_(got, expected, name):
    print(f"{'ok' if got == expected else 'not ok'} - {name}")
    if got != expected:
        print(f"#      got: {got!r:.500}\n# expected: {expected!r:.500}")


def control(call, body=None):
    url = f"http://127.0.0.1:{read_port('control_port')}/_control/{call}"
    data = None if body is None else json.dumps(body).encode()
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(urllib.request.Request(url, data)) as answer:
        return json.load(answer)


def fault(what, **rule):
    control("faults", [{"times": 1, "fault": what, **rule}])


def connect(ca="ca.pem", timeout=3):
    context = ssl.create_default_context(cafile=os.path.join(DIR, "tls", ca))
    plain = socket.create_connection(("127.0.0.1", read_port("port")), timeout)
    return context.wrap_socket(plain, server_hostname="127.0.0.1", suppress_ragged_eofs=False)


def read_answer(sock):
    """What came, and how it ended: whole, end, reset or timeout.

    Python calls a reset an EOF against TLS's rules; an end in good order isn't one.
    """
    data = b""
    try:
        while not is_whole(data):
            piece = sock.recv(65536)
            if not piece:
                return data, "end"
            data += piece
    except (ConnectionResetError, ssl.SSLEOFError):
        return data, "reset"
    except TimeoutError:
        return data, "timeout"
    return data, "whole"


def is_whole(data):
    head, found, body = data.partition(b"\r\n\r\n")
    if not found:
        return False
    length = header(head, b"content-length")
    return length is not None and len(body) >= int(length)


def header(head, name):
    for line in head.split(b"\r\n")[1:]:
        key, _, value = line.partition(b": ")
        if key.lower() == name:
            return value.decode()
    return None


def journal():
    with open(os.path.join(DIR, "requests.jsonl"), encoding="utf-8") as file:
        return [json.loads(line) for line in file]


def wait_until(condition):
    """Has it come true within a minute?"""
    for _ in range(6000):
        if condition():
            return True
        time.sleep(0.01)
    return False

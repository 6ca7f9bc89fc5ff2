#!/usr/bin/env python3
"""slack.py: a stub of Slack, to test and to show the extension with.

    slack.py --dir DIR [--port N] [--control-port N]
             (--cert FILE --key FILE | --plain)

Listens on 127.0.0.1 and behaves as Slack's documentation says Slack does:

    POST /services/T.../B.../SECRET     an incoming webhook
    POST /api/chat.postMessage          with "Authorization: Bearer xoxb-..."
    POST /api/chat.update
    POST /api/auth.test

It checks what it is sent as Slack would (rules.py), keeps what every channel
shows (workspace.py), and misbehaves when told to (faults.py).  How to tell it
and what to ask it: control.py, on the same port and, without TLS, on a second
one.

In DIR: pid, port and control_port (written when it listens), requests.jsonl
(journal.py).  SIGTERM stops it.

Any channel is known, any token that begins with xoxb- is good and any webhook
of the right shape exists, but these: see workspace.py.
"""

import argparse
import os
import signal
import sys

sys.dont_write_bytecode = True

from control import Control
from faults import Faults
from journal import Journal
from server import Server, Stop
from workspace import Workspace


def parse_arguments():
    parser = argparse.ArgumentParser(description="a stub of Slack")
    parser.add_argument("--dir", required=True, help="where its files go")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--control-port", type=int, default=0)
    parser.add_argument("--cert", help="PEM, with the chain")
    parser.add_argument("--key", help="PEM")
    parser.add_argument("--plain", action="store_true", help="without TLS")
    arguments = parser.parse_args()
    if arguments.plain == bool(arguments.cert and arguments.key):
        parser.error("either --plain, or --cert and --key")
    return arguments


def write_file(directory, name, value):
    """Whoever sees the file sees it whole."""
    path = os.path.join(directory, name)
    with open(path + ".new", "w", encoding="ascii") as file:
        file.write(f"{value}\n")
    os.replace(path + ".new", path)


def stop(_number, _frame):
    raise Stop


def main():
    arguments = parse_arguments()
    os.makedirs(arguments.dir, exist_ok=True)
    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)
    journal = Journal(os.path.join(arguments.dir, "requests.jsonl"))
    faults = Faults()
    workspace = Workspace()
    server = Server(workspace, faults, journal, arguments.cert, arguments.key)
    server.control = Control(server)
    server.listen(arguments.port, arguments.control_port)
    write_file(arguments.dir, "pid", os.getpid())
    write_file(arguments.dir, "control_port", server.control_port)
    write_file(arguments.dir, "port", server.port)
    try:
        server.run()
    except Stop:
        pass


if __name__ == "__main__":
    main()

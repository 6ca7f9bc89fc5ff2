"""stub.py: what every stub does when it is started: its arguments, the files it
leaves, its end.  See slack.py and stripe.py.

    NAME.py --dir DIR [--port N] [--control-port N] (--cert FILE --key FILE | --plain)

In DIR: pid, port and control_port (written when it listens), requests.jsonl
(journal.py).  SIGTERM stops it.
"""

import argparse
import os
import signal

from faults import Faults
from journal import Journal
from server import Server, Stop


def parse_arguments(what):
    parser = argparse.ArgumentParser(description=what)
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


def run(what, service, control):
    """Serve until told to stop; control is the class of its control interface."""
    arguments = parse_arguments(what)
    os.makedirs(arguments.dir, exist_ok=True)
    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)
    journal = Journal(os.path.join(arguments.dir, "requests.jsonl"), service)
    server = Server(service, Faults(service), journal, arguments.cert, arguments.key)
    server.control = control(server)
    server.listen(arguments.port, arguments.control_port)
    write_file(arguments.dir, "pid", os.getpid())
    write_file(arguments.dir, "control_port", server.control_port)
    write_file(arguments.dir, "port", server.port)
    try:
        server.run()
    except Stop:
        pass

#!/usr/bin/env python3
"""slack.py: a stub of Slack, to test and to show the extension with.

    slack.py --dir DIR [--port N] [--control-port N]
             (--cert FILE --key FILE | --plain)

Listens on 127.0.0.1 and behaves as Slack's documentation says Slack does:

    POST /services/T.../B.../SECRET     an incoming webhook
    POST /api/chat.postMessage          with "Authorization: Bearer xoxb-..."
    POST /api/chat.update
    POST /api/auth.test
    POST /api/views.open
    POST /api/usergroups.users.list
    POST /actions/..., /commands/...    the response_url of an interaction

It checks what it is sent as Slack would (rules.py), keeps what every channel
shows (workspace.py), does what people do there (people.py), and misbehaves
when told to (faults.py).  How to tell it and what to ask it: control.py and
slack_service.py, on the same port and, without TLS, on a second one.

In DIR: pid, port and control_port (written when it listens), requests.jsonl
(journal.py).  SIGTERM stops it.

Any channel is known, any token that begins with xoxb- is good and any webhook
of the right shape exists, but these: see workspace.py.
"""

import sys

sys.dont_write_bytecode = True

from slack_service import Slack, SlackControl
from stub import run

if __name__ == "__main__":
    run("a stub of Slack", Slack(), SlackControl)

"""journal.py: every request received, a line of JSON each, for tests to poll.

    {"n": 7, "at": 1760000000.123456, "connection": 3, "method": "POST",
     "path": "/services/T1/B1/secret", "headers": {"user-agent": "...", ...},
     "payload": {...}, "status": 200, "code": "", "answer": "ok",
     "fault": null, "whole": true}

The line is there before the client has its answer.  Where the answer takes
its time (a delay, bytes that drip, never), "whole" is null at first, and a
second line of the same n tells the end:

    {"n": 7, "ended": 1760000002.5, "whole": false, "bytes": 1234}

n rises for as long as the stub runs, over a reset too.  A body that is no JSON stands in "body"
instead of "payload"; "query" is there when there is one.  "at" is when the request was whole;
"code" is the service's word for what is wrong; "fault" is the fault that was asked for.  A
service may say more of a request (describe), and hide what a header holds (show_header).
"""

import json
import os
import time


class Journal:
    def __init__(self, path, service):
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND
        self.file = os.open(path, flags, 0o600)
        self.service = service
        self.enabled = True
        self.count = 0

    def reset(self):
        os.ftruncate(self.file, 0)

    def write(self, entry):
        os.write(self.file, json.dumps(entry, separators=(",", ":")).encode() + b"\n")

    def received(self, request, reply):
        self.count += 1
        request.n = self.count
        if not self.enabled:
            return
        service = self.service
        entry = {
            "n": request.n, "at": request.at, "connection": request.connection,
            "method": request.method, "path": request.path,
            "headers": {name: service.show_header(name, request.headers[name])
                        for name in service.journal_headers if name in request.headers},
            "status": reply.status, "code": reply.code,
            "answer": reply.body[:service.max_journaled].decode("utf-8", "replace"),
            "fault": reply.fault, "whole": True if reply.plain else None,
            **service.describe(request, reply),
        }
        if request.query:
            entry["query"] = request.query
        payload = request.json()
        if payload is None:
            entry["body"] = request.body.decode("utf-8", "replace")
        else:
            entry["payload"] = payload
        self.write(entry)

    def ended(self, request, whole, sent):
        if self.enabled:
            self.write({"n": request.n, "ended": time.time(), "whole": whole, "bytes": sent})

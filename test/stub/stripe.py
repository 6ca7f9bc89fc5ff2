#!/usr/bin/env python3
"""stripe.py: a stub of Stripe's API, to test and to show the extension with.

    stripe.py --dir DIR [--port N] [--control-port N]
              (--cert FILE --key FILE | --plain)

Listens on 127.0.0.1 and behaves as Stripe's documentation says Stripe does:
reads every list, object and singleton that the catalog of the extension knows
(src/types/object_types.json), in pages, with filters, by account, with keys
that may or may not, and writes webhook endpoints and invoice items.  Where it
was not known how Stripe behaves, the module says "not established".

    stripe_service.py   keys, accounts, paths, idempotency     stripe_types.py   the catalog
    stripe_lists.py     parameters, filters, pages             stripe_store.py   the objects
    stripe_webhooks.py  /v1/webhook_endpoints                  stripe_objects.py invents them
    stripe_invoiceitems.py  /v1/invoiceitems                   stripe_errors.py  Stripe's words
    stripe_events.py    what changes is an event

It misbehaves when told to (faults.py, stripe_faults.py).  How to tell it and
what to ask it: control.py and stripe_control.py, on the same port and, without
TLS, on a second one.

In DIR: pid, port and control_port (written when it listens), requests.jsonl
(journal.py).  SIGTERM stops it.  It sends no webhooks: a test takes the events
that are pending, signs and delivers them itself.
"""

import sys

sys.dont_write_bytecode = True

from stripe_control import StripeControl
from stripe_service import Stripe
from stub import run

if __name__ == "__main__":
    run("a stub of Stripe's API", Stripe(), StripeControl)

"""stripe_invoiceitems.py: POST /v1/invoiceitems, a write that charges a customer.

Fields: customer, amount and currency (required), invoice, description,
metadata.  Neither the customer nor the invoice has to exist here.
"""

import json
import os

from stripe_errors import Refused
from stripe_events import happened
from stripe_types import TYPES
from stripe_webhooks import answer, fields_of, is_live

ITEM = TYPES["invoiceitem"]
FIELDS = {"customer", "amount", "currency", "invoice", "description", "metadata", "expand"}


def create(stripe, account, _found, request):
    fields = fields_of(request, FIELDS)
    for name in ("customer", "amount", "currency"):
        if not fields.get(name):
            raise Refused(400, f"Missing required param: {name}.", "parameter_missing", name)
    if not fields["amount"].lstrip("-").isdigit():
        raise Refused(400, f"Invalid integer: {fields['amount']}", "parameter_invalid_integer",
                      "amount")
    value = {
        "id": f"ii_1{os.urandom(12).hex()[:23]}", "object": ITEM.name,
        "amount": int(fields["amount"]), "currency": fields["currency"],
        "customer": fields["customer"], "date": int(stripe.now()),
        "description": fields.get("description"), "invoice": fields.get("invoice"),
        "livemode": is_live(request), "metadata": fields.get("metadata", {}), "quantity": 1,
    }
    value = json.loads(stripe.add(account, value).body)
    happened(stripe, account, ITEM, "created", value,
             request={"id": f"req_{request.id[-14:]}",
                      "idempotency_key": request.headers.get("idempotency-key")})
    return answer(value)


WRITES = {("POST", ITEM.name, "list"): create}

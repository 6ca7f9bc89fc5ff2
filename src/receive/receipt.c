/*
 * receipt.c
 *		The result row of receive(), simulate() and replay().
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "funcapi.h"
#include "utils/builtins.h"
#include "utils/memutils.h"

#include "engine/engine.h"
#include "inbox/event.h"
#include "receive/receive.h"

/* The row (event_id, status, detail).  Its type is cached in fn_extra. */
Datum
inbox_receipt_datum(FunctionCallInfo fcinfo, const Receipt *receipt)
{
	TupleDesc desc = fcinfo->flinfo->fn_extra;
	Datum values[] = {CStringGetTextDatum(receipt->event_id),
					  CStringGetTextDatum(receipt->status),
					  receipt->detail ? CStringGetTextDatum(receipt->detail)
									  : (Datum) 0};
	bool nulls[] = {false, false, receipt->detail == NULL};

	if (desc == NULL)
	{
		MemoryContext old = MemoryContextSwitchTo(fcinfo->flinfo->fn_mcxt);

		if (get_call_result_type(fcinfo, NULL, &desc) != TYPEFUNC_COMPOSITE)
			elog(ERROR, "return type must be a row type");
		level_check_columns(desc, lengthof(values));
		desc = BlessTupleDesc(desc);
		fcinfo->flinfo->fn_extra = desc;
		MemoryContextSwitchTo(old);
	}
	return HeapTupleGetDatum(heap_form_tuple(desc, values, nulls));
}

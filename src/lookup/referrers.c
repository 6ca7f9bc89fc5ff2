/*
 * referrers.c
 *		Rows of the mirror that refer to an object.
 */
#include "postgres.h"

#include "base/base.h"
#include "types/types.h"
#include "lookup/lookup.h"

#define MOST_SEARCHED 1000 /* invoices of a customer */
#define MOST_INVOICES 20   /* of these, those created nearest to a payment */
#define MOST_PAYMENTS 20   /* of an invoice */

static Referrer *
make_referrer(const CatalogType *type, VisibleRow *row)
{
	Referrer *referrer = palloc0(sizeof(Referrer));

	referrer->type = type;
	referrer->row = row;
	return referrer;
}

static int
compare_referrers(const ListCell *a, const ListCell *b)
{
	TimestampTz left = ((Referrer *) lfirst(a))->row->created;
	TimestampTz right = ((Referrer *) lfirst(b))->row->created;

	return left > right ? -1 : left < right;
}

/*
 * The rows that refer to an object by a column of its type's name, of Referrer,
 * the newest first.  There are more than "most" if there are more in one table.
 */
List *
referrers_find(const CatalogType *referred, const char *id, const char *account,
			   int most)
{
	List *referrers = NIL;
	ListCell *cell;

	for (int i = 0; i < catalog_ntypes; i++)
	{
		const CatalogType *type = &catalog_types[i];

		if (!link_is_column(type, referred->object))
			continue;
		foreach(cell, visible_rows_find(type, referred->object, id, most))
			if (strcmp(((VisibleRow *) lfirst(cell))->account, account) == 0)
				referrers = lappend(referrers,
									make_referrer(type, lfirst(cell)));
	}
	list_sort(referrers, compare_referrers);
	return referrers;
}

/* The accounts of the rows that refer to an object, each at least once */
List *
referrers_accounts(const CatalogType *referred, const char *id, int most)
{
	List *accounts = NIL;
	ListCell *cell;

	for (int i = 0; i < catalog_ntypes; i++)
		if (link_is_column(&catalog_types[i], referred->object))
			foreach(cell, visible_rows_find(&catalog_types[i], referred->object,
											id, most))
				accounts = lappend(accounts,
								   ((VisibleRow *) lfirst(cell))->account);
	return accounts;
}

/* ---- invoice payments of a customer ---- */

static TimestampTz
created_of(JsonbContainer *object)
{
	JsonbValue value;
	int64 seconds = 0;

	if (json_get(object, "created", &value))
		(void) json_to_int64(&value, &seconds);
	return time_t_to_timestamptz(seconds);
}

/* Move the rows nearest to a time to the front. */
static List *
nearest(List *rows, TimestampTz at, int most)
{
	List *near = NIL;

	while (rows != NIL && list_length(near) < most)
	{
		VisibleRow *best = NULL;
		ListCell *cell;

		foreach(cell, rows)
		{
			VisibleRow *row = lfirst(cell);

			if (best == NULL ||
				llabs(row->created - at) < llabs(best->created - at))
				best = row;
		}
		rows = list_delete_ptr(rows, best);
		near = lappend(near, best);
	}
	return near;
}

static List *
add_payments(List *payments, const char *invoice, const char *account)
{
	const CatalogType *type = catalog_find("invoice_payment",
										   strlen("invoice_payment"));
	ListCell *cell;

	foreach(cell, visible_rows_find(type, "invoice", invoice, MOST_PAYMENTS))
	{
		Referrer *payment = make_referrer(type, lfirst(cell));
		VisibleState state;

		if (strcmp(payment->row->account, account) != 0 ||
			!visible_row_read(type, payment->row->id, account, &state) ||
			state.data == NULL)
			continue;
		payment->data = state.data;
		payments = lappend(payments, payment);
	}
	return payments;
}

/*
 * The payments of the customer's invoices that were created nearest to an
 * object, of Referrer with their data.
 */
List *
referrers_near_invoice_payments(const char *customer, const char *account,
								JsonbContainer *object)
{
	const CatalogType *type = catalog_find("invoice", strlen("invoice"));
	List *invoices = visible_rows_find(type, "customer", customer,
									   MOST_SEARCHED);
	List *payments = NIL;
	ListCell *cell;

	foreach(cell, nearest(invoices, created_of(object), MOST_INVOICES))
		payments = add_payments(payments, ((VisibleRow *) lfirst(cell))->id,
								account);
	return payments;
}

/*
 * command_customer.c
 *		/stripe customer: a customer of the mirror.
 *
 * It runs within visible_rows_read_all(): tables are read as the messages of
 * alerts read them, without running anybody's code with the rights of the
 * extension's owner (lookup/README.md).
 */
#include "postgres.h"

#include "lookup/lookup.h"
#include "base/money.h"
#include "message/message.h"
#include "tables/tables.h"
#include "wording/wording.h"
#include "bot/internal.h"

#define MOST_CUSTOMERS 10
#define MOST_EMAIL	   80 /* columns */

static const CatalogType *
customer_type(void)
{
	return catalog_find("customer", strlen("customer"));
}

/* ---- one customer ---- */

static bool
is_test(JsonbContainer *object)
{
	JsonbValue value;

	return json_get(object, "livemode", &value) && value.type == jbvBool &&
		   !value.val.boolean;
}

/* "" if it is zero, or has no currency: Stripe sets it with the first payment. */
static char *
balance_text(JsonbContainer *customer)
{
	char *currency = json_get_string(customer, "currency");
	JsonbValue value;
	int64 balance;

	if (!json_get(customer, "balance", &value) ||
		!json_to_int64(&value, &balance) || balance == 0 || currency == NULL)
		return pstrdup("");
	if (balance < 0)
		return psprintf("\nBalance: %s credit, for the next invoices",
						mrkdwn_escape(money_format(-balance, currency)));
	return psprintf("\nBalance: %s owed, added to the next invoice",
					mrkdwn_escape(money_format(balance, currency)));
}

/* "*<...|Ada Lovelace>*  ada@example.com  `cus_1`" */
static char *
name_line(const CustomerCard *card)
{
	const CatalogType *type = customer_type();
	JsonbContainer *customer = &card->data->root;
	char *name = object_text(type, customer, "name");
	char *email = object_text(type, customer, "email");
	StringInfoData out;

	if (name == NULL)
		name = object_text(type, customer, "description");
	initStringInfo(&out);
	appendStringInfo(
		&out, "%s*%s*", card->is_test ? "[TEST] " : "",
		customer_link(card, card->id,
					  words_plain(name != NULL ? name : card->id, WORDS_ID)));
	if (email != NULL)
		appendStringInfo(&out, "  %s",
						 mrkdwn_escape(words_plain(email, MOST_EMAIL)));
	appendStringInfo(&out, "  %s", command_code(card->id));
	if (card->account[0] != '\0')
		appendStringInfo(&out, " of account %s", command_code(card->account));
	if (card->deleted)
		appendStringInfoString(&out, "  _deleted_");
	return out.data;
}

static void
tell_one(BotCall *call, const CustomerCard *card)
{
	List *texts = list_make1(
		psprintf("%s%s", name_line(card), balance_text(&card->data->root)));

	texts = lappend(texts, billing_plans(card));
	texts = lappend(texts, billing_payments(card));
	texts = lappend(texts, billing_invoices(card));
	texts = lappend(texts, psprintf("What happened: `" OWN_COMMAND " trace %s`",
									mrkdwn_escape(card->id)));
	command_tell(call, texts);
}

/* ---- several ---- */

static void
tell_several(BotCall *call, List *cards, const char *argument)
{
	StringInfoData out;
	ListCell *cell;
	int n = 0;

	initStringInfo(&out);
	appendStringInfo(
		&out, "Several customers are known as %s:", command_code(argument));
	foreach(cell, cards)
		if (n++ < MOST_CUSTOMERS)
			appendStringInfo(&out, "\n• %s", name_line(lfirst(cell)));
	if (n > MOST_CUSTOMERS)
		appendStringInfo(&out, "\nThere are more; these changed last.");
	appendStringInfoString(
		&out,
		"\nOne of them: `" OWN_COMMAND
		" customer &lt;id&gt;`, with ` account=...` where several accounts have the id.");
	bot_tell(call, out.data, bot_sections(list_make1(out.data)));
}

/* ---- none ---- */

/* Does the mirror have a table of customers that can be read? */
static bool
tell_no_table(BotCall *call)
{
	List *left_out = visible_rows_left_out();

	if (left_out != NIL)
		command_cannot(call, linitial(left_out),
					   psprintf("Customers cannot be read: %s.",
								mrkdwn_escape(linitial(left_out))));
	else if (OidIsValid(table_lookup(customer_type())))
		return false;
	else
		command_cannot(
			call, "the mirror has no table of customers",
			"The mirror has no table of customers. In the database: `SELECT * FROM stripe_sync.create_tables();`");
	return true;
}

/* ---- all ---- */

static CustomerCard *
read_card(const VisibleRow *row)
{
	CustomerCard *card;
	VisibleState state;

	if (!visible_row_read(customer_type(), row->id, row->account, &state) ||
		state.data == NULL || !JB_ROOT_IS_OBJECT(state.data))
		return NULL;
	card = palloc0(sizeof(CustomerCard));
	card->id = row->id;
	card->account = row->account;
	card->data = state.data;
	card->deleted = state.deleted;
	card->is_test = is_test(&state.data->root);
	return card;
}

/* Of CustomerCard; "account" may be NULL: any */
static List *
find_cards(const char *argument, const char *account)
{
	List *cards = NIL;
	List *rows;
	ListCell *cell;
	bool looked;

	if (strchr(argument, '@') != NULL)
		rows = visible_rows_of_email(argument, MOST_CUSTOMERS, &looked);
	else
		rows = visible_rows_find(customer_type(), "id", argument,
								 MOST_CUSTOMERS);
	foreach(cell, rows)
	{
		VisibleRow *row = lfirst(cell);
		CustomerCard *card = account == NULL ||
									 strcmp(account, row->account) == 0
								 ? read_card(row)
								 : NULL;

		if (card != NULL)
			cards = lappend(cards, card);
	}
	return cards;
}

void
command_customer(BotCall *call, const char *argument)
{
	char *name = pstrdup(argument);
	char *account = command_take_account(name);
	List *cards;

	name = command_plain(name);
	(void) visible_rows_left_out();
	cards = find_cards(name, account);
	if (list_length(cards) == 1)
		tell_one(call, linitial(cards));
	else if (cards != NIL)
		tell_several(call, cards, name);
	else if (!tell_no_table(call))
		command_cannot(
			call, "there is no such customer",
			psprintf("The mirror has no customer %s.", command_code(name)));
}

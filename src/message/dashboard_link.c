/*
 * dashboard_link.c
 *		The address of an object in Stripe's dashboard.
 *
 * Objects without a page of their own get the dashboard's search, which finds
 * any id.
 */
#include "postgres.h"

#include "base/base.h"
#include "base/text.h"
#include "inbox/event.h"
#include "inbox/inbox.h"
#include "message/internal.h"

#define DASHBOARD "https://dashboard.stripe.com/"

typedef struct DashboardPage
{
	const char *prefix; /* of the ids */
	const char *page;	/* NULL: the page of its payment */
} DashboardPage;

/* The first prefix that fits counts, so "sub_sched_" comes before "sub_". */
static const DashboardPage pages[] = {
	{"acct_", "connect/accounts"},
	{"ch_", "payments"},
	{"cn_", "credit_notes"},
	{"cs_", "checkout/sessions"},
	{"cus_", "customers"},
	{"dp_", "disputes"},
	{"du_", "disputes"},
	{"evt_", "events"},
	{"fee_", "connect/application_fees"},
	{"in_", "invoices"},
	{"issfr_", NULL}, /* an early fraud warning */
	{"pi_", "payments"},
	{"plan_", "prices"},
	{"plink_", "payment-links"},
	{"po_", "payouts"},
	{"price_", "prices"},
	{"prod_", "products"},
	{"prv_", NULL}, /* a review */
	{"py_", "payments"},
	{"pyr_", NULL}, /* a refund of what isn't a card */
	{"qt_", "quotes"},
	{"re_", NULL},
	{"seti_", "setup_intents"},
	{"sub_sched_", "subscription_schedules"},
	{"sub_", "subscriptions"},
	{"tr_", "connect/transfers"},
	{"tu_", "topups"},
};

static const DashboardPage *
find_page(const char *id)
{
	for (int i = 0; i < lengthof(pages); i++)
		if (strncmp(id, pages[i].prefix, strlen(pages[i].prefix)) == 0)
			return &pages[i];
	return NULL;
}

/* Is it the object with that id, and not merely one that has it in a field? */
static bool
is_own_id(JsonbContainer *object, const char *id)
{
	char *own = object ? json_get_string(object, "id") : NULL;

	return own != NULL && strcmp(own, id) == 0;
}

/* The id of the payment of a refund, a warning or a review; NULL if unknown. */
static char *
payment_of(Render *render, const char *id, JsonbContainer *holder)
{
	static const char *const fields[] = {"payment_intent", "charge"};
	JsonbContainer *object = is_own_id(holder, id)
								 ? holder
								 : template_mirrored(render, NULL, id);
	JsonbValue value;

	for (int i = 0; object != NULL && i < lengthof(fields); i++)
		if (json_get(object, fields[i], &value) && value.type != jbvNull)
			return template_text(&value);
	return NULL;
}

/* Any character can stand in an id that users choose, and any number of them. */
static char *
percent_encoded(const char *text)
{
	char *start = pnstrdup(text, TEMPLATE_VALUE_CHARS);

	return text_percent_encode(start, text_is_unreserved);
}

/*
 * The address of the object with that id; "holder" is the object that has the
 * id in a field, or NULL.  It needs no escaping.  The event's mode and account
 * decide where in the dashboard it is.
 */
char *
template_link(Render *render, const char *id, JsonbContainer *holder)
{
	const Event *event = render->event;
	const DashboardPage *page = find_page(id);
	StringInfoData url;

	if (page != NULL && page->page == NULL)
	{
		char *payment = payment_of(render, id, holder);

		page = payment ? find_page(payment) : NULL;
		if (page != NULL && page->page != NULL)
			id = payment;
	}
	initStringInfo(&url);
	appendStringInfoString(&url, DASHBOARD);
	/* the page of a connected account itself is in the platform's dashboard */
	if (account_stripe_id(event->account)[0] != '\0' &&
		strncmp(id, "acct_", 5) != 0)
		appendStringInfo(&url, "%s/",
						 percent_encoded(account_stripe_id(event->account)));
	if (event->has_livemode && !event->livemode)
		appendStringInfoString(&url, "test/");
	if (page != NULL && page->page != NULL)
		appendStringInfo(&url, "%s/%s", page->page, percent_encoded(id));
	else
		appendStringInfo(&url, "search?query=%s", percent_encoded(id));
	return url.data;
}

/* The address of the event's object, or of another with that id */
char *
dashboard_link(Event *event, const char *id)
{
	Render render = {event, TARGET_URL};

	return template_link(&render, id, event->object);
}

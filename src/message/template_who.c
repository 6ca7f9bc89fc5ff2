/*
 * template_who.c
 *		The filter who: a customer by name, with a link.
 *
 * The name is the mirror's or the one that the event gives: an invoice has the
 * customer's.  The e-mail address is shown only if stripe_sync.slack_personal is
 * on, and never to customers, who get neither link nor address.
 */
#include "postgres.h"

#include "base/base.h"
#include "message/message.h"
#include "message/internal.h"

/* A string of the object that isn't blank; NULL if there is none. */
static char *
string_of(JsonbContainer *object, const char *key)
{
	char *text = object ? json_get_string(object, key) : NULL;

	return text != NULL && !mrkdwn_is_blank(text) ? text : NULL;
}

/*
 * The customer's "field" (name, email), from the customer, else from the object
 * that names it: an invoice's customer_name, a charge's billing_details.
 */
static char *
find_field(JsonbContainer *customer, JsonbContainer *holder, const char *field)
{
	char *text = string_of(customer, field);

	if (text == NULL)
		text = string_of(holder, psprintf("customer_%s", field));
	if (text == NULL && holder != NULL)
		text = string_of(json_get_object(holder, "billing_details"), field);
	return text;
}

/* Of the value's object, or of the mirror's with its id; NULL if unknown */
static JsonbContainer *
find_customer(Render *render, const TemplateValue *value, const char *id)
{
	if (json_is_object(&value->json))
		return value->json.val.binary.data;
	return template_mirrored(render, "customer", id);
}

void
template_who_apply(Render *render, const TemplateFilter *filter,
				   TemplateValue *value)
{
	JsonbContainer *customer;
	char *id;
	char *name;
	char *email = NULL;
	char *label;

	if (value->kind != VALUE_JSON)
		return;
	id = template_value_text(value);
	customer = find_customer(render, value, id);
	if (customer == NULL && strncmp(id, "cus_", 4) != 0)
		return; /* a name already */
	name = find_field(customer, value->holder, "name");
	if (guc_slack_personal && !render->for_customer)
		email = find_field(customer, value->holder, "email");
	label = name ? name : email ? email : id;
	if (render->target != TARGET_MRKDWN || render->for_customer)
	{
		template_value_set(value, label);
		return;
	}
	value->kind = VALUE_MARKUP;
	value->text = psprintf(
		"<%s|%s>%s", template_link(render, id, NULL),
		mrkdwn_escape(mrkdwn_cut(label, TEMPLATE_VALUE_CHARS)),
		name && email
			? psprintf(" (%s)",
					   mrkdwn_escape(mrkdwn_cut(email, TEMPLATE_VALUE_CHARS)))
			: "");
}

/*
 * items.c
 *		All items, numbered in the order in which doctor() shows them.
 */
#include "postgres.h"

#include "doctor/internal.h"
#include "postgres_items/postgres_items.h"
#include "slack_items/slack_items.h"
#include "stripe_items/stripe_items.h"

static const DoctorArea *const areas[] = {&doctor_stripe, &doctor_slack,
										  &doctor_postgres_server,
										  &doctor_postgres_storage};

int
doctor_count(void)
{
	int count = 0;

	for (int i = 0; i < lengthof(areas); i++)
		count += areas[i]->nitems;
	return count;
}

/* The area of an item; *number becomes its place in the area. */
static const DoctorArea *
area_of(int *number)
{
	for (int i = 0; i < lengthof(areas); i++)
	{
		if (*number < areas[i]->nitems)
			return areas[i];
		*number -= areas[i]->nitems;
	}
	elog(ERROR, "no such item");
}

const DoctorItem *
doctor_item(int number)
{
	const DoctorArea *area = area_of(&number);

	return &area->items[number];
}

const char *
doctor_area(int number)
{
	return area_of(&number)->name;
}

int
doctor_number(const char *key)
{
	for (int i = 0; i < doctor_count(); i++)
		if (strcmp(doctor_item(i)->key, key) == 0)
			return i;
	return -1;
}

/* The item's page of the runbook: doc/runbook/slack-backlog.md */
char *
doctor_page(const char *key)
{
	char *page = psprintf("doc/runbook/%s.md", key);

	for (char *p = page + strlen("doc/runbook/"); strcmp(p, ".md") != 0; p++)
		if (*p == '.' || *p == '_')
			*p = '-';
	return page;
}

/*
 * storage_items.c
 *		Items of the area "postgres" about what is stored: tables, indexes, vacuum,
 *		constraints, sizes.
 */
#include "postgres.h"

#include "postgres_items/internal.h"

static const DoctorItem items[] = {
	{.key = "postgres.missing_indexes",
	 .item = "indexes of the mirror",
	 .look = look_at_missing_indexes},
	{.key = "postgres.keys",
	 .item = "primary and unique keys",
	 .look = look_at_keys},
	{.key = "postgres.invalid_indexes",
	 .item = "invalid indexes",
	 .look = look_at_invalid_indexes},
	{.key = "postgres.bloat",
	 .item = "dead rows",
	 .flags = DOCTOR_PRIMARY,
	 .look = look_at_bloat},
	{.key = "postgres.vacuum",
	 .item = "vacuum",
	 .flags = DOCTOR_PRIMARY,
	 .look = look_at_vacuum},
	{.key = "postgres.sequences",
	 .item = "sequences",
	 .flags = DOCTOR_PRIMARY,
	 .look = look_at_sequences},
	{.key = "postgres.not_valid",
	 .item = "constraints that are not valid",
	 .look = look_at_not_valid},
	{.key = "postgres.mirror_owner",
	 .item = "owner of the mirror",
	 .look = look_at_mirror_owner},
	{.key = "postgres.foreign_keys",
	 .item = "foreign keys of the mirror",
	 .look = look_at_foreign_keys},
	{.key = "postgres.triggers",
	 .item = "triggers of the mirror",
	 .look = look_at_triggers},
	{.key = "postgres.size", .item = "size", .look = look_at_size},
	{.key = "postgres.growth", .item = "growth", .look = look_at_growth},
};

const DoctorArea doctor_postgres_storage = {"postgres", items, lengthof(items)};
